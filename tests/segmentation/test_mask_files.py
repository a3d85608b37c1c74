"""Folders of images and masks, as people have them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_keras.segmentation.mask_files import VOC_CLASSES, open_masks, read_mask


def write(path: Path, labels: np.ndarray, *, palette: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if palette:
        image = image.convert("P")
        image.putdata(labels.ravel().tolist())
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    image.save(path)
    return path


LABELS = np.array([[0, 1, 2], [255, 1, 0]])


def pair(folder: Path, name: str = "a", labels: np.ndarray = LABELS, masks: str = "masks") -> None:
    write(folder / masks / f"{name}.png", labels)
    (folder / "images").mkdir(exist_ok=True, parents=True)
    Image.new("RGB", labels.shape[::-1], (9, 8, 7)).save(folder / "images" / f"{name}.jpg")


def test_a_palette_and_gray_levels_are_labels(tmp_path: Path) -> None:
    for palette in (False, True):
        np.testing.assert_array_equal(read_mask(write(tmp_path / "a.png", LABELS, palette=palette)), LABELS)


@pytest.mark.parametrize("masks", ["masks", "labels", "annotations"])
def test_a_folder_of_images_beside_masks_is_opened(tmp_path: Path, masks: str) -> None:
    for name in ("b", "a"):
        pair(tmp_path / "train", name, masks=masks)
    (tmp_path / "train" / "images" / "._a.jpg").write_bytes(b"x")
    split = open_masks(tmp_path, "train")
    assert [path.name for path in split.images] == ["a.jpg", "b.jpg"]
    assert [path.name for path in split.masks] == ["a.png", "b.png"]
    assert split.class_names == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\nbus\n")
    assert open_masks(tmp_path, "train").class_names == ("sky", "road", "car", "bus")


def test_the_layout_of_voc_is_opened(tmp_path: Path) -> None:
    write(tmp_path / "SegmentationClass" / "2007_000032.png", LABELS, palette=True)
    (tmp_path / "JPEGImages").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "JPEGImages" / "2007_000032.jpg")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n")
    split = open_masks(tmp_path, "train")
    assert len(split) == 1
    assert split.class_names == VOC_CLASSES
    assert len(VOC_CLASSES) == 21
    with pytest.raises(FileNotFoundError, match="one of train. Received: 'trian'. Did you mean train?"):
        open_masks(tmp_path, "trian")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        open_masks(tmp_path / "nowhere", "train")
    with pytest.raises(FileNotFoundError, match="there is none"):
        open_masks(tmp_path, "train")
    pair(tmp_path / "train")
    with pytest.raises(ValueError, match=r"labels from 0 to 1, or 255 .*Received: 2 in .*a\.png"):
        open_masks(tmp_path, "train", class_names=["x", "y"])
    with pytest.raises(ValueError, match=r"Received: 255 in .*a\.png"):
        open_masks(tmp_path, "train", class_names=["x", "y", "z"], ignored=9)
    write(tmp_path / "train" / "masks" / "a.png", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"image's size, \(2, 3\). Received: .*a\.png, of \(3, 3\)"):
        open_masks(tmp_path, "train")
    (tmp_path / "train" / "masks" / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"PNG of labels. Received: .*a\.png"):
        open_masks(tmp_path, "train")
    Image.new("RGB", (3, 2)).save(tmp_path / "train" / "masks" / "a.png")
    with pytest.raises(ValueError, match="8 bits.*, of RGB"):
        open_masks(tmp_path, "train")
    (tmp_path / "train" / "masks" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 1 missing: .*a\.png"):
        open_masks(tmp_path, "train")


def test_camvid_is_opened(test_data: Path) -> None:
    folder = test_data / "segmentation" / "camvid"
    names = [str(i) for i in range(11)]
    split = open_masks(folder, "val", class_names=names, ignored=11)
    assert len(split) == 51
    assert read_mask(split.masks[0]).shape == (360, 480)
