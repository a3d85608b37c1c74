"""Trains EDSR on a folder of photographs, and compares it with bicubic interpolation on test images.

`python train.py --photographs DIV2K_train_HR --test Set5 Set14 --workdir runs/x2`
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from images import open_images, patches, photographs_of
from network import edsr, transfer_weights
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
    """Content of `evaluation.json`: a comparison for each folder of test images."""

    comparisons: tuple[Comparison, ...]


class RunRecorder(keras.callbacks.Callback):
    """Prints a line, and writes a row of the history and a checkpoint, every `REPORT_STEPS`."""

    def __init__(self, folder: RunFolder, checkpoints: Checkpoints, progress: Progress, steps: int) -> None:
        super().__init__()
        self.folder, self.checkpoints, self.progress, self.steps = folder, checkpoints, progress, steps
        self.begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes a row and a checkpoint. Weights that are not finite are an error there."""
        step = (epoch + 1) * REPORT_STEPS
        seconds, self.begun = time.monotonic() - self.begun, time.monotonic()
        self.progress.history.append({"step": step, "loss": float(logs["loss"]), "seconds": round(seconds, 2)})
        self.progress.step = step
        self.checkpoints.save(self.progress, training_variables(self.model))
        self.folder.write_history(self.progress.history)
        print(f"step {step}/{self.steps}: loss {logs['loss']:.3f} gray levels, {seconds:.0f} s")


def fit(settings: Settings, photographs: Sequence[Path], folder: RunFolder) -> keras.Model:
    """Returns the trained network, in float32. Training resumes from the folder's last checkpoint, if there is one.

    Raises:
        FileNotFoundError: `weights` is not the folder of a finished run.
        ValueError: The run in `weights` has another network.
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
    checkpoints = Checkpoints(folder.checkpoints, lambda variable: [variable], asdict(settings))
    progress = Progress()
    if (found := checkpoints.read()) is not None:
        progress, tensors = found
        checkpoints.restore(tensors, training_variables(model))
        print(f"resumed after step {progress.step}")
    elif settings.weights is not None:
        fresh = transfer_weights(model, open_run(Path(settings.weights)))
        print(f"initial weights from {settings.weights}, except {', '.join(fresh) or 'none'}")
    batches = patches(
        photographs,
        scale=settings.scale,
        side=settings.patch_size,
        batch_size=settings.batch_size,
        seed=settings.seed,
        first_step=progress.step,
        last_step=settings.steps,
    )
    print(f"{model.name}: {model.count_params():,} parameters, {len(photographs)} photographs, {settings.steps} steps")
    if progress.step < settings.steps:
        model.fit(
            batches,
            initial_epoch=progress.step // REPORT_STEPS,
            epochs=settings.steps // REPORT_STEPS,
            steps_per_epoch=REPORT_STEPS,
            callbacks=[RunRecorder(folder, checkpoints, progress, settings.steps)],
            shuffle=False,  # the batches are shuffled
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
    """Trains EDSR and compares it with bicubic interpolation. The same command resumes an interrupted run.

    Args:
        settings: Settings of network and training.
        photographs: Folder of JPEG or PNG files for training, at any depth.
        test: Folders of test images, such as Set5 and Set14.
        workdir: Receives the network, history, comparison and picture.
    """
    tests = [(folder.resolve().name, open_images(folder, SSIM_SIDE + 3 * settings.scale)) for folder in test]
    paths = photographs_of(photographs, settings.scale * settings.patch_size)
    folder = RunFolder(workdir)
    with lock_run(workdir):
        folder.begin(settings, {"photographs": str(photographs.resolve())})
        if not folder.model.is_file():
            model = fit(settings, paths, folder)
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
    return run(train, "train.py", argv, progress="stdout")


if __name__ == "__main__":
    raise SystemExit(main())
