"""Measurements of detectors: each with the refinements of the paper's Table 9, one more in each step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from resnet_keras.data.opening import DataSource
from resnet_keras.detection.detector import Detector
from resnet_keras.detection.refinements import Refinements
from resnet_keras.detection.tfds_boxes import open_part_of_boxes
from resnet_keras.reproduction.folder import ReproductionFolder, file_stamp

_log = logging.getLogger(__name__)

PAPER_SCALES, PAPER_SCALE = (200, 400, 600, 800, 1000), 600
"""Shorter sides of the paper's test at several scales, and of its usual one, in pixels."""
_LEAST_SCALE, _MULTIPLE = 32, 8


def steps_of(detector: Detector) -> dict[str, Refinements]:
    """Returns the steps of Table 9 that evaluation alone makes, by their names."""
    shorter = detector.fit[0] if detector.fit else min(detector.preprocessing.image_size)
    scales = scales_for(shorter)
    return {
        "one scale": Refinements(),
        "+ box refinement": Refinements(boxes=True),
        f"+ scales {', '.join(map(str, scales))}": Refinements(boxes=True, scales=scales),
    }


def scales_for(shorter: int) -> tuple[int, ...]:
    """Returns the paper's five scales in proportion to another usual one, multiples of 8 from 32 on.

    Args:
        shorter: Shorter side in pixels of the images that a detector is trained on.
    """
    if shorter == PAPER_SCALE:
        return PAPER_SCALES
    scaled = (round(scale * shorter / PAPER_SCALE / _MULTIPLE) * _MULTIPLE for scale in PAPER_SCALES)
    return tuple(sorted({max(scale, _LEAST_SCALE) for scale in scaled}))


def measure_detectors(
    folder: ReproductionFolder, subfolder: str, name: str, sources: Mapping[str, tuple[Path, str, Path | str | None]]
) -> None:
    """Evaluates detectors with each step of `steps_of`.

    Results of an earlier call for the same files are kept, and so are those of other networks.

    Args:
        folder: Folder of the experiments.
        subfolder: Budget, or what stands for it.
        name: Name of the experiment.
        sources: By the name of a network: the folder or file of its detector, and the name and the folder of the data
            set, of whose test part the results are.
    """
    before = folder.read(subfolder, name) or {"rows": []}
    known = {_key(row): row for row in before["rows"]}
    for network, (source, dataset, place) in sources.items():
        stamp = [*file_stamp(source), f"{place}" if dataset == "folder" else f"{dataset} of {place}"]
        detector = Detector.load(source)
        split = None
        for step, refinements in steps_of(detector).items():
            row: dict[str, Any] = {"network": network, "step": step, "stamp": stamp}
            earlier = known.get(_key(row))
            if earlier is not None and earlier["stamp"] == row["stamp"]:
                continue
            if split is None:
                data = DataSource(data_dir=place, on_corrupt="skip")
                split = open_part_of_boxes(dataset, "test", data, class_names=detector.class_names)
            _log.info(f"{network}, {step}: {len(split)} images")
            known[_key(row)] = row | {"result": asdict(detector.evaluate(split, refinements=refinements))}
            folder.write(subfolder, name, {"rows": list(known.values())})
        keras.utils.clear_session()


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["network"], row["step"]
