"""Exports a run of `train.py` as a SavedModel and LiteRT files, each compared with the network on real images.

`python export.py runs/x2 --test Set5 --to saved_models/x2/1`
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tyro
from images import open_images, pair, patches, photographs_of
from quality import SSIM_SIDE, enlarging, quality
from settings import Settings, open_run, settings_of

from resnet_keras import files
from resnet_keras.cli import run
from resnet_keras.data import whole
from resnet_keras.exporting import (
    ArtifactProcess,
    convert_to_litert,
    default_threads,
    operators,
    run_artifact,
    with_constant_weights,
)
from resnet_keras.runs import RunFolder

Format = Literal["saved_model", "float32", "float16", "dynamic_range", "int8"]
SAVED_MODEL = "saved_model"
REPORT = "export.json"

_CALIBRATION_BATCHES = 4
_WARM_UP_CALLS, _TIMED_CALLS = 3, 10


@dataclass(frozen=True)
class Verification:
    """Measurements of an artifact that was loaded from its file, on the test images.

    Attributes:
        format: `saved_model`, or a format of LiteRT.
        size_bytes: Size on the disk.
        largest: Largest difference of a value from the network's, both as whole pixels, in gray levels.
        mean: Mean of the differences.
        psnr: Mean PSNR of the luma, in dB, against the original images.
        network_psnr: Mean PSNR of the network.
        p50_ms: Median latency of an image of 224 x 224 pixels on all cores, in milliseconds.
        failures: Reasons for which the artifact is refused; empty if it passed.
    """

    format: str
    size_bytes: int
    largest: int
    mean: float
    psnr: float
    network_psnr: float
    p50_ms: float
    failures: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.format:13} {self.size_bytes / 1e6:6.2f} MB, {self.p50_ms:7.1f} ms, differs by {self.largest} gray "
            f"levels at most, {self.mean:.1e} on average, PSNR {self.psnr:.2f} dB (network {self.network_psnr:.2f}), "
            + ("passed" if not self.failures else "REFUSED: " + "; ".join(self.failures))
        )


def write_saved_model(model: keras.Model, folder: Path) -> None:
    """Writes a network as a SavedModel with constant weights, for any number of images of any size.

    Its one signature takes `images` uint8 (N, H, W, 3) and returns `images` uint8 (N, scale H, scale W, 3).
    """
    compute = with_constant_weights(model)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")], autograph=False)
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": tf.cast(whole(compute(tf.cast(images, tf.float32))), tf.uint8)}

    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": serve})


def within_range(model: keras.Model) -> keras.Model:
    """Returns a network whose output is clipped to 0–255, so that the 256 values of int8 are the gray levels."""
    return keras.Model(model.input, keras.ops.clip(model.output, 0.0, 255.0), name=model.name)


def verify(
    name: str, path: Path, pairs: Sequence[tuple[np.ndarray, np.ndarray]], model: keras.Model, tolerance: float
) -> Verification:
    """Runs an artifact in a process of its own, without this package, and compares it with the network.

    Args:
        name: `saved_model` or a format of LiteRT.
        path: The artifact.
        pairs: Small and large images, uint8.
        model: The network.
        tolerance: By how many dB its PSNR may be lower.

    Raises:
        ArtifactError: The artifact does not run.
    """
    kind, enlarge = "saved_model" if name == SAVED_MODEL else "litert", enlarging(model)
    scale = pairs[0][1].shape[0] // pairs[0][0].shape[0]
    with run_artifact(kind, path, default_threads()[-1]) as process:
        failures = [f"it imports {module}" for module in process.description["forbidden_modules"]]
        answers = [_answer(process, small) for small, _ in pairs]
        times = process.ask("time", batch=1, calls=_TIMED_CALLS + _WARM_UP_CALLS)[_WARM_UP_CALLS:]
    expected = [enlarge(small) for small, _ in pairs]
    psnr, network_psnr = (
        float(np.mean([quality(image, large, scale).psnr for image, (_, large) in zip(images, pairs, strict=True)]))
        for images in (answers, expected)
    )
    differences = np.concatenate(
        [np.abs(one.astype(int) - other).ravel() for one, other in zip(answers, expected, strict=True)]
    )
    if name in (SAVED_MODEL, "float32") and differences.max() > 1:  # one, where a half is rounded the other way
        failures.append(f"a value differs by {differences.max()} gray levels")
    if name != SAVED_MODEL:
        failures += [f"it has the custom operator {each}" for each in operators(path) if each.startswith("custom:")]
    if not psnr >= network_psnr - tolerance:
        failures.append(f"its PSNR is lower by more than {tolerance} dB")
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix != ".tflite"]
    return Verification(
        format=name,
        size_bytes=sum(file.stat().st_size for file in files if file.is_file()),
        largest=int(differences.max()),
        mean=float(differences.mean()),
        psnr=psnr,
        network_psnr=network_psnr,
        p50_ms=float(np.median(times)),
        failures=tuple(failures),
    )


def export(
    source: tyro.conf.Positional[Path],
    *,
    to: Path,
    test: Path,
    photographs: Path | None = None,
    formats: tuple[Format, ...] = ("saved_model", "float32", "float16", "int8"),
    tolerance: float = 0.02,
    int8_tolerance: float = 1.0,
) -> None:
    """Writes artifacts of a run's network, after each has been compared with it.

    Args:
        source: Folder of a finished run.
        to: Folder to write, which must not exist.
        test: Folder of test images.
        photographs: Folder of images that calibrate int8; those of the training if None.
        formats: Formats to write.
        tolerance: By how many dB the PSNR of an artifact may be lower than the network's.
        int8_tolerance: The same for int8 and dynamic_range, whose weights have 8 bits.

    Raises:
        FileNotFoundError: The run, or the folder of images, is not there.
        FileExistsError: `to` exists.
        ValueError: An image is broken, or the PSNR of an artifact is too low. Nothing is written then.
    """
    model, settings = open_run(source), settings_of(source)
    images = open_images(test, SSIM_SIDE + 3 * settings.scale)
    pairs = [tuple(each.numpy() for each in pair(tf.constant(image), settings.scale)) for image in images.values()]
    with files.new_folder(to) as aside:
        artifacts = {name: aside / ("" if name == SAVED_MODEL else f"{name}.tflite") for name in formats}
        if SAVED_MODEL in formats:
            write_saved_model(model, aside)
        litert = {name: path for name, path in artifacts.items() if name != SAVED_MODEL}
        if litert:
            folder = photographs or Path(RunFolder(source).data()["photographs"])
            convert_to_litert(within_range(model), _calibration(folder, settings), litert)
        verifications = []
        for name, path in artifacts.items():
            allowed = int8_tolerance if name in ("int8", "dynamic_range") else tolerance
            verifications.append(verify(name, path, pairs, model, allowed))
            print(verifications[-1])
        refused = [each.format for each in verifications if each.failures]
        if refused:
            raise ValueError(f"Expected artifacts as good as the network; nothing is written. Received: {refused}")
        report = {"run": str(source), "test": str(test), "artifacts": list(map(asdict, verifications))}
        files.write_json(aside / REPORT, report)


def _answer(process: ArtifactProcess, small: np.ndarray) -> np.ndarray:
    (answer,) = process.outputs(small[None]).values()
    return whole(tf.cast(answer[0], tf.float32)).numpy().astype(np.uint8)


def _calibration(folder: Path, settings: Settings) -> np.ndarray:
    """Returns small patches of photographs, uint8 (N, side, side, 3)."""
    side = settings.patch_size
    batches = patches(
        photographs_of(folder, side * settings.scale),
        scale=settings.scale,
        side=side,
        batch_size=16,
        seed=settings.seed,
        first_step=0,
        last_step=_CALIBRATION_BATCHES,
    )
    return np.concatenate([small for small, _ in batches.as_numpy_iterator()]).astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program."""
    return run(export, "export.py", argv, progress="stdout")


if __name__ == "__main__":
    raise SystemExit(main())
