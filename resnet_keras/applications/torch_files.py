"""Writes a classifier as weights of torchvision, timm, transformers, and other libraries for PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.applications.outputs import check_one_label, log_softmax, outputs_logits
from resnet_keras.networks.builder import build
from resnet_keras.surgery.cloning import clone_in_float32
from resnet_keras.surgery.quantization import is_quantized
from resnet_keras.weights.exported import TARGETS, WEIGHTS_FILE, check_layout, export_weights
from resnet_keras.weights.loading import load_weights
from resnet_keras.weights.recognition import recognize_architecture
from resnet_keras.weights.sources import SUFFIXES, open_weights

_SUFFIX = ".safetensors"
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class WrittenFiles:
    """Report of the files that `save_for_torch` wrote.

    Attributes:
        files: The weights, then the settings.
        layout: The library.
        tensors: Names of the weights in the file.
        counters: Names of the counters of batches, which have no counterpart here.
        notes: What was changed in the weights, in sentences.
        code: Python that loads the weights.
        difference: Largest difference of a logit between the classifier and the file, read by `load_weights`, for four
            images of noise.
    """

    files: tuple[Path, ...]
    layout: str
    tensors: tuple[str, ...]
    counters: tuple[str, ...]
    notes: tuple[str, ...]
    code: str
    difference: float

    def __str__(self) -> str:
        """Returns the counts in one line, then a line for each note, the difference, and the code."""
        line = (
            f"{', '.join(map(str, self.files))} ({self.layout}): {len(self.tensors)} tensors, "
            f"{len(self.counters)} counters of batches"
        )
        last = f"opened again, its logits differ by {self.difference:.1g}"
        return "\n  ".join([line, *self.notes, last, self.code])


def save_for_torch(classifier: Classifier, to: str | Path, layout: str) -> WrittenFiles:
    """Writes a classifier's weights as a library for PyTorch has them, in float32.

    The file is opened again and compared with the classifier before it takes its place, together with its settings:
    all files are complete, or none is written.

    Example:
        >>> classifier = resnet_keras.Classifier.load("runs/photos_resnet50")
        >>> resnet_keras.applications.save_for_torch(classifier, "resnet50", "timm")
        >>> timm.create_model("local-dir:resnet50", pretrained=True)

    Args:
        classifier: A network of this package.
        to: The `.safetensors` file. For "timm" and "transformers", which keep settings beside it, a folder, or a file
            called `model.safetensors`.
        layout: "torchvision", "timm", "transformers", "pytorch_resnet_cifar10" (akamaster's, option A), or
            "pytorch_cifar_models" (chenyaofo's, option B).

    Returns:
        Report of the written files.

    Raises:
        ValueError: There is no such layout; the library has no such network (the message says what differs and which
            layouts fit); the name of the file does not suit it; or settings of something else are beside the file.
    """
    path = weights_path(Path(to), layout)
    check_one_label(classifier.model, f"weights of {layout}")
    if is_quantized(classifier.model):
        raise ValueError(
            f"Expected a network in floating point: {layout} has no integers. Received: {classifier.model.name}, from "
            "quantization-aware training"
        )
    imported = open_weights(classifier.model)
    exported = export_weights(
        replace(imported, preprocessing=classifier.preprocessing, class_names=classifier.class_names), layout
    )
    others = [path.parent / name for name in exported.settings]
    strange = [other for other in others if other.exists()]
    if strange and not path.exists():
        raise ValueError(f"Expected a folder without settings of something else. Received: {strange[0]}, which exists")
    with files.new_files(path.parent) as aside:
        save_file(dict(exported.tensors), aside / path.name, metadata={"format": "pt"})
        for name, content in exported.settings.items():
            files.write_json(aside / name, content)
        difference = _difference(classifier, aside / path.name)
    counters = tuple(name for name, array in exported.tensors.items() if array.dtype == np.int64)
    return WrittenFiles(
        files=(path, *others),
        layout=layout,
        tensors=tuple(name for name in exported.tensors if name not in counters),
        counters=counters,
        notes=exported.notes,
        code=exported.code.replace("PATH", str(path)).replace("FOLDER", str(path.parent)),
        difference=difference,
    )


def weights_path(to: Path, layout: str) -> Path:
    """Returns the path of the weights that `save_for_torch` writes.

    Raises:
        ValueError: There is no such layout, or `to` does not suit it.
    """
    check_layout(layout)
    has_settings = TARGETS[layout].has_settings
    if to.suffix == _SUFFIX and (to.name == WEIGHTS_FILE or not has_settings):
        return to
    if has_settings and not to.is_file() and not to.name.endswith(SUFFIXES):
        return to / WEIGHTS_FILE
    expected = f"a folder, or a file in it called {WEIGHTS_FILE}" if has_settings else f"a {_SUFFIX} file"
    raise ValueError(f"Expected `to` to be {expected} for layout {layout}. Received: {to}")


def _difference(classifier: Classifier, path: Path) -> float:
    """Returns the largest difference of a logit between a classifier and a file of its weights.

    Raises:
        ValueError: It is too large: the file has other weights, or the network's outputs are not finite.
    """
    found = open_weights(path)
    shape = (*classifier.preprocessing.image_size, classifier.preprocessing.channels)
    model = build(recognize_architecture(found), input_shape=shape, classes=found.classes, classifier_activation=None)
    load_weights(model, found)
    noise = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    flipped = noise[..., ::-1] if classifier.preprocessing.channel_order == "bgr" else noise
    # The file is in float32, and the rounding errors of half precision are larger than the tolerance.
    plain = replace(classifier, model=clone_in_float32(classifier.model))
    outputs = plain.logits_of_inputs(noise), np.asarray(model.predict_on_batch(flipped), np.float32)
    if not outputs_logits(classifier.model):
        outputs = log_softmax(outputs[0]), log_softmax(outputs[1])
    difference = float(np.abs(outputs[0] - outputs[1]).max())
    largest = float(np.abs(outputs[0]).max())
    if not difference <= _TOLERANCE * max(largest, 1.0):
        raise ValueError(
            f"Expected the logits of {classifier.model.name}, up to {largest:.3g}, from the file as from the network. "
            f"Received: a difference of {difference:.3g}; nothing was written"
        )
    return difference
