"""The result of a detector has COCO's numbers and PASCAL VOC's."""

from pathlib import Path

import numpy as np
import pytest

from resnet_keras.detection.average_precision import FoundBoxes
from resnet_keras.detection.box_split import BoxExample, BoxSplit
from resnet_keras.detection.results import measure_detections


def test_a_result_has_the_numbers_of_both() -> None:
    boxes = np.array([[0, 0, 40, 40], [50, 50, 60, 60.0]])
    flags = np.zeros(2, bool)
    areas = np.array([1600.0, 100])
    example = BoxExample(Path("a.jpg"), 100, 100, boxes, np.array([0, 0]), flags, flags, areas, "a")
    found = FoundBoxes(boxes[:1], np.array([0.9]), np.array([0]))
    result = measure_detections(BoxSplit((example,), ("thing",)), [found])
    assert (result.images, result.objects) == (1, 2)
    assert result.voc2007_ap == pytest.approx(6 / 11)
    assert result.voc2010_ap == pytest.approx(0.5)
    assert result.ap50 == pytest.approx(51 / 101)
    assert (result.ap_small, result.ap_medium, result.ap_large) == (0, pytest.approx(1.0), None)
    assert result.class_ap == {"thing": result.ap}
    assert str(result) == "AP 50.5%, AP50 50.5%, AP75 50.5%, VOC 2007 AP 54.5% on 1 images with 2 objects"
