"""Runs an experiment of the paper, e.g. `resnet reproduce degradation --budget small --data-dir DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from resnet_keras.cli.program import run

Name = Literal[
    "table1", "degradation", "shortcuts", "depth", "responses", "protocols", "layers1202", "detection", "document"
]  # the keys of EXPERIMENTS, which a test compares, and "document"


def reproduce(
    experiment: tyro.conf.Positional[Name],
    *,
    budget: Literal["smoke", "small", "full"] = "small",
    workdir: Path = Path("reproduction"),
    data_dir: Path | None = None,
    download: bool = False,
    weights: tuple[Path, ...] = (),
    dataset: str | None = None,
) -> None:
    """Runs an experiment of the paper and writes the document of all; the same command resumes it.

    Args:
        experiment: One of table1, degradation, shortcuts, depth, responses, protocols, layers1202, detection; document
            only writes the document again.
        budget: smoke checks in minutes that the experiment works, on digits; small shows the effect on two CPU cores
            within two hours, on a part of CIFAR-10; full is the paper's own recipes.
        workdir: Folder of all experiments, with REPRODUCTION.md.
        data_dir: Folder of TensorFlow Datasets, or of class folders; for detection, of images with boxes.
        download: Let TensorFlow Datasets fetch a missing data set.
        weights: For responses, protocols, and detection: finished runs or .keras files to measure instead of training.
        dataset: Data set whose test images are used with --weights; that of the first run if it is not given.
    """
    # Not at the top: these import TensorFlow, which `--help` does not need.
    from resnet_keras.reproduction.document import write_document
    from resnet_keras.reproduction.folder import ReproductionFolder
    from resnet_keras.reproduction.reproducer import reproduce as run_experiment

    if experiment == "document":
        folder = ReproductionFolder(workdir)
        write_document(folder)
        print(f"see {folder.document}")
        return
    document = run_experiment(
        experiment,
        workdir,
        budget=budget,
        data_dir=data_dir,
        download=download,
        weights=weights,
        dataset=dataset,
    )
    print(f"see {document}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `resnet reproduce`."""
    return run(reproduce, "resnet reproduce", argv, progress="stdout")
