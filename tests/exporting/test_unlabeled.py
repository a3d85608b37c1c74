"""Images without labels: those of a folder, in two samples, and noise."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.exporting.unlabeled import folder_pixels, noise_pixels, spread_images

BGR = Preprocessing(image_size=(6, 5), channels=3, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), channel_order="bgr")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine images in two folders, each of one color: 0, 10, ..., 80."""
    for number in range(9):
        file = tmp_path / "photos" / ("first" if number < 5 else "second") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 6), (10 * number, 1, 2)).save(file)
    return tmp_path / "photos"


def test_a_folder_gives_two_samples_of_pixels_that_share_no_image(photos: Path) -> None:
    first, second = folder_pixels(photos, BGR, (100, 100))
    assert first.dtype == np.uint8
    assert first.shape == (5, 6, 5, 3)
    assert [tuple(image[0, 0]) for image in first] == [(10 * n, 1, 2) for n in (0, 2, 4, 6, 8)]
    assert [image[0, 0, 0] for image in second] == [10, 30, 50, 70]


def test_fewer_images_are_spread_over_the_folder(photos: Path) -> None:
    first, second = folder_pixels(photos, BGR, (3, 0))
    assert [image[0, 0, 0] for image in first] == [0, 40, 80]
    assert second.shape == (0, 6, 5, 3)


def test_artifacts_are_compared_on_some_files_and_on_all_other_images(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for images in (photos, str(photos), [photos / "first", photos / "second"]):
        chosen, there = spread_images(images, 3)
        assert ([path.stem for path in chosen], there) == (["0", "4", "8"], 9)
    assert "compared on 3 of 9 images" in caplog.text
    caplog.clear()
    assert spread_images(photos, 9)[1] == len(spread_images(photos, 9)[0]) == 9
    assert not caplog.text
    for others in (np.zeros((20, 4, 4, 3)), [b"file"] * 20, iter([photos]), [], None):
        assert spread_images(others, 3) == (others, None) if isinstance(others, list) else True
        assert spread_images(others, 3)[0] is others and spread_images(others, 3)[1] is None
    with pytest.raises(FileNotFoundError, match="nothing"):
        spread_images(photos / "nothing", 3)


def test_one_image_verifies_and_calibrates(photos: Path) -> None:
    first, second = folder_pixels(photos / "second" / "7.png", BGR, (10, 10))
    assert first[0, 0, 0, 0] == second[0, 0, 0, 0] == 70


def test_broken_images_are_named_or_skipped(photos: Path) -> None:
    (photos / "second" / "7.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"7\.png"):
        folder_pixels(photos, BGR, (100, 0))
    assert len(folder_pixels(photos, BGR, (100, 0), "skip")[0]) == 8
    with pytest.raises(ValueError, match="where all are broken"):
        folder_pixels(photos / "second" / "7.png", BGR, (100, 0), "skip")


def test_noise_is_the_same_each_time_and_of_all_brightness() -> None:
    images = noise_pixels(BGR, 40)
    assert images.dtype == np.uint8
    assert images.shape == (40, 6, 5, 3)
    np.testing.assert_array_equal(images, noise_pixels(BGR, 40))
    assert images.min() < 30
    assert images.max() > 225
    assert len(noise_pixels(BGR, 1000)) == 256
    gray = noise_pixels(Preprocessing(image_size=(64, 64), channels=1, mean=(0.0,), std=(1.0,)), 8).astype(float)
    # Neighbors resemble each other, as in photographs.
    assert np.corrcoef(gray[:, :, 1:].ravel(), gray[:, :, :-1].ravel())[0, 1] > 0.5
