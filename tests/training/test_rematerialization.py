"""Gradient checkpointing: the same training, bit for bit, in less memory."""

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.little_steps import largest_difference, of, run
from helpers.short_recipes import EVERYTHING
from helpers.small_networks import TWO_STAGES, images
from helpers.two_devices import run_on_two_devices

from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.layers.keras_internals import patch_methods
from resnet_keras.layers.traversal import flat_layers
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.builder import build
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.runs.checkpoints import Checkpoints
from resnet_keras.surgery.freezing import freeze
from resnet_keras.surgery.quantization import calibrate, quantize
from resnet_keras.training import rematerialization
from resnet_keras.training.distillation import distill_from
from resnet_keras.training.ema import WeightAverage
from resnet_keras.training.model import compile_network
from resnet_keras.training.optimizers import LossScale, MomentumSGD
from resnet_keras.training.rematerialization import groups, rematerialize
from resnet_keras.training.run_plan import memory
from resnet_keras.training.train_step import SkipNonFiniteSteps, accumulate_gradients
from resnet_keras.training.trainer import train

LITTLE = Architecture(stem="cifar", block="basic", repeats=(2, 2), widths=(4, 8), shortcut="A", stochastic_depth=0.5)
BOTTLENECKS = replace(LITTLE, block="bottleneck", repeats=(1, 2), shortcut="B", activation="before", se_reduction=2)
PLAIN = replace(LITTLE, shortcut=None, stochastic_depth=0.0)
SIDE = 8


def network(architecture: Architecture = LITTLE, *, policy: str = "float32", side: int | None = SIDE) -> keras.Model:
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    try:
        return build(architecture, classes=3, input_shape=(side, side, 3), classifier_activation=None)
    finally:
        keras.config.set_dtype_policy("float32")


def fitted(
    model: keras.Model, recomputed: bool, step: Callable[[keras.Model], Any] | None = None, *, half: bool = False
) -> list[np.ndarray]:
    """Trains two steps and validates; returns weights, statistics, seeds, momenta, scale, loss and metrics."""
    keras.utils.set_random_seed(1)
    optimizer: Any = MomentumSGD(learning_rate=0.05, momentum=0.9)
    model.compile(
        LossScale(optimizer) if half else optimizer,
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.CategoricalAccuracy()],
    )
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(None, keras.ops.zeros((1, 3)), keras.ops.zeros((1, 3)))
    model.reset_metrics()
    pixels, labels = images(16, SIDE, SIDE, 3), np.eye(3)[np.arange(16) % 3]
    with (
        rematerialize(model) if recomputed else nullcontext(),
        patch_methods(model, **({"train_step": step(model)} if step else {})),
    ):
        history = model.fit(
            pixels, labels, batch_size=8, shuffle=False, verbose=0, validation_data=(pixels, labels)
        ).history
    return [*of([*model.variables, *model.optimizer.variables]), *map(np.asarray, history.values())]


def check_same(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


# The same training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "policy"),
    [
        (LITTLE, "float32"),
        pytest.param(BOTTLENECKS, "mixed_float16", marks=pytest.mark.slow),
        pytest.param(PLAIN, "mixed_bfloat16", marks=pytest.mark.slow),
    ],
)
def test_training_is_the_same_bit_for_bit(architecture: Architecture, policy: str) -> None:
    model = network(architecture, policy=policy)
    begun = of(model.variables)
    half = policy == "mixed_float16"
    wanted = fitted(model, False, half=half)
    assert largest_difference(begun, wanted[: len(begun)]) > 1e-3
    check_same(fitted(network(architecture, policy=policy), True, half=half), wanted)


def all_of_them(model: keras.Model) -> Any:
    average = WeightAverage(model, 0.9)
    teacher = network(replace(LITTLE, stochastic_depth=0.0))
    return SkipNonFiniteSteps(model, average.variables).guard(
        average.after(distill_from(teacher, accumulate_gradients(model, 2)))
    )


