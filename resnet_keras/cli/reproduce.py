"""Carries out an experiment of the paper, e.g. `resnet reproduce degradation --budget small --data-dir DIR`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from resnet_keras.cli.program import run

Name = Literal[
    "table1", "degradation", "shortcuts", "depth", "responses", "protocols", "layers1202", "document"
]  # those of EXPERIMENTS, which a test compares, and the document alone


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
    """Carries out an experiment of the paper and writes the document of all; the same command continues it.

    Args:
        experiment: Which one; "document" writes the document anew, from what is there.
        budget: smoke shows in minutes that it works, on digits; small shows the effect on two CPU cores within two
            hours, on a part of CIFAR-10; full is the paper's own recipes.
        workdir: Folder of all experiments, with REPRODUCTION.md.
        data_dir: Where the data lie: TFDS's folder, or a folder of class folders.
        download: Let TensorFlow Datasets fetch a set that is missing.
        weights: For responses and protocols: finished runs or .keras files to measure, in place of training.
        dataset: Of whose test images they are shown; that of the first run if None.
    """
    # Not at the top: `--help` needs no TensorFlow.
    from resnet_keras.reproduction.document import write_document
    from resnet_keras.reproduction.folder import ReproductionFolder
    from resnet_keras.reproduction.reproducer import reproduce as carry_out

    if experiment == "document":
        folder = ReproductionFolder(workdir)
        write_document(folder)
        print(f"see {folder.document}")
        return
    document = carry_out(
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
