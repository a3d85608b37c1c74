"""Scenes of digits: whole images with boxes that do not overlap, and the digits under them."""

from pathlib import Path

import numpy as np

from resnet_keras.detection.average_precision import pairwise_iou
from resnet_keras.detection.voc_files import open_voc
from resnet_keras.reproduction.digit_scenes import COUNTS, write_digit_scenes


def test_scenes_are_read_as_they_are_written_and_stay(tmp_path: Path) -> None:
    folder = write_digit_scenes(tmp_path / "scenes")
    for part, count in COUNTS.items():
        split = open_voc(folder, part)
        assert split.class_names == tuple("0123456789")
        assert len(split) == count <= split.boxes <= 3 * count
        for example in split.examples:
            assert (example.height, example.width) == (64, 64)
            assert pairwise_iou(example.boxes, example.boxes).sum() == len(example.boxes)
    times = [path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))]
    write_digit_scenes(folder)
    assert [path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))] == times
    again = write_digit_scenes(tmp_path / "again")
    one, other = (np.array(open_voc(each, "test").examples[0].boxes) for each in (folder, again))
    np.testing.assert_array_equal(one, other)
