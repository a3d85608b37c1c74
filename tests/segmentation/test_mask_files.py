"""Folders of images and masks, as people have them."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from helpers.hostile_images import chunk
from PIL import Image

from resnet_keras.runs.process_memory import peak_memory
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


def png(width: int, height: int, depth: int, color: int, *more: tuple[bytes, bytes]) -> bytes:
    """Returns a PNG of zeros, of which only the first two lines are there."""
    line = b"\0" * (1 + (width * {0: 1, 2: 3, 3: 1, 6: 4}[color] * depth + 7) // 8)
    packer = zlib.compressobj(9)
    lines = b"".join(packer.compress(line) for _ in range(min(height, 2))) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    palette = chunk(b"PLTE", bytes(768)) if color == 3 else b""
    chunks = header + b"".join(chunk(*each) for each in more) + palette + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    pair(tmp_path / "train")
    mask, image = tmp_path / "train/masks/a.png", tmp_path / "train/images/a.jpg"
    cases = {
        r"size, \(2, 3\). Received: .*a.png, of \(12000, 12000\)": png(12_000, 12_000, 8, 0),
        "of 8 bits.*, of RGBA": png(12_000, 12_000, 8, 6),
        "of 8 bits.*, of I;16": png(12_000, 12_000, 16, 0),
        "PNG of labels. Received: .*at most|PNG of labels. Received: .*exceeds limit": png(14_000, 14_000, 1, 0),
        "of 8 bits.*, of L;4": png(3, 2, 4, 0),  # Pillow makes 0, 17, ... of its labels
        "of 8 bits.*, of 1": png(3, 2, 1, 0),
        "PNG of labels": png(3, 2, 8, 0, (b"zTXt", b"a\0\0" + zlib.compress(bytes(90_000_000)))),
    }
    kept = mask.read_bytes()
    before = peak_memory()
    for message, content in cases.items():
        mask.write_bytes(content)
        with warnings.catch_warnings(), pytest.raises(ValueError, match=message):
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            open_masks(tmp_path, "train")
    mask.write_bytes(kept)
    late = (b"IDAT", b""), (b"eXIf", b"II*\0" + b"\xff" * 20)
    for content in (png(12_000, 12_000, 8, 2, *late), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 3 2\n"):
        image.write_bytes(content)
        with warnings.catch_warnings(), pytest.raises(ValueError, match=r"size, \(12000, 12000\)|whole JPEG, PNG"):
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            open_masks(tmp_path, "train")
    assert peak_memory() - before < 64 << 20


def test_names_of_a_list_stay_inside_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "SegmentationClass" / "a.png", LABELS)
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
    for content in (b"../../a", b"/etc/passwd", b"a\0b", b"\xff\xfe\0"):
        (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_bytes(content)
        with pytest.raises(ValueError, match=r"Expected .*train\.txt"):
            open_masks(tmp_path, "train")


def test_camvid_is_opened(test_data: Path) -> None:
    folder = test_data / "segmentation" / "camvid"
    names = [str(i) for i in range(11)]
    split = open_masks(folder, "val", class_names=names, ignored=11)
    assert len(split) == 51
    assert read_mask(split.masks[0]).shape == (360, 480)
