"""Pictures of small images."""

import numpy as np
import pytest

from resnet_keras.runs.image_grid import DPI, image_grid


@pytest.mark.parametrize(
    ("side", "channels", "interpolation"), [(8, 1, "nearest"), (32, 3, "nearest"), (224, 3, "antialiased")]
)
def test_small_images_are_enlarged_pixel_by_pixel(side: int, channels: int, interpolation: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, side, side, channels), np.uint8)
    figure = image_grid(pixels, [f"class {i}" for i in range(10)], "test images")
    assert figure.get_suptitle() == "test images"
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in drawn] == [f"class {i}" for i in range(10)]
    for axes, image in zip(drawn, pixels, strict=True):
        (picture,) = axes.images
        assert picture.get_interpolation() == interpolation
        np.testing.assert_array_equal(picture.get_array(), image.squeeze())
        assert picture.get_clim() == (0, 255)
    figure.draw_without_rendering()
    width = drawn[0].get_window_extent().width / figure.dpi * DPI
    assert width > 100  # pixels in the file


def test_one_image_and_any_text_are_drawn() -> None:
    figure = image_grid(np.zeros((1, 8, 8, 1), np.uint8), ["$5 or $10"], r"$\x$")
    figure.draw_without_rendering()
    assert len(figure.axes) == 1


@pytest.mark.parametrize("images", [1, 2, 16])
def test_long_titles_do_not_meet(images: int) -> None:
    name = "Staffordshire bullterrier, Staffordshire bull terrier, from the north of the country"
    title = "first batch as the network sees it: 224x224 pixels, augmented"
    figure = image_grid(np.zeros((images, 8, 8, 3), np.uint8), [name] * images, title)
    figure.draw_without_rendering()
    assert figure.axes[0].get_title() == "Staffordshire\nbullterrier, ..."
    over_all = figure.texts[0].get_window_extent()
    assert figure.bbox.x0 < over_all.x0 < over_all.x1 < figure.bbox.x1
    assert over_all.y1 < figure.bbox.y1
    boxes = [over_all, *(axes.title.get_window_extent() for axes in figure.axes)]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    below = figure.axes[0].get_window_extent().y0
    assert all(axes.title.get_window_extent().y1 < below for axes in figure.axes[8:])
