"""Batches of images and masks: one window for both, and the same after a resumption."""

import numpy as np
import pytest
from PIL import Image

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.segmentation.mask_files import MaskSplit, open_masks
from resnet_keras.segmentation.mask_input import mask_batches, whole_images

SIZE = (24, 32)
# Pixels stay what they are, and padding is of pixels 0.
PIXELS = Preprocessing(image_size=SIZE, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> MaskSplit:
    """Images whose red channel is 20 times their label plus 20, in squares of eight pixels."""
    folder = tmp_path_factory.mktemp("masks")
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / "train" / part).mkdir(parents=True)
    for index in range(5):
        labels = rng.integers(0, 6, (3, 4)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        Image.fromarray(labels).save(folder / "train" / "masks" / f"{index}.png")
        red = 20 * labels + 20
        Image.fromarray(np.stack([red, red * 0, red * 0 + index], -1)).save(
            folder / "train" / "images" / f"{index}.png"
        )
    return open_masks(folder, "train", class_names=list("abcdef"))


def test_image_and_mask_have_one_window(split: MaskSplit) -> None:
    agreeing, total, padded = 0, 0, 0
    for images, masks in mask_batches(split, PIXELS, batch_size=5, epochs=8, scale=(0.5, 2.0)).as_numpy_iterator():
        assert images.shape == (5, *SIZE, 3)
        assert masks.shape == (5, *SIZE)
        inside = masks != 255
        np.testing.assert_array_equal(images[..., 0] == 0, ~inside)
        agreeing += (np.abs(images[..., 0] - (20.0 * masks + 20)) < 10)[inside].sum()
        total += inside.sum()
        padded += (~inside).sum()
    assert agreeing / total > 0.85  # all but pixels between two squares, which are interpolated
    # About 0.12 for scales of 0.5 to 2; of scales below 1 alone it would be 0.38.
    assert 0.08 < padded / (total + padded) < 0.16


def test_without_scale_and_mirroring_images_are_as_they_are(split: MaskSplit) -> None:
    batches = mask_batches(split, PIXELS, batch_size=5, scale=(1, 1), flip=False)
    ((images, masks),) = batches.as_numpy_iterator()
    np.testing.assert_array_equal(images[..., 0], 20.0 * masks + 20)
    assert sorted(images[:, 0, 0, 2].tolist()) == [0, 1, 2, 3, 4]


def test_half_of_the_images_are_mirrored(split: MaskSplit) -> None:
    whole = {int(image[0, 0, 2]): image for image, _ in whole_images(split, PIXELS)}
    mirrored = []
    for images, _ in mask_batches(split, PIXELS, batch_size=5, epochs=12, scale=(1, 1)).as_numpy_iterator():
        for image in images:
            original = whole[int(image[0, 0, 2])]
            mirrored.append(not np.array_equal(image, original))
            np.testing.assert_array_equal(image, original[:, ::-1] if mirrored[-1] else original)
    assert 18 <= sum(mirrored) <= 42  # of 60, within 3 standard deviations


def test_order_and_windows_are_functions_of_seed_and_step(split: MaskSplit) -> None:
    def run(**options: int) -> list:
        return list(mask_batches(split, PIXELS, batch_size=2, epochs=3, **options).as_numpy_iterator())

    complete, resumed, other = run(seed=1), run(seed=1, first_step=3), run(seed=2)
    assert len(complete) == 6
    assert len(resumed) == 3
    for (images, masks), (again, masks_again) in zip(complete[3:], resumed, strict=True):
        np.testing.assert_array_equal(images, again)
        np.testing.assert_array_equal(masks, masks_again)
    assert not np.array_equal(complete[0][0], other[0][0])


def test_each_epoch_has_an_order_of_its_own_and_leaves_others_out(split: MaskSplit) -> None:
    batches = mask_batches(split, PIXELS, batch_size=2, epochs=8, scale=(1, 1), flip=False).as_numpy_iterator()
    seen = np.concatenate([images[:, 0, 0, 2] for images, _ in batches]).astype(int)  # the number of each image
    epochs = [tuple(epoch) for epoch in seen.reshape(8, 4).tolist()]
    assert len(set(epochs[:3])) == 3
    assert all(len(set(epoch)) == 4 for epoch in epochs)
    assert set(seen.tolist()) == {0, 1, 2, 3, 4}


def test_the_rows_of_workers_are_the_batches_of_one_process(split: MaskSplit) -> None:
    whole = list(mask_batches(split, PIXELS, batch_size=2, seed=3).as_numpy_iterator())
    for row in range(2):
        own = mask_batches(split, PIXELS, batch_size=2, seed=3, rows=range(row, row + 1)).as_numpy_iterator()
        for (images, masks), (all_images, all_masks) in zip(own, whole, strict=True):
            np.testing.assert_array_equal(images, all_images[row : row + 1])
            np.testing.assert_array_equal(masks, all_masks[row : row + 1])


def test_whole_images_come_in_order_with_masks_of_full_size(split: MaskSplit) -> None:
    small = Preprocessing(image_size=(12, 16), channels=3, mean=(10.0,) * 3, std=(2.0,) * 3)
    found = list(whole_images(split, small))
    assert [image.shape for image, _ in found] == [(12, 16, 3)] * 5
    for (image, mask), path in zip(found, split.masks, strict=True):
        np.testing.assert_array_equal(mask, np.asarray(Image.open(path)))
        assert abs(image[2, 2, 0] - (20.0 * mask[4, 4] + 20 - 10) / 2) < 0.3


@pytest.mark.parametrize(
    ("options", "said"),
    [({"batch_size": 6}, "at most 5, the images. Received: 6"), ({"scale": (2, 1)}, r"rising range .*\(2, 1\)")],
)
def test_batches_that_cannot_be_are_refused(split: MaskSplit, options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mask_batches(split, PIXELS, **{"batch_size": 2, **options})
