"""Tries out training on several machines on one, e.g. `resnet workers 2 -- resnet train digits_resnet20`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from resnet_keras.distributed.local_workers import run_workers


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet workers`."""
    parser = argparse.ArgumentParser(
        "resnet workers",
        description=(
            "Runs a command as N workers that train together, on the CPU of this machine, and prints their lines with "
            "the number of each. If one fails, the others are ended, and the status is that of the first that failed."
        ),
    )
    parser.add_argument("count", type=int, metavar="N", help="how many workers")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what each of them runs")
    arguments = parser.parse_args(argv)
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    try:
        return run_workers(command, arguments.count)
    except (ValueError, FileNotFoundError) as error:
        print(f"resnet workers: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