@pytest.mark.slow
def test_steps_of_our_own_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network of nested models, for images of any size."""
    monkeypatch.setattr("resnet_keras.networks.builder.SEGMENT_BLOCKS", 2)
    found = []
    for recomputed in (False, True):
        model = network(replace(TWO_STAGES, stochastic_depth=0.3), side=None)
        assert sum(isinstance(layer, keras.Model) for layer in model.layers) == 3
        found.append(fitted(model, recomputed, all_of_them))
    check_same(*found)


@pytest.mark.slow
def test_where_normalizations_rest_training_is_the_same_to_rounding() -> None:
    """TensorFlow makes one kernel of a convolution and what follows it, in the first pass alone."""
    found = []
    for recomputed in (False, True):
        model = network()
        freeze(model, "stage1", batch_norms=True)
        frozen = of(model.get_layer("stage1_block2_conv2").weights)
        found.append(fitted(model, recomputed))
        check_same(of(model.get_layer("stage1_block2_conv2").weights), frozen)
    assert largest_difference(*found) < 1e-5


@pytest.mark.slow
def test_a_network_that_learns_to_round_is_the_same() -> None:
    found = []
    for recomputed in (False, True):
        model = quantize(network(replace(LITTLE, stochastic_depth=0.0)))
        calibrate(model, [images(8, SIDE, SIDE, 3)])
        found.append(fitted(model, recomputed))
    check_same(*found)


def test_a_network_is_what_it_was_afterwards() -> None:
    model, pixels = network(), images(2, SIDE, SIDE, 3)
    config, nodes = model.to_json(), [len(layer._inbound_nodes) for layer in model.layers]
    outputs = model(pixels, training=False)
    with rematerialize(model):
        np.testing.assert_array_equal(model(pixels, training=False), outputs)  # of the moving statistics
        with pytest.raises(AssertionError):
            np.testing.assert_array_equal(model(pixels, training=True), outputs)
        inside = model.to_json()
    assert "call" not in vars(model)
    assert inside == model.to_json() == config
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes


TWO_DEVICES = """
import json
from dataclasses import replace
from resnet_keras.distributed import strategy as distribution
strategy = distribution.create_strategy(2)
from training.test_rematerialization import LITTLE, images, largest_difference, network, np, of, rematerialize
import keras, tensorflow as tf
from contextlib import nullcontext

copies = distribution.replica_values(strategy)
found = {}
for kind in ("per_replica", "synchronized"):
    states = []
    for recomputed in (False, True):
        with strategy.scope():
            model = network(replace(LITTLE, repeats=(1, 1), batch_norm=kind))
            begun = of(model.variables)
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        batches = tf.data.Dataset.from_tensor_slices((images(16, 8, 8, 3), np.arange(16) % 3)).batch(8)
        with rematerialize(model) if recomputed else nullcontext():
            model.fit(batches, shuffle=False, verbose=0)
        variables = [*model.variables, *model.optimizer.variables]
        states.append([copy.numpy() for variable in variables for copy in copies(variable)])
    found[kind] = [largest_difference(*states), largest_difference(begun, of(model.variables))]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_two_devices_train_the_same_bit_for_bit() -> None:
    found = json.loads(run_on_two_devices(TWO_DEVICES))
    for kind in ("per_replica", "synchronized"):
        difference, moved = found[kind]
        assert difference == 0
        assert moved > 1e-3


@pytest.mark.slow
def test_a_run_is_the_same_and_so_is_its_file_and_it_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "little", replace(LITTLE, stochastic_depth=0.0))
    recipe = EVERYTHING.replace(model="little", test_flip=False)
    wanted = train(recipe, tmp_path / "plain")
    recipe = recipe.replace(rematerialize=True)
    save, done = Checkpoints.save, []

    def interrupted(self: Checkpoints, *args: Any) -> None:
        save(self, *args)
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "recomputed", checkpoint_steps=2)
    assert train(recipe, tmp_path / "recomputed", checkpoint_steps=2) == wanted
    files = [tmp_path / name / "model.keras" for name in ("recomputed", "plain")]
    one, other = (keras.saving.load_model(file, compile=False) for file in files)
    check_same(of(one.weights), of(other.weights))
    assert [(type(layer), layer.name) for layer in one.layers] == [(type(layer), layer.name) for layer in other.layers]


# Less memory --------------------------------------------------------------------------------------------------------

