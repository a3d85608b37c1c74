"""Weights of other conventions than the paper's: every network of a run follows them, the finished one included."""

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from helpers.shapes_only import shapes_only
from helpers.small_networks import FOUR_STAGES, drawn, images

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection import DETECTORS, FasterRCNN
from resnet_keras.detection.localization_network import LocalizationNetwork
from resnet_keras.detection.loss_network import training_network
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.networks.conventions import Conventions
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.segmentation import FCN, DeepLabV3, UNet
from resnet_keras.segmentation.objective import joined
from resnet_keras.surgery.cloning import clone
from resnet_keras.training import classification, detection, inputs, localization, mask_training
from resnet_keras.training.continuation import Continuation
from resnet_keras.training.model import build_network
from resnet_keras.training.state import TrainingState
from resnet_keras.weights.imported import ImportedWeights, import_arrays
from resnet_keras.weights.keras_file import arrays_of_model

CONVENTIONS = Conventions(bottleneck_stride="1x1", padding="same_tf", epsilon=0.1)  # the stride as a file may have it
LITTLE = FOUR_STAGES.replace(repeats=(1, 1, 1, 1))
FOREIGN = LITTLE.replace(bottleneck_stride="3x3", padding="same_tf")
NAMES = ("red", "green", "blue")
SIZE = (64, 64)

COMMON = {"weights": "x", "bottleneck_stride": "3x3", "freeze": None, "freeze_batch_norms": False}
BOXES = {"canvas": SIZE, "pyramid_channels": 8, "box_units": 8, "train_proposals": 20, "test_proposals": 10}
RECIPES_OF = {
    "classification": RECIPES["finetune"].replace(**COMMON, train_sizes=(32, 64)),
    "localization": RECIPES["localization"].replace(**COMMON),
    "fpn": RECIPES["finetune_detector"].replace(**COMMON, **BOXES, anchor_sizes=(8, 16, 24, 32, 48)),
    "c4": RECIPES["finetune_detector"].replace(**COMMON, **BOXES, detector="c4", anchor_sizes=(16, 32)),
    **{head: RECIPES["segmentation"].replace(**COMMON, head=head) for head in ("fcn", "deeplabv3")},
    "unet": RECIPES["segmentation"].replace(**COMMON, head="unet", output_stride=None),
}


@pytest.fixture(scope="module", autouse=True)
def little() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "little", LITTLE)
        yield


@pytest.fixture(scope="module")
def backbone() -> ImportedWeights:
    """Weights of a backbone with the strides, the padding, and the epsilon of another library."""
    return weights_of(drawn(build(FOREIGN, include_top=False)))


SLOW_C4 = pytest.param("c4", marks=pytest.mark.slow)


def weights_of(model: keras.Model) -> ImportedWeights:
    return import_arrays(arrays_of_model(model), "x", conventions=CONVENTIONS)


