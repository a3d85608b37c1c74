"""Parts of folders and of TFDS sets with masks."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from helpers.mask_folders import CLASSES, write_masks
from PIL import Image

from resnet_keras.data.opening import DataSource
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.segmentation.mask_files import open_masks
from resnet_keras.segmentation.mask_input import resized_batches, whole_images
from resnet_keras.segmentation.mask_sets import MaskParts, open_parts

UNIT = Preprocessing(image_size=(20, 35), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def opened(root: Path, name: str = "folder") -> MaskParts:
    return open_parts(name, DataSource(data_dir=root), ignored=255)


def test_a_folder_with_a_test_part_is_validated_on_the_other(tmp_path: Path) -> None:
    parts = opened(write_masks(tmp_path))
    assert {name: len(split) for name, split in parts.named.items()} == {"train": 6, "test": 4, "validation": 3}
    assert all(split.class_names == CLASSES for split in parts.named.values())


def test_a_folder_without_a_test_part_is_tested_on_its_validation_images(tmp_path: Path) -> None:
    root = write_masks(tmp_path, {"train": 2, "val": 1})
    (root / "classes.txt").unlink()
    for mask in (root / "train" / "masks").iterdir():  # the last class is in the test alone
        Image.fromarray(np.minimum(np.asarray(Image.open(mask)), 1)).save(mask)
    parts = opened(root)
    assert (parts.validation, len(parts.test), parts.train.class_names) == (None, 1, ("0", "1", "2"))


def test_vocs_layout_is_tested_on_the_images_that_have_masks(tmp_path: Path) -> None:
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / name).mkdir(parents=True)
    for name, part in (("a", "train"), ("b", "val"), ("c", "test")):
        Image.new("RGB", (8, 6)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        (tmp_path / "ImageSets" / "Segmentation" / f"{part}.txt").write_text(f"{name}\n")
        if part != "test":
            Image.new("P", (8, 6), 20).save(tmp_path / "SegmentationClass" / f"{name}.png")
    parts = opened(tmp_path)
    assert (len(parts.train.class_names), parts.validation) == (21, None)
    assert [Path(str(image)).name for image in parts.test.images] == ["b.jpg"]


def test_a_set_of_tfds_has_the_images_and_masks_of_its_folder(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "folder", {"train": 3, "test": 2})
    folders = {part: open_masks(root, part) for part in ("train", "test")}
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "segmentation_mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
    }

    def examples(part: str) -> tf.data.Dataset:
        signature = {name: tf.TensorSpec(feature.shape, tf.uint8) for name, feature in features.items()}
        pairs = list(zip(folders[part].images, folders[part].masks, strict=True))
        return tf.data.Dataset.from_generator(
            lambda: (
                {"image": np.asarray(Image.open(image)), "segmentation_mask": np.asarray(Image.open(mask))[..., None]}
                for image, mask in pairs
            ),
            output_signature=signature,
        )

    tfds.dataset_builders.store_as_tfds_dataset(
        name="streets",
        version="1.0.0",
        data_dir=tmp_path / "sets",
        features=tfds.features.FeaturesDict(features),
        split_datasets={part: examples(part) for part in folders},
        disable_shuffling=True,
    )
    parts = opened(tmp_path / "sets", "streets")
    assert parts.train.class_names == ("0", "1", "2")
    for part, split in parts.named.items():
        for one, other in zip(whole_images(split, UNIT), whole_images(folders[part], UNIT), strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


def test_a_set_of_tfds_without_masks_is_refused(tmp_path: Path) -> None:
    tfds.dataset_builders.store_as_tfds_dataset(
        name="plain",
        version="1.0.0",
        data_dir=tmp_path,
        features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(2, 2, 1))}),
        split_datasets={"train": tf.data.Dataset.from_tensors({"image": np.zeros((2, 2, 1), np.uint8)})},
    )
    with pytest.raises(ValueError, match="features image and segmentation_mask. Received: plain"):
        opened(tmp_path, "plain")


def test_an_image_that_exif_turns_is_refused(tmp_path: Path) -> None:
    root = write_masks(tmp_path, {"train": 1, "test": 1})
    exif = Image.Exif()
    exif[0x0112] = 6
    image = root / "train" / "images" / "0.png"
    Image.open(image).save(image, exif=exif)
    with pytest.raises(ValueError, match=r"no Exif orientation turns.*Received: that of .*0\.png"):
        opened(root)


def test_resized_batches_have_image_and_mask_at_the_networks_size(tmp_path: Path) -> None:
    split = opened(write_masks(tmp_path, {"train": 3, "test": 1})).train
    batches = list(resized_batches(split, UNIT, 2).as_numpy_iterator())
    assert [masks.shape for _, masks in batches] == [(2, 20, 35), (1, 20, 35)]
    for (image, mask), (whole, full) in zip(
        (pair for batch in batches for pair in zip(*batch, strict=True)), whole_images(split, UNIT), strict=True
    ):
        np.testing.assert_array_equal(image, whole)
        np.testing.assert_array_equal(mask, full[1::2, 1::2])  # the nearest of each four
