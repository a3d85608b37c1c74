"""Runs a command as several workers on this machine, e.g. `resnet workers 2 -- resnet train digits`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from resnet_keras.cli.program import ended_in_one_line
from resnet_keras.distributed.local_workers import run_workers

HELP = """usage: resnet workers N -- COMMAND ...

Runs a command as N workers that train together on the CPU of this machine, as a trial of training on several machines.
Each line of output begins with the number of its worker. If a worker fails, the others are stopped, and the exit status
is that of the first one that failed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet workers`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with ended_in_one_line("resnet workers") as ended:
        if not arguments or {"-h", "--help", "--help-all"}.intersection(arguments[:1]):
            print(HELP)
            return 0
        count, *command = arguments
        if not count.isdecimal():
            raise ValueError(f"Expected a number of workers. Received: {count}. See resnet workers --help.")
        return run_workers(command[1:] if command[:1] == ["--"] else command, int(count))
    return ended.status


if __name__ == "__main__":
    raise SystemExit(main())
