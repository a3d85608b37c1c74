"""A `.tflite` file of an export as a classifier, run by LiteRT: neither Keras nor TensorFlow is imported."""

from __future__ import annotations

import contextlib
import logging
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet_keras import files
from resnet_keras.applications.top_classes import Prediction, check_top_k, most_probable
from resnet_keras.checks import extras
from resnet_keras.data.array_images import read_cropped
from resnet_keras.data.class_names import check_class_names
from resnet_keras.data.image_files import OnCorrupt, image_paths
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.artifact_process import ArtifactProcess, default_threads, run_artifact
from resnet_keras.exporting.child_process import ArtifactError
from resnet_keras.exporting.formats import FORMATS
from resnet_keras.weights.archive_member import check_directory

LABELS, CLASSIFIER = "labels.txt", "classifier.json"
"""Members of the zip archive behind a LiteRT model: class names, and these with the preprocessing."""

SUFFIX = ".tflite"

_REPORT = "export.json"
_TASKS = {"segmentation": "a segmentation network", "detection": "a detector"}

_BATCH = 32
_CALL_PIXELS = 8 * 224 * 224  # of the images of one call, whose activations are in memory together
_SECONDS, _SECONDS_PER_IMAGE = 60, 20  # int16 has no fast kernels
_MOST_MEMORY = 2**34
_MOST_BYTES, _MOST_DIRECTORY, _MOST_MEMBER = 2**31, 2**12, 2**24
_END_BYTES, _END_MAGIC = 22, b"PK\5\6"  # of a zip archive without a comment

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LiteRTClassifier:
    """A `.tflite` file with its preprocessing and class names.

    Images are decoded, resized and cropped by Pillow and NumPy to the same pixels, bit for bit, as by the classifier
    that was exported. The file runs in a process of its own, so that a damaged one cannot end this one.

    Example:
        >>> classifier = resnet_keras.exporting.LiteRTClassifier.open("saved_models/digits_resnet20")
        >>> print(classifier.predict("seven.png")[0])

    Attributes:
        path: The file.
        preprocessing: From an image to the network's input; normalization is in the file.
        class_names: One name per output.
    """

    path: Path
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    @classmethod
    def open(cls, source: str | Path) -> LiteRTClassifier:
        """Returns the classifier in a `.tflite` file, or in the newest version of an export.

        Args:
            source: A `.tflite` file; the folder of a version, of which float32 comes first; or the folder of all
                versions of an export.

        Raises:
            FileNotFoundError: There is no such file, or no `.tflite` file in the folder.
            ValueError: The file was not written by an export of a classifier, or is damaged or malicious.
        """
        path = find_litert(source)
        described = _described(path)
        try:
            preprocessing = Preprocessing(**described["preprocessing"])
            names = check_class_names(described["class_names"])
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"Expected valid class names and preprocessing in a .tflite file. Received: {path}: {error}"
            ) from error
        return cls(path, preprocessing, names)

    def predict(self, images: str | Path | Sequence[str | Path], top_k: int = 5) -> list[Prediction]:
        """Returns the `top_k` most probable classes of each image file; see `predictions`."""
        return list(self.predictions(images, top_k))

    def predictions(
        self, images: str | Path | Sequence[str | Path], top_k: int = 5, on_corrupt: OnCorrupt = "raise"
    ) -> Iterator[Prediction]:
        """Yields the `top_k` most probable classes of each image, in order.

        Args:
            images: Image files and folders of images.
            top_k: Number of classes per image.
            on_corrupt: What to do about files that cannot be read: "raise" stops at the first, "skip" skips each with a
                warning that names it.

        Raises:
            FileNotFoundError: A path does not exist, or a folder contains no image.
            ValueError: An image does not decode, or the `.tflite` file does not run; the message names it.
        """
        check_top_k(top_k)
        paths = image_paths([images] if isinstance(images, (str, Path)) else images)
        for numbers, probabilities in self.probabilities(paths, on_corrupt):
            yield from most_probable([str(paths[i]) for i in numbers], probabilities, self.class_names, top_k)

    def probabilities(
        self, paths: Sequence[str | Path], on_corrupt: OnCorrupt = "raise"
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yields, batch by batch, the numbers of the images that were read, and their probabilities (N, classes).

        Arguments and errors are those of `predictions`.
        """
        with extras.required("export", "LiteRT"):
            import ai_edge_litert  # noqa: F401  (the process imports the rest)
        with run_artifact("litert", self.path, max(default_threads()), "Export it again") as process:
            for first in range(0, len(paths), _BATCH):
                numbers, pixels = [], []
                for number in range(first, min(first + _BATCH, len(paths))):
                    try:
                        pixels.append(read_cropped(paths[number], self.preprocessing))
                    except (ValueError, OSError) as error:
                        if on_corrupt == "raise":
                            raise
                        _log.warning(f"skipped: {error}")
                    else:
                        numbers.append(number)
                if numbers:
                    try:
                        probabilities = self._run(process, np.stack(pixels))
                    except ArtifactError as error:
                        raise ValueError(str(error)) from error
                    yield numbers, probabilities

    def _run(self, process: ArtifactProcess, pixels: np.ndarray) -> np.ndarray:
        """Returns the probabilities for whole pixels: uint8 (N, H, W, C) -> float32 (N, classes)."""
        process.limit(seconds=_SECONDS + _SECONDS_PER_IMAGE * len(pixels), memory=_MOST_MEMORY)
        shapes = [each["shape"] for each in process.description["inputs"].values()]
        if len(shapes) != 1 or len(shapes[0]) != 4 or tuple(shapes[0][1:]) != pixels.shape[1:]:
            raise ValueError(
                f"Expected a .tflite file of images {pixels.shape[1:]}, as it says itself. Received: {self.path}, of "
                f"{shapes}"
            )
        at_once = max(1, _CALL_PIXELS // math.prod(pixels.shape[1:3]))
        batch = process.fixed_batch or min(at_once, len(pixels))
        filled = np.concatenate([pixels, np.repeat(pixels[-1:], -len(pixels) % batch, axis=0)])
        found = list(process.outputs(filled, batch).values())
        if len(found) != 1 or found[0].shape != (len(filled), len(self.class_names)) or np.isnan(found[0]).any():
            raise ValueError(
                f"Expected a .tflite file of one probability for each of its {len(self.class_names)} classes. "
                f"Received: {self.path}, with other outputs"
            )
        return found[0][: len(pixels)].astype(np.float32)


def is_litert(source: str | Path) -> bool:
    """Returns whether a source is a `.tflite` file, the folder of an export, or that of one of its versions."""
    path = Path(source)
    return path.suffix == SUFFIX or (path.is_dir() and any(_is_version(each) for each in (path, *_versions(path))))


def find_litert(source: str | Path) -> Path:
    """Returns the `.tflite` file of a source; see `LiteRTClassifier.open`."""
    path = Path(source)
    if path.suffix == SUFFIX and not path.is_dir():
        if not path.is_file():
            raise FileNotFoundError(f"Expected a .tflite file. Received: {path}, which does not exist")
        _expect_classifier(path.parent, path)
        return path
    versions = [each for each in (path, *_versions(path)) if _is_version(each)]
    wanted = [f"{name}{SUFFIX}" for name, info in FORMATS.items() if info.runtime == "litert"]
    for version in versions[:1]:
        _expect_classifier(version, version)
        for name in wanted:
            if (version / name).is_file():
                return version / name
    raise FileNotFoundError(
        f"Expected an export with one of {', '.join(wanted)}; write one by `resnet export --formats float32`. "
        f"Received: {versions[0] if versions else path}, without any"
    )


def _expect_classifier(version: Path, given: Path) -> None:
    """Checks that the folder of a version, if it is one, has no network of another task.

    Raises:
        ValueError: It has one.
    """
    report: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):  # other programs may have files of this name
        report = files.read_json(version / _REPORT)
    if (what := _TASKS.get(str(report.get("task")))) is not None:
        source = f", {report['source']}" if "source" in report else ""
        raise ValueError(
            f"Expected an export of a classifier, or the run or the .keras file that {what} was exported from{source}. "
            f"Received: {given}, an export of {what}"
        )


def _versions(folder: Path) -> list[Path]:
    """Returns the folders of versions in a folder, the newest first."""
    numbered = [each for each in folder.iterdir() if each.name.isascii() and each.name.isdecimal() and each.is_dir()]
    return sorted(numbered, key=lambda each: int(each.name), reverse=True)


def _is_version(folder: Path) -> bool:
    return (folder / _REPORT).is_file()


def _described(path: Path) -> dict[str, Any]:
    """Returns the preprocessing and class names in a file."""
    received = f"Received: {path}, without them"
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - _END_BYTES, 0))
            if size > _MOST_BYTES or not file.read(_END_BYTES).startswith(_END_MAGIC):
                raise KeyError("no archive")
            check_directory(file, _MOST_DIRECTORY)
            with zipfile.ZipFile(file) as archive:
                member = archive.getinfo(CLASSIFIER)
                if member.file_size > _MOST_MEMBER or member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{CLASSIFIER} is too large or compressed")
                found = files.parse_json(archive.read(member))
    except KeyError as error:
        raise ValueError(
            "Expected a .tflite file with the preprocessing and class names of a classifier, as `resnet export` writes "
            f"it; export it again. {received}"
        ) from error
    except (ValueError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"Expected a whole .tflite file. Received: {path}, which can't be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"Expected a whole .tflite file. Received: {path}, whose {CLASSIFIER} is no dictionary")
    return found