PEAK = """
import json, sys
from contextlib import nullcontext
from training.test_rematerialization import Architecture, build, images, np, rematerialize

model = build(
    Architecture(stem="cifar", block="basic", repeats=(16,), widths=(16,), shortcut="A"),
    classes=3, input_shape=(32, 32, 3),
)
model.compile("sgd", "sparse_categorical_crossentropy")

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 2**10

before = peak()
with rematerialize(model) if RECOMPUTED else nullcontext():
    model.fit(images(256, 32, 32, 3), np.arange(256) % 3, batch_size=256, shuffle=False, verbose=0)
print(json.dumps(peak() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_falls_by_what_need_not_be_kept() -> None:
    kept, recomputed = (run(PEAK.replace("RECOMPUTED", str(recomputed))) for recomputed in (False, True))
    tensor = 256 * 32 * 32 * 16 * 4 / 2**20
    # Of 16 blocks four tensors each; or the inputs of 8 groups, and two blocks.
    assert kept - recomputed > 0.75 * (4 * 16 - (8 + 4 * 2)) * tensor


@pytest.mark.slow
def test_xla_does_not_take_the_second_pass_for_the_first() -> None:
    model = network(replace(LITTLE, repeats=(1, 1), shortcut="B", stochastic_depth=0.0))
    pixels = tf.constant(images(4, SIDE, SIDE, 3))

    def convolutions() -> int:
        @tf.function(jit_compile=True)
        def gradients() -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(pixels, training=True) ** 2)
            return tape.gradient(loss, [weight.value for weight in model.trainable_variables])

        return gradients.experimental_get_compiler_ir()(stage="optimized_hlo").count(" convolution(")

    kept = convolutions()
    with rematerialize(model):
        recomputed = convolutions()
    assert kept >= 3 * 6 - 1  # forward, and backward twice but for the image
    assert recomputed - kept >= 6 - 2  # each once more, but for what only the outputs of the groups' last layers need


@pytest.mark.slow
def test_the_plan_guesses_less_memory() -> None:
    unit = Preprocessing(image_size=(SIDE, SIDE), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    kept, recomputed = (
        memory(compile_network(recipe, unit, 10, 1), recipe, 1)
        for recipe in (
            RECIPES["cifar10"].replace(model="resnet56", rematerialize=recomputed, image_size=SIDE, pad_pixels=1)
            for recomputed in (False, True)
        )
    )
    assert recomputed[0] == kept[0]
    assert recomputed[1] < 0.35 * kept[1]


# Groups of blocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segment", [2, 100])
@pytest.mark.parametrize("architecture", [TWO_STAGES, BOTTLENECKS, PLAIN])
def test_each_layer_is_in_one_group_and_each_block_in_one_piece(
    architecture: Architecture, segment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_keras.networks.builder.SEGMENT_BLOCKS", segment)
    model = network(architecture)
    parts, head = groups(model)
    pieces = [piece for part in parts for piece in part]
    layers = [layer for piece in [*pieces, head] for layer in piece.layers]
    of_model = [layer for layer in flat_layers(model) if not isinstance(layer, keras.layers.InputLayer)]
    assert sorted(layer.name for layer in layers) == sorted(layer.name for layer in of_model)
    assert {"pool", "logits"} <= {layer.name for layer in head.layers}
    blocks = [{name[0] for layer in piece.layers if (name := re.match(r"stage\d+_block\d+", layer.name))}
              for piece in pieces]  # fmt: skip
    assert [len(found) for found in blocks if found] == [1] * sum(architecture.repeats)


def test_groups_of_equal_blocks_are_of_the_square_root() -> None:
    cuts = rematerialization._cuts([1.0] * 100)
    assert cuts == list(range(0, 101, 5))  # 100 / n + 4 n is least at n = 5


@pytest.mark.parametrize("sizes", [[4.0] * 5 + [2.0] * 4 + [1.0] * 4, [8.0, 1.0, 1.0, 8.0, 1.0], [1.0]])
def test_groups_keep_nearly_as_little_as_any_could(sizes: list[float]) -> None:
    def kept(cuts: tuple[int, ...]) -> float:
        largest = max(sum(sizes[start:end]) for start, end in itertools.pairwise(cuts))
        return sum(sizes[cut - 1] for cut in cuts[1:]) + rematerialization._KEPT * largest

    inner = range(1, len(sizes))
    least = min(kept((0, *cuts, len(sizes))) for n in range(len(sizes)) for cuts in itertools.combinations(inner, n))
    assert kept(tuple(rematerialization._cuts(sizes))) <= 1.1 * least


# What is refused ----------------------------------------------------------------------------------------------------


def test_a_network_without_blocks_is_refused() -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs), name="mine")
    with pytest.raises(ValueError, match=r"with layers stage1_block1_\.\.\. Received: 'mine'"), rematerialize(model):
        pass


def test_other_backends_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    wanted = "KERAS_BACKEND=tensorflow or jax to rematerialize. Received: openvino"
    with pytest.raises(ValueError, match=wanted), rematerialize(network()):
        pass


# JAX ----------------------------------------------------------------------------------------------------------------

ON_JAX = """
import sys
import numpy as np, keras
from pathlib import Path
from resnet_keras.networks.architecture import Architecture
from resnet_keras.networks.catalog import ARCHITECTURES
from resnet_keras.recipes.catalog import RECIPES
from resnet_keras.training.trainer import train
ARCHITECTURES["little"] = Architecture(
    stem="cifar", block="basic", repeats=(2, 1), widths=(4, 8), shortcut="B", stochastic_depth=0.5
)
recipe = RECIPES["digits"].replace(model="little", epochs=1, batch_size=128, train_images=512)
results = []
for recomputed in (False, True):
    folder = Path(sys.argv[1]) / str(recomputed)
    train(recipe.replace(rematerialize=recomputed), folder)
    results.append(keras.saving.load_model(folder / "model.keras", compile=False).get_weights())
print(max(float(np.abs(a - b).max()) for a, b in zip(*results)))
"""


@pytest.mark.slow
def test_jax_trains_the_same_to_rounding(tmp_path: Path) -> None:
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ON_JAX, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 1e-5
