"""Faults injected into runs: `python benchmarks/faults.py`.

Each fault is injected into a real run of `resnet train`, in a process of its own. Then the cause is removed and the
same command is repeated; at the end the weights are compared, bit for bit, with those of an undisturbed run. The table
is printed and written to `faults.md` after each fault; rows of faults that have not been injected stay. It takes a few
minutes on the CPU.

A full disk needs a small file system, and a folder without write permission needs an attribute (`chattr +i`); both
need root: `--small-disk DIR` mounts a tmpfs of 10 MB there and unmounts it at the end.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from fault_runs import DIGITS, PLACES, Row, Training, again, images, outcome, with_images
from folder_faults import changed_images, exports, mixed_checkpoints, moved

from resnet_keras.distributed import worker_environments
from resnet_keras.runs import versions

HEAD = ("| fault | what happened | the same command again | lost |", "|---|---|---|---|")


def interrupted(number: signal.Signals, fault: str, work: str) -> Callable[[Path, Path], Row]:
    """Returns a fault: a signal in the middle of an epoch."""

    def inject(run: Path, whole: Path) -> Row:
        ended = Training(run, DIGITS).until_checkpoint(20).end(number)
        return again(run, whole, DIGITS, fault, ended, work)

    return inject


def damaged(change: Callable[[bytes], bytes], fault: str) -> Callable[[Path, Path], Row]:
    """Returns a fault: the last checkpoint is damaged."""

    def inject(run: Path, whole: Path) -> Row:
        Training(run, DIGITS).until_checkpoint(20).end(signal.SIGKILL)
        last = max((run / "checkpoints").glob("step_*")) / "state.safetensors"
        last.write_bytes(change(last.read_bytes()))
        row = again(run, whole, DIGITS, fault, (0, ""), "the work since the checkpoint before")
        return Row(fault, "detected when the run resumes; reported by name and ignored", row.again, row.lost)

    return inject


def no_number(run: Path, whole: Path) -> Row:
    """A loss that is not finite."""
    ended = Training(run, (*DIGITS, "--peak-lr", "1e30")).end()
    left = sorted(path.name for path in (run / "checkpoints").glob("*"))
    return Row(
        "loss is NaN (learning rate 1e30)",
        outcome(ended),
        "with another recipe, in another folder",
        "nothing" if not left else f"kept: {left}",
    )


def no_number_skipped(run: Path, whole: Path) -> Row:
    """The same, with such steps skipped."""
    ended = Training(run, (*DIGITS, "--peak-lr", "1e30", "--skip-broken-steps")).end()
    line = (run / "history.csv").read_text().splitlines()
    skipped = dict(zip(line[0].split(","), line[-1].split(","), strict=True)).get("skipped")
    happened = f"status {ended[0]}: {skipped} steps skipped and counted, weights finite"
    return Row("the same, `--skip-broken-steps`", happened, "not needed", "the skipped steps")


def twice(run: Path, whole: Path) -> Row:
    """A second run in the folder of a running one."""
    long = (*DIGITS, "--epochs", "500")
    first = Training(run, long).until_checkpoint(10)
    ended = Training(run, long).end()
    before = len((run / "history.csv").read_text().splitlines())
    time.sleep(10)
    lost = "nothing" if len((run / "history.csv").read_text().splitlines()) > before else "**the first run**"
    first.end(signal.SIGTERM)
    return Row("a second run in the same folder", outcome(ended), "the first one continues", lost)


def vanished(run: Path, whole: Path) -> Row:
    """Images that disappear while the run reads them."""
    data = run.parent / "images"
    images(data)
    undisturbed = run.parent / "images_whole"
    Training(undisturbed, with_images(data)).end()
    first = Training(run, with_images(data)).until_checkpoint(8)
    (data / "train").rename(data / "gone")
    ended = first.end()
    (data / "gone").rename(data / "train")
    return again(run, undisturbed, with_images(data), "images disappear", ended, "the work since the last checkpoint")


def broken(run: Path, whole: Path) -> Row:
    """A truncated image, which is whole again when the run resumes: another file than it was begun with."""
    data = run.parent / "broken"
    images(data)
    file = data / "train" / "dark" / "3.jpg"
    content = file.read_bytes()
    file.write_bytes(content[:200])
    ended = Training(run, with_images(data)).end()
    file.write_bytes(content)
    undisturbed = run.parent / "broken_whole"
    Training(undisturbed, with_images(data)).end()
    work, flag = "the work since the last checkpoint", "--accept-changed-data"
    return again(run, undisturbed, with_images(data), "an image is truncated", ended, work, flag)


def no_memory(run: Path, whole: Path) -> Row:
    """A batch that does not fit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, 12 * 2**30))

    large = ("digits", "--image-size", "256", "--batch-size", "1024", "--epochs", "1", "--no-deterministic")
    ended = Training(run, large, preexec_fn=limit).end()
    happened = outcome(ended)
    if ended[0] < 0:  # some of TensorFlow's CPU kernels end the process instead of raising an error
        happened += ", in TensorFlow's CPU kernels; on a GPU an error proposes `--accumulate`"
    return Row(
        "out of memory (12 GB for 1,024 images of 256x256)", happened, "as after `kill -9`", "as after `kill -9`"
    )


