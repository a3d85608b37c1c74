"""Trains EDSR on a folder of photographs, and compares it with bicubic interpolation on folders of test images.

`python train.py --photographs DIV2K_train_HR --test Set5 Set14 --workdir runs/x2`
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from images import open_images, patches, photographs_of
from network import edsr, take_over
from quality import SSIM_SIDE, Comparison, compare, draw, enlarging
from settings import REPORT_STEPS, Settings, open_run

from resnet_keras import files
from resnet_keras.cli import run
from resnet_keras.runs import Checkpoints, Progress, RunFolder, lock_run, training_variables
from resnet_keras.surgery import clone_in_float32
from resnet_keras.training import precision

PICTURE = "details.png"


@dataclass(frozen=True)
class Report:
    """What `evaluation.json` holds: a comparison for each folder of test images."""

    comparisons: tuple[Comparison, ...]


class Record(keras.callbacks.Callback):
    """Writes down how far a run has come, every `REPORT_STEPS`: a line, a row of the history, a checkpoint."""

    def __init__(
        self, folder: RunFolder, checkpoints: Checkpoints, progress: Progress, steps: int, log: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.folder, self.checkpoints, self.progress, self.steps, self.log = folder, checkpoints, progress, steps, log
        self.begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes a row, and a checkpoint, which refuses weights that are not finite."""
        step = (epoch + 1) * REPORT_STEPS
        seconds, self.begun = time.monotonic() - self.begun, time.monotonic()
        self.progress.history.append({"step": step, "loss": float(logs["loss"]), "seconds": round(seconds, 2)})
        self.progress.step = step
        self.checkpoints.save(self.progress, training_variables(self.model))
        self.folder.write_history(self.progress.history)
        self.log(f"step {step}/{self.steps}: loss {logs['loss']:.3f} gray levels, {seconds:.0f} s")


def learn(
    settings: Settings, photographs: Sequence[Path], folder: RunFolder, log: Callable[[str], None] = print
) -> keras.Model:
    """Returns the trained network, in float32; goes on from the folder's last checkpoint, if there is one.

    Raises:
        FileNotFoundError: `weights` is not the folder of a finished run.
        ValueError: The run that the weights are of has another network.
        FloatingPointError: Training has diverged.
    """
    keras.utils.set_random_seed(settings.seed)
    with precision(settings.precision):
        model = edsr(settings.scale, blocks=settings.blocks, channels=settings.channels)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, settings.steps - settings.warmup_steps, warmup_target=settings.peak_lr, warmup_steps=settings.warmup_steps
    )
    model.compile(keras.optimizers.Adam(rate), "mean_absolute_error")  # §3.3: L1 gave better PSNR than L2
    model.optimizer.build(model.trainable_variables)
    checkpoints = Checkpoints(folder.checkpoints, lambda variable: [variable])
    progress = Progress()
    if (found := checkpoints.read(log)) is not None:
        progress, tensors = found
        checkpoints.restore(tensors, training_variables(model))
        log(f"goes on after step {progress.step}")
    elif settings.weights is not None:
        fresh = take_over(model, open_run(Path(settings.weights)))
        log(f"begins with the weights of {settings.weights}, but for {', '.join(fresh) or 'none'}")
    batches = patches(
        photographs,
        scale=settings.scale,
        side=settings.patch_size,
        batch_size=settings.batch_size,
        seed=settings.seed,
        first_step=progress.step,
        last_step=settings.steps,
    )
    log(f"{model.name}: {model.count_params():,} parameters, {len(photographs)} photographs, {settings.steps} steps")
    if progress.step < settings.steps:
        model.fit(
            batches,
            initial_epoch=progress.step // REPORT_STEPS,
            epochs=settings.steps // REPORT_STEPS,
            steps_per_epoch=REPORT_STEPS,
            callbacks=[Record(folder, checkpoints, progress, settings.steps, log)],
            shuffle=False,  # they are
            verbose=0,
        )
    return clone_in_float32(model)


def train(
    settings: Settings = Settings(),  # noqa: B008  (frozen)
    *,
    photographs: Path,
    test: tuple[Path, ...],
    workdir: Path,
) -> None:
    """Trains EDSR and compares it with bicubic interpolation. The same command goes on with a run that was cut short.

    Args:
        settings: What decides the result.
        photographs: Folder of JPEG or PNG files to learn from, at any depth.
        test: Folders of images to compare on, as Set5 and Set14.
        workdir: Receives the network, history, comparison and picture.
    """
    tests = [(folder.resolve().name, open_images(folder, SSIM_SIDE + 3 * settings.scale)) for folder in test]
    paths = photographs_of(photographs, settings.scale * settings.patch_size)
    folder = RunFolder(workdir)
    with lock_run(workdir):
        folder.begin(settings, {"photographs": str(photographs.resolve())})
        if not folder.model.is_file():
            model = learn(settings, paths, folder)
            with files.new_file(folder.model) as aside:
                model.save(aside)
        enlarge = enlarging(open_run(workdir))
        report = Report(tuple(compare(enlarge, name, images, settings.scale) for name, images in tests))
        draw(workdir / PICTURE, enlarge, tests[0][1], settings.scale)
        folder.finish(report)
    for comparison in report.comparisons:
        print(comparison)
    print(f"details are in {workdir / PICTURE}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program."""
    return run(train, "train.py", argv)


if __name__ == "__main__":
    raise SystemExit(main())