def run_of(name: str, weights: ImportedWeights, **changes: Any) -> Any:
    preprocessing = Preprocessing(image_size=SIZE, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    recipe = RECIPES_OF[name].replace(model="little", **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "open_weights", lambda *args, **options: weights)
        found = inputs.initial_weights(recipe)
    return SimpleNamespace(
        recipe=recipe, preprocessing=preprocessing, weights=found, data=SimpleNamespace(class_names=NAMES)
    )


def build_of(name: str, run: Any) -> keras.Model:
    """Returns the network that a run begins with."""
    if name == "classification":
        return build_network(run.recipe, run.preprocessing, len(NAMES), weights=run.weights, any_size=True)
    if name == "localization":
        return localization._network(run)
    if name in ("fpn", "c4"):
        return detection._detector(run)
    return mask_training._build(run, len(NAMES), auxiliary=name != "unet")


def outputs(model: keras.Model, x: np.ndarray) -> list[np.ndarray]:
    sizes = np.int32([SIZE] * len(x))
    found = model({"images": x, "sizes": sizes} if isinstance(model.input, dict) else x, training=False)
    return [np.asarray(each) for each in keras.tree.flatten(found)]


def strides(model: keras.Model) -> list[tuple[int, int]]:
    """Returns the strides of the first two convolutions of conv3_x."""
    layers = {layer.name: layer for layer in flat_layers(model)}
    return [layers[f"stage2_block1_conv{number}"].strides for number in (1, 2)]


def norms(model: keras.Model) -> dict[str, float]:
    kind = keras.layers.BatchNormalization
    return {layer.name: layer.epsilon for layer in flat_layers(model) if isinstance(layer, kind)}


@pytest.mark.filterwarnings("ignore:The classifier of")
@pytest.mark.parametrize("name", ["classification", "localization", "fpn", SLOW_C4])
def test_a_finished_network_computes_what_the_trained_one_does_and_so_does_one_that_goes_on(
    name: str, backbone: ImportedWeights
) -> None:
    run = run_of(name, backbone)
    network = build_of(name, run)
    assert strides(network) == [(1, 1), (2, 2)]  # as the recipe states
    np.testing.assert_array_equal(arrays_of_model(network)["stem_conv/kernel"], backbone.tensors["stem_conv/kernel"])
    drawn(network)
    task: Any = {"classification": classification, "localization": localization}.get(name, detection)
    trained = training_network(network, SIZE, most_boxes=2) if task is detection else network
    finished = task.finished(run, trained)
    assert finished.model.get_layer("stage1_block1_conv1_bn").epsilon == 0.1
    assert (norms(finished.model), strides(finished.model)) == (norms(network), strides(network))
    x = images(1, *SIZE, 3)
    expected = outputs(network, x)
    drawn(network, seed=9)
    TrainingState(trained, None, None, None)._continue(Continuation("a run", finished, [], 1))
    for model in (finished.model, network):  # the trained network, and one that goes on from it
        for one, other in zip(outputs(model, x), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    if name == "classification":
        assert finished.model.input_shape == (None, *SIZE, 3)


def test_a_whole_segmentation_network_starts_and_goes_on_with_a_new_auxiliary_head(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "resnet_keras")
    whole = drawn(FCN(FOREIGN, len(NAMES), input_shape=(*SIZE, 3)))
    for layer in flat_layers(whole):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 0.1
    run = run_of("fcn", weights_of(whole))
    begun = joined(build_of("fcn", run))
    assert strides(begun) == [(1, 1), (2, 2)]
    assert norms(begun)["auxiliary_conv_bn"] == 1e-5
    x = images(1, *SIZE, 3)
    expected, finished = outputs(whole, x)[0], mask_training.finished(run, begun).model
    np.testing.assert_allclose(outputs(finished, x)[0], expected, rtol=1e-5, atol=1e-5)
    trained: Any = SimpleNamespace(model=clone(finished))
    TrainingState(drawn(begun), None, None, None)._continue(Continuation("a run", trained, [], 1))
    np.testing.assert_allclose(outputs(finished, x)[0], expected, rtol=1e-5, atol=1e-5)
    assert "layers that a run does not have begin as in a new run: auxiliary_conv, auxiliary_conv_bn, " in caplog.text


def little_detector(name: str, **changes: Any) -> keras.Model:
    row = DETECTORS[name].replace(channels=8, **changes)
    return FasterRCNN(LITTLE, len(NAMES), detector=row, input_shape=(*SIZE, 3))


OTHERS = {
    "localization": partial(LocalizationNetwork, LITTLE, len(NAMES), input_shape=(*SIZE, 3)),
    "fpn": partial(little_detector, "fpn", box_units=8),
    "fpn_v2": partial(little_detector, "fpn_v2", box_units=8),
    "c4": partial(little_detector, "c4", anchor_sizes=((16, 32),)),
    "fcn": partial(FCN, LITTLE, len(NAMES), input_shape=(*SIZE, 3)),
    "deeplabv3": partial(DeepLabV3, LITTLE, len(NAMES), input_shape=(*SIZE, 3)),
    "unet": partial(UNet, LITTLE, len(NAMES), input_shape=(*SIZE, 3)),
}


def test_weights_of_a_whole_network_are_those_with_its_own_head() -> None:
    signs = {
        **mask_training._HEAD_LAYERS,
        "localization": localization._HEAD_LAYERS,
        **{name: detection._head_layers(DETECTORS[name]) for name in DETECTORS},
    }
    for name, make in OTHERS.items():
        with shapes_only():
            model = make()
        arrays = {
            f"{layer.name}/{weight.name}": np.broadcast_to(np.float32(0.5), weight.shape)
            for layer in flat_layers(model)
            for weight in layer.weights
        }
        found = import_arrays(arrays, name)
        assert [kind for kind, layers in signs.items() if found.has_head(layers)] == [name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "other"),
    [("unet", "localization"), ("unet", "fpn"), ("fcn", "unet"), ("localization", "fpn"), ("fpn", "c4")],
)
def test_of_weights_with_another_head_the_backbone_is_taken(
    name: str, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = drawn(OTHERS[other]())
    weights = import_arrays(arrays_of_model(source), "a file")
    network = build_of(name, run_of(name, weights))
    for one, own in (("stage4_block1_conv3", "kernel"), ("stem_conv_bn", "moving_mean")):
        layers = [{layer.name: layer for layer in flat_layers(model)} for model in (network, source)]
        values = [np.asarray(getattr(each[one], own)) for each in layers]
        np.testing.assert_array_equal(*values)
    assert "a file: passed over, without a place in the network: " in caplog.text
    assert {"unet": "decoder1_conv1", "fpn": "fpn_", "c4": "rpn_", "localization": "box_"}[other] in caplog.text
