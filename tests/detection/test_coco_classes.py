"""Class names of COCO."""

from resnet_keras.detection.coco_classes import COCO_CLASSES


def test_classes_are_those_of_cocos_numbers_and_ten_are_unused() -> None:
    assert len(set(COCO_CLASSES)) == 90
    assert [COCO_CLASSES[number - 1] for number in (1, 17, 44, 90)] == ["person", "cat", "bottle", "toothbrush"]
    unused = [number for number, name in enumerate(COCO_CLASSES, 1) if name.startswith("unused")]
    assert unused == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
