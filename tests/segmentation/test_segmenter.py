"""A segmentation network with its preprocessing: masks of any images, its file, its pictures."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers.small_networks import FOUR_STAGES, drawn
from PIL import Image

from resnet_keras.cli import predict
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.segmentation import FCN, Segmenter, UNet, class_colors, draw_mask, read_mask

PREPROCESSING = Preprocessing(image_size=(32, 64), channels=3, mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 55.0))
NAMES = ("sky", "road", "car")


def thresholds() -> Segmenter:
    """A network whose class is the brightest channel, so that masks are known."""
    image = keras.Input((4, 6, 3))
    same = Preprocessing(image_size=(4, 6), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Segmenter(keras.Model(image, keras.layers.Activation("linear")(image), name="brightest"), same, NAMES)


def test_masks_have_the_size_of_their_images(tmp_path: Path) -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, :4, 1] = pixels[:, 4:8, 2] = pixels[:, 8:, 0] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = np.repeat([[1] * 4 + [2] * 4 + [0] * 4], 8, 0)
    for images in (pixels, str(tmp_path / "a.png"), Image.fromarray(pixels), [pixels]):
        (mask,) = thresholds().predict(images)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected)
    assert [mask.shape for mask in thresholds().predict([pixels, pixels[:5]])] == [(8, 12), (5, 12)]


def test_a_file_brings_preprocessing_and_names(tmp_path: Path) -> None:
    segmenter = Segmenter(drawn(UNet(FOUR_STAGES, 3)), PREPROCESSING, NAMES)
    segmenter.save(tmp_path / "a.keras")
    loaded = Segmenter.load(tmp_path / "a.keras")
    assert (loaded.preprocessing, loaded.class_names) == (PREPROCESSING, NAMES)
    assert repr(loaded) == f"Segmenter({segmenter.model.name}, 32x64, 3 classes)"
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3)).astype(np.uint8)
    np.testing.assert_array_equal(loaded.predict(pixels)[0], segmenter.predict(pixels)[0])


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        Segmenter.load(tmp_path / "a.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match="without them"):
        Segmenter.load(tmp_path / "a.keras")
    thresholds().save(tmp_path / "b.keras")
    with zipfile.ZipFile(tmp_path / "b.keras") as archive, zipfile.ZipFile(tmp_path / "c.keras", "w") as damaged:
        for name in archive.namelist():
            damaged.writestr(name, b"{" if name == "config.json" else archive.read(name))
    with pytest.raises(ValueError, match=r"whole .keras file. Received: .*c\.keras"):
        Segmenter.load(tmp_path / "c.keras")


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"each class \(2\) at each pixel. Received: .*, 3\)"):
        Segmenter(thresholds().model, thresholds().preprocessing, ("a", "b"))
    with pytest.raises(ValueError, match=r"its preprocessing, \(32, 64, 3\). Received: .* takes \(40, 64, 3\)"):
        Segmenter(FCN(FOUR_STAGES, 3, input_shape=(40, 64, 3)), PREPROCESSING, NAMES)


def test_colors_are_those_of_voc() -> None:
    # VOCdevkit's palette: background, aeroplane, bicycle, ..., tvmonitor.
    colors = class_colors(21)
    assert colors[[0, 1, 2, 3, 15, 20]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [192, 128, 128],
        [0, 64, 128],
    ]
    assert len({tuple(color) for color in class_colors(256).tolist()}) == 256


def test_a_mask_is_drawn_over_its_image() -> None:
    image = np.full((1, 3, 3), 100, np.uint8)
    drawn_over = draw_mask(image, [[1, 0, 255]], 2, alpha=0.5)
    np.testing.assert_array_equal(drawn_over, [[[114, 50, 50], [50, 50, 50], [100, 100, 100]]])
    assert draw_mask(image[..., :1], [[1, 0, 1]], 2).shape == (1, 3, 3)


def test_the_program_predicts_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    thresholds().save(tmp_path / "a.keras")
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, :3, 1] = pixels[:, 3:, 2] = 200
    Image.fromarray(pixels).save(tmp_path / "x.png")
    source, image = str(tmp_path / "a.keras"), str(tmp_path / "x.png")
    assert predict.main([source, image, "--masks", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{image}: car 75.00%, road 25.00%\n"
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "x.mask.png"), np.where(pixels[..., 1], 1, 2))
    overlay = np.asarray(Image.open(tmp_path / "out" / "x.overlay.png"))
    np.testing.assert_array_equal(overlay[0, 0], [77, 80, 0])  # 0.6 of (128, 0, 0) and 0.4 of (0, 200, 0)
    (tmp_path / "y.png").write_bytes(b"no image")
    assert predict.main([source, image, str(tmp_path / "y.png"), "--json", "--top-k", "1"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["classes"] == [{"class": "car", "fraction": 0.75}]
    assert "y.png" in said.err
    assert predict.main([source, str(tmp_path / "y.png")]) == 2
    assert predict.main(["resnet20_digits", image, "--masks", str(tmp_path)]) == 2
    assert "Expected no --masks" in capsys.readouterr().err
