"""Parts of a training run, by the names that layouts have for them."""

import pytest

from resnet_keras.detection.box_files import open_boxes, run_part


@pytest.mark.parametrize(
    ("known", "parts"),
    [
        (["test", "train", "trainval", "val"], ("trainval", None, "test")),
        (["train", "trainval", "val"], ("train", None, "val")),
        (["train2017", "val2017"], ("train2017", None, "val2017")),
        (["test", "train", "valid"], ("train", "valid", "test")),
        (["test", "train"], ("train", None, "test")),
        (["train"], ("train", None, None)),
    ],
)
def test_parts_of_a_run(known: list[str], parts: tuple[str | None, ...]) -> None:
    assert tuple(run_part(known, part) for part in ("train", "validation", "test")) == parts


def test_either_layout_is_opened(tmp_path_factory: pytest.TempPathFactory) -> None:
    from helpers.box_folders import VocFolder, write_coco

    voc, coco = (tmp_path_factory.mktemp(name) for name in ("voc", "coco"))
    VocFolder(voc).add("a", [("dog", 1, 1, 9, 9)])
    write_coco(coco, [])
    assert open_boxes(voc, "train").class_names == ("dog",)
    assert len(open_boxes(coco, "train")) == 2
    with pytest.raises(FileNotFoundError, match="VOC's layout .* or COCO's"):
        open_boxes(voc / "JPEGImages", "train")
    with pytest.raises(FileNotFoundError, match="one of train. Received: 'test'"):
        open_boxes(voc, "test")