def full_disk(disk: Path) -> Callable[[Path, Path], Row]:
    """A disk that fills up while the run writes to it."""

    def inject(run: Path, whole: Path) -> Row:
        run = disk / "run"
        first = Training(run, DIGITS).until_checkpoint(10)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"0" * 4096)
            except OSError:
                pass
        ended = first.end()
        filler.unlink()
        return again(run, whole, DIGITS, "disk full", ended, "the work since the last checkpoint")

    return inject


def no_permission(run: Path, whole: Path) -> Row:
    """A folder that loses its write permission."""
    first = Training(run, DIGITS).until_checkpoint(10)
    folder = str(run / "checkpoints")
    subprocess.run(["chattr", "+i", folder], check=True)
    try:
        ended = first.end()
    finally:
        subprocess.run(["chattr", "-i", folder], check=True)
    return again(run, whole, DIGITS, "write permission is removed", ended, "the work since the last checkpoint")


def lost_worker(run: Path, whole: Path) -> Row:
    """One of two workers is killed."""
    environments = worker_environments(2)
    plain = (*DIGITS[:-2], "--epochs", "4")  # without weight averaging
    workers = [Training(run if i == 0 else run.parent / "other", plain, env=env) for i, env in enumerate(environments)]
    workers[0].until_checkpoint(20)
    workers[1].process.kill()
    begun = time.monotonic()
    status, line = workers[0].end()
    seconds = time.monotonic() - begun
    workers = [
        Training(run if i == 0 else run.parent / "other", plain, env=env)
        for i, env in enumerate(worker_environments(2))
    ]
    statuses = [worker.end()[0] for worker in workers]
    message = f"the other ended after {seconds:.0f} s, status {status}: {line.partition('Received: ')[2][:60]} ..."
    resumed = f"resumed {workers[0].resumed()}; statuses {statuses}"
    return Row("one of two workers is killed", message, resumed, "the work since the last checkpoint")


def main() -> None:
    """Injects all faults; prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small-disk", type=Path, help="an empty folder to mount a small file system on, as root")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGHUP):  # the shell lets the background ignore them, and so would the runs
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    work = "the work since the last checkpoint"
    faults: list[Callable[[Path, Path], Row | list[Row]]] = [
        changed_images,
        mixed_checkpoints,
        moved,
        exports,
        interrupted(signal.SIGKILL, "kill -9 in the middle of an epoch", work),
        *(
            interrupted(number, f"{name} in the middle of an epoch", "no work")
            for number, name in (
                (signal.SIGTERM, "SIGTERM"),
                (signal.SIGINT, "Ctrl-C"),
                (signal.SIGHUP, "SIGHUP"),
                (signal.SIGUSR1, "SIGUSR1"),
                (signal.SIGXCPU, "SIGXCPU"),
            )
        ),
        damaged(lambda content: content[: len(content) // 2], "the last checkpoint is truncated"),
        damaged(
            lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:], "one bit of it is flipped"
        ),
        no_number,
        no_number_skipped,
        twice,
        vanished,
        broken,
        no_memory,
        lost_worker,
    ]
    if arguments.small_disk:
        faults += [full_disk(arguments.small_disk), no_permission]
        PLACES.append(arguments.small_disk)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(arguments.small_disk)], check=True)
    made = {key: value for key, value in versions().items() if key in ("tensorflow", "keras", "commit")}
    title = "`python benchmarks/faults.py`, " + ", ".join(f"{key} {value}" for key, value in made.items())
    lines: list[str] = []
    print(title)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            PLACES.append(root)
            whole = root / "whole"
            Training(whole, DIGITS).end()
            for i, inject in enumerate(faults):
                run = root / str(i) / "run"
                run.parent.mkdir()
                found = inject(run, whole)
                rows = [str(row) for row in (found if isinstance(found, list) else [found])]
                lines += rows
                print("\n".join(rows), flush=True)
                arguments.to.write_text(page(arguments.to, title, lines), encoding="utf-8")
                shutil.rmtree(run.parent)
    finally:
        if arguments.small_disk:
            subprocess.run(["umount", str(arguments.small_disk)], check=True)


def page(file: Path, title: str, rows: list[str]) -> str:
    """Returns the page with these rows.

    Other rows of the page as it is, of faults that are not injected, stay, and so do later sections.
    """

    def fault(row: str) -> str:
        return row.split(" | ")[0]

    new = {fault(row): row for row in rows}
    text, mark, later = (file.read_text(encoding="utf-8") if file.is_file() else "").partition("\n## ")
    there = text.splitlines()
    old = [row for row in there if row.startswith("| ") and row not in HEAD]
    older = sum(fault(row) not in new for row in old)
    title += f"; {older} rows are of an earlier commit" * bool(older)
    kept = [new.pop(fault(row), row) for row in old]
    return "\n".join(["# Faults", "", title, "", *HEAD, *kept, *new.values()]) + "\n" + mark + later


if __name__ == "__main__":
    main()
