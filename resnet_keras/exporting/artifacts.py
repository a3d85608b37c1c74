"""The artifacts of an export: each is written, then run and compared with its classifier."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras

from resnet_keras import files
from resnet_keras.applications.classifier import Classifier
from resnet_keras.exporting.formats import FORMATS, Format
from resnet_keras.exporting.layer_errors import LayerError, largest_errors, layer_errors
from resnet_keras.exporting.litert import convert_to_litert, has_memory_for, litert_conversion
from resnet_keras.exporting.litert_metadata import add_metadata
from resnet_keras.exporting.onnx_file import onnx_conversion, onnx_metadata
from resnet_keras.exporting.options import ExportOptions
from resnet_keras.exporting.reference import Reference
from resnet_keras.exporting.reuse import reuse_artifact
from resnet_keras.exporting.saved_model import write_saved_model
from resnet_keras.exporting.serving import probability_network, serving_network
from resnet_keras.exporting.verification import Tolerance, Verification, verify, verifying_process
from resnet_keras.exporting.warmup_requests import write_warmup_requests
from resnet_keras.surgery.quantization import is_quantized

_log = logging.getLogger(__name__)
_LAYER_IMAGES = 16
_CONVERSIONS = 3  # of floats, of integers, to ONNX
_AGREEMENT_MARGIN = 0.01  # above the tolerance; up to there, the report has the errors of the layers


@dataclass
class ExportJob:
    """An export in progress: what it writes, and what its artifacts are compared with."""

    classifier: Classifier
    formats: tuple[Format, ...]
    options: ExportOptions
    home: Path
    reference: Reference
    hashes: Mapping[Format, str]
    layers: dict[Format, list[LayerError]] = field(default_factory=dict)

    @property
    def quantization_aware(self) -> bool:
        """Whether the network comes from quantization-aware training."""
        return is_quantized(self.classifier.model)

    def tolerance(self, name: Format) -> Tolerance:
        """Returns the deviation that a format is allowed."""
        # After quantization-aware training, a rounding to int8 may fall to the other side, with any difference.
        difference = None if self.quantization_aware else self.options.tolerance_of(name)
        return Tolerance(difference=difference, agreement=self.options.least_agreement)


def write_and_verify(job: ExportJob, folder: Path) -> Iterator[Verification]:
    """Writes the artifacts into `folder` and yields the verification of each, while LiteRT converts the next."""
    _log.info("writing %s", ", ".join(job.formats))
    network = serving_network(job.classifier)
    reused = [name for name in job.formats if reuse_artifact(name, job.hashes[name], job.home, folder)]
    litert = {name: folder / f"{name}.tflite" for name in job.formats if FORMATS[name].runtime == "litert"}
    with ExitStack() as stack:
        converted: Iterator[Format] = iter(())
        if new := {name: path for name, path in litert.items() if name not in reused}:
            converted = stack.enter_context(_conversion(job, network, new))
        if "saved_model" in job.formats:
            with verifying_process("saved_model", folder) as process:
                if "saved_model" not in reused:
                    _write_saved_model(job, network, folder)
                yield _verified(job, "saved_model", folder, process)
        path, finish = folder / "float32.onnx", None
        if "onnx" in job.formats and "onnx" not in reused:
            side_by_side = has_memory_for(_CONVERSIONS, 4 * network.count_params())
            finish = stack.enter_context(_onnx_conversion(job, network, path)) if side_by_side else None
        for name in itertools.chain([name for name in litert if name in reused], converted):
            if name not in reused:
                add_metadata(litert[name], job.classifier)
            verification = _verified(job, name, litert[name])
            if FORMATS[name].integer and verification.agreement < job.options.least_agreement + _AGREEMENT_MARGIN:
                verification = _with_layer_errors(job, network, litert, verification)
            yield verification
        if "onnx" in job.formats:
            if "onnx" not in reused:
                (finish or stack.enter_context(_onnx_conversion(job, network, path)))()
            yield _verified(job, "onnx", path)


def _onnx_conversion(job: ExportJob, network: keras.Model, path: Path) -> AbstractContextManager[Callable[[], None]]:
    options, metadata = job.options, onnx_metadata(job.classifier)
    return onnx_conversion(network, path, pixels=options.pixels, batch=options.batch, metadata=metadata)


@contextmanager
def _conversion(job: ExportJob, network: keras.Model, artifacts: Mapping[Format, Path]) -> Iterator[Iterator[Format]]:
    options = job.options
    with litert_conversion(
        probability_network(network),
        job.reference.calibration,
        artifacts,
        batch=options.batch,
        int8_input=options.int8_input,
        int8_output=options.int8_output,
    ) as converted:
        yield converted


def _write_saved_model(job: ExportJob, network: keras.Model, folder: Path) -> None:
    options = job.options
    write_saved_model(
        job.classifier,
        folder,
        network=network if options.precision == "float32" else None,
        precision=options.precision,
        pixels=options.pixels,
        sizes=options.sizes,
        top_k=options.top_k,
    )
    write_warmup_requests(folder, job.home.name, job.classifier.preprocessing, options.pixels)


def _verified(job: ExportJob, name: Format, path: Path, process: Any = None) -> Verification:
    verification = verify(name, path, job.reference, job.tolerance(name), process)
    _log.info("%s", verification)
    return verification


def _with_layer_errors(
    job: ExportJob, network: keras.Model, artifacts: Mapping[Format, Path], verification: Verification
) -> Verification:
    """Keeps the errors of the layers of an integer file, and names the largest of them if the file is refused."""
    if job.quantization_aware:
        return verification  # there is no float file to compare with
    pixels = job.reference.pixels[:_LAYER_IMAGES]
    with files.scratch_folder() as scratch:
        reference = artifacts.get("float32")
        if reference is None:
            reference = scratch / "float32.tflite"
            convert_to_litert(probability_network(network), pixels, {"float32": reference})
        errors = layer_errors(reference, artifacts[verification.format], pixels)
    job.layers[verification.format] = errors
    if not verification.failures or not errors:
        return verification
    return replace(verification, failures=(*verification.failures, largest_errors(errors)))
