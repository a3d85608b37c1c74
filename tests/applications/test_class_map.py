"""Grad-CAM: the formula, the place over the picture, and a photograph whose place is known."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers.small_networks import FOUR_STAGES, TWO_STAGES, drawn
from PIL import Image

from resnet_keras.applications.class_map import Explanation, class_map, over_image
from resnet_keras.applications.classifier import Classifier
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.networks import builder
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build

COLOR = Preprocessing(image_size=(16, 16), channels=3, mean=(100.0, 90.0, 80.0), std=(50.0, 60.0, 70.0))
NETWORKS: dict[str, tuple[Architecture, dict[str, Any]]] = {
    "basic": (TWO_STAGES, {}),
    "softmax": (TWO_STAGES, {"classifier_activation": "softmax"}),
    "bottleneck": (FOUR_STAGES, {"output_stride": 8}),
    "preactivated": (FOUR_STAGES.replace(activation="before", projection="bare"), {"output_stride": 8}),
    "squeezed": (FOUR_STAGES.replace(se_reduction=2), {"output_stride": 8}),
    "plain": (TWO_STAGES.replace(shortcut=None), {}),
}


def network(name: str) -> keras.Model:
    row, options = NETWORKS[name]
    given = {"input_shape": (16, 16, 3), "classes": 3, "classifier_activation": None} | options
    return drawn(build(row, **given))


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_cam_with_average_pooling_and_one_dense_layer(name: str) -> None:
    model = network(name)
    inputs = np.random.default_rng(5).normal(size=(1, 16, 16, 3)).astype(np.float32)
    features = keras.Model(model.input, model.get_layer("pool").input).predict_on_batch(inputs)[0]
    kernel, _ = model.get_layer("logits").get_weights()
    if name == "preactivated":
        assert features.min() == 0  # after the last activation
    for index in range(3):
        # The gradient of a mean over (h, w) is the weight divided by h * w, everywhere.
        expected = np.maximum(features @ kernel[:, index], 0) / features[..., 0].size
        found = class_map(model, inputs, index)
        assert found.shape == features.shape[:2]
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(expected.max(), 1e-3))


def test_a_network_in_segments_and_one_without_a_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = np.random.default_rng(5).normal(size=(1, 16, 16, 3)).astype(np.float32)
    expected = class_map(network("basic"), inputs, 1)
    monkeypatch.setattr(builder, "SEGMENT_BLOCKS", 2)
    np.testing.assert_allclose(class_map(network("basic"), inputs, 1), expected, rtol=1e-4, atol=1e-6)
    x = keras.Input((16, 16, 3))
    flat = keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(x)), name="flat")
    with pytest.raises(ValueError, match="averages its last feature map. Received: 'flat'"):
        class_map(flat, inputs, 0)


def test_the_map_lies_where_the_crop_was() -> None:
    # 40 x 60 pixels are resized to 20 x 30, of which rows 2 to 18 and columns 7 to 23 are seen.
    cropped = Preprocessing(image_size=(16, 16), channels=3, mean=(0,) * 3, std=(1,) * 3, shorter_side=20)
    found = over_image(np.full((4, 4), 3.0), 40, 60, cropped)
    assert (found.shape, found.dtype) == ((40, 60), np.float32)
    inside = np.zeros((40, 60), np.float32)
    inside[4:36, 14:46] = 1
    np.testing.assert_allclose(found, inside, atol=1e-6)
    one = over_image(np.eye(4)[[0, 0, 1, 0]] * np.array([0, 5, 0, 0]), 40, 60, cropped)  # row 2, column 1
    row, column = np.unravel_index(one.argmax(), one.shape)
    assert abs(row - (4 + 2.5 * 8)) <= 1 and abs(column - (14 + 1.5 * 8)) <= 1
    assert not over_image(np.zeros((4, 4)), 40, 60, cropped).any()


def test_an_explanation_is_a_picture_of_the_size_of_the_image(tmp_path: Path) -> None:
    classifier = Classifier(network("basic"), COLOR, ("a", "b", "c"))
    pixels = np.random.default_rng(2).integers(0, 256, (24, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = classifier.explain(tmp_path / "x.png", "b")
    assert found.heat_map.shape == (24, 40) and found.heat_map.dtype == np.float32
    assert found.heat_map.min() >= 0 and found.heat_map.max() <= 1
    assert str(found) == f"{tmp_path / 'x.png'}: b {classifier.probabilities(pixels)[0, 1]:.2%}"
    np.testing.assert_array_equal(found.overlay(0), pixels)
    found.save(tmp_path / "out" / "y.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "y.png")), found.overlay())
    assert found._repr_png_() == (tmp_path / "out" / "y.png").read_bytes()
    assert classifier.explain(pixels).class_name == classifier.predict(pixels)[0].class_name
    cold = Explanation(pixels, np.zeros((24, 40), np.float32), "a", 0.5)
    np.testing.assert_array_equal(cold.overlay(), pixels)
    with pytest.raises(ValueError, match=r"ending in \.png. Received: y\.jpg"):
        found.save("y.jpg")
    with pytest.raises(ValueError, match=r"`opacity` in \[0, 1\]. Received: 2"):
        found.overlay(2)


def test_several_images_and_unknown_classes_are_refused() -> None:
    classifier = Classifier(network("basic"), COLOR, ("cat", "dog", "bird"))
    pixels = np.zeros((16, 16, 3), np.uint8)
    for images, said in ((np.stack([pixels] * 3), "several"), ([], "none")):
        with pytest.raises(ValueError, match=f"Expected one image. Received: {said}"):
            classifier.explain(images)
    with pytest.raises(ValueError, match="classifier's 3 classes. Received: 'dgo'. Did you mean dog?"):
        classifier.explain(pixels, "dgo")


@pytest.mark.slow
def test_the_heat_is_in_the_quadrant_where_the_object_is(test_data: Path) -> None:
    opened = Classifier.from_pretrained(test_data / "pretrained" / "imagenet_resnet18_torchvision.safetensors")
    classifier = Classifier(opened.model, opened.preprocessing.at(224, 1.0), opened.class_names)
    photos = sorted((test_data / "photos").glob("*/*.JPEG"))[:40]
    sure = [each for each in opened.predict(photos, top_k=1) if each.probability > 0.9][:8]
    assert len(sure) == 8
    shares = []
    for i, prediction in enumerate(sure):
        top, left = 112 * (i % 2), 112 * (i // 2 % 2)
        place = (slice(top, top + 112), slice(left, left + 112))
        canvas = np.full((224, 224, 3), 124, np.uint8)
        with Image.open(prediction.path) as photo:
            canvas[place] = np.asarray(photo.convert("RGB").resize((112, 112)))
        heat = classifier.explain(canvas, prediction.class_name).heat_map
        shares.append(heat[place].sum() / heat.sum())
    # A map of no preference has a quarter of its heat there.
    assert min(shares) > 0.5, shares
    assert np.mean(shares) > 0.7, shares
