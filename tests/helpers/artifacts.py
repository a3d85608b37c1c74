"""Classifiers as LiteRT files; conversions to LiteRT and to ONNX share a process each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_keras.applications.classifier import Classifier
from resnet_keras.exporting import litert, onnx_file
from resnet_keras.exporting.child_process import ArtifactError, ChildProcess
from resnet_keras.exporting.serving import probability_network, serving_network


def convert_classifier(
    classifier: Classifier, calibration: np.ndarray, files: Mapping[Any, Path], **options: Any
) -> None:
    """Writes LiteRT files of a classifier."""
    litert.convert_to_litert(probability_network(serving_network(classifier)), calibration, files, **options)


class LastingProcess:
    """A child process that survives its contexts, but not its failures."""

    def __init__(self) -> None:
        self.child: ChildProcess | None = None

    def __call__(self, program: str) -> LastingProcess:
        """Returns itself, with the program running."""
        self.child = self.child or ChildProcess(program)
        return self

    def __enter__(self) -> LastingProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def close(self) -> None:
        """Does nothing."""

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message."""
        self.child.send(message)

    def receive(self, *words: Any) -> Any:
        """Returns an answer; after an error, the next context starts a new process."""
        try:
            return self.child.receive(*words)
        except ArtifactError:
            self.end()
            raise

    def peak_memory(self) -> int:
        """Returns the peak memory of the process."""
        return self.child.peak_memory()

    def end(self) -> None:
        """Ends the process."""
        if self.child:
            self.child.close()
        self.child = None


@contextmanager
def one_converter() -> Iterator[None]:
    """Converts in one process for each library, because to import TensorFlow takes longer than to convert."""
    processes = {module: LastingProcess() for module in (litert, onnx_file)}
    with pytest.MonkeyPatch.context() as patch:
        for module, process in processes.items():
            patch.setattr(module, "ChildProcess", process)
        yield
    for process in processes.values():
        process.end()
