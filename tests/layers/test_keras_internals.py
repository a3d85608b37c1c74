"""The private names of Keras: which there are, and that no other module uses one."""

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import resnet_keras
from resnet_keras.layers import keras_internals as internals
from resnet_keras.layers.keras_internals import zero_initial_weights

PACKAGE = Path(resnet_keras.__file__).parent
OF_LITERT = {"_get_ops_details"}  # of its interpreter


def built(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> Any:
    optimizer.build(model.trainable_variables)
    return optimizer


def peeked() -> Any:
    """Returns what Keras makes of a generator in `fit`; see `running_fit`, whose callers test the rest."""
    from keras.src.trainers.data_adapters.generator_data_adapter import GeneratorDataAdapter

    return GeneratorDataAdapter(each for each in [(np.zeros((1, 2)),)])


# What a release of Keras must have. A name that is missing fails the test that is called like it.
NAMES = {
    "KerasTensor._keras_history": lambda model: model.output._keras_history,
    "Operation._inbound_nodes": lambda model: model.layers[1]._inbound_nodes,
    "Operation._outbound_nodes": lambda model: model.layers[1]._outbound_nodes,
    "Node.operation": lambda model: model.layers[1]._inbound_nodes[0].operation,
    "Node.input_tensors": lambda model: model.layers[1]._inbound_nodes[0].input_tensors,
    "Operation.input": lambda model: keras.Operation.input.fget(model.layers[1]),
    "Operation.output": lambda model: keras.Operation.output.fget(model.layers[1]),
    "Layer._trainable_variables": lambda model: model.layers[1]._trainable_variables,
    "Trainer._loss_tracker": lambda model: model._loss_tracker.update_state,
    "Trainer._symbolic_build": lambda model: model._symbolic_build,
    "Trainer._maybe_symbolic_build": lambda model: internals.trainer_functions()[0].__call__,
    "trainer.reduce_per_replica": lambda model: internals.trainer_functions()[1].__call__,
    "Optimizer._use_weight_decay": lambda model: model.optimizer._use_weight_decay,
    "Optimizer._get_variable_index": lambda model: model.optimizer._get_variable_index,
    "Optimizer._clip_gradients": lambda model: model.optimizer._clip_gradients.__call__,
    "SGD.momentums": lambda model: built(keras.optimizers.SGD(momentum=0.9), model).momentums[0],
    "Lamb._momentums": lambda model: built(keras.optimizers.Lamb(), model)._momentums[0],
    "Lamb._velocities": lambda model: built(keras.optimizers.Lamb(), model)._velocities[0],
    "GeneratorDataAdapter._first_batches": lambda model: peeked()._first_batches,
    "Trainer.train_function": lambda model: model.train_function,
    "Trainer.test_function": lambda model: model.test_function,
}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Returns a compiled model that calls one layer twice, with a frozen one and a nested one."""
    inputs = keras.Input((2,), name="pixels")
    shared = keras.layers.Dense(2, name="shared")
    inside = keras.Input((2,))
    inner = keras.Model(inside, keras.layers.Dense(2)(inside), name="inner")
    outputs = keras.layers.BatchNormalization(name="norm", trainable=False)(inner(shared(shared(inputs))))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", metrics=["mae"])
    return model


@pytest.mark.parametrize("name", NAMES)
def test_keras_has(name: str, model: keras.Model) -> None:
    if keras.backend.backend() != "tensorflow" and name in (
        "Trainer._maybe_symbolic_build",
        "trainer.reduce_per_replica",
    ):
        pytest.skip("only the trainer of TensorFlow")
    NAMES[name](model)


def private(node: ast.AST) -> str | None:
    """Returns the private name that a node reads from an object, or holds as a string."""
    name = node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(node, ast.Constant) else None
    return name if isinstance(name, str) and name.startswith("_") and name.isidentifier() else None


def defined(tree: ast.AST) -> set[str]:
    """Returns the names of functions, classes, variables and attributes that a module defines."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Store):
            names.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    return names


def test_no_other_module_uses_a_private_name_that_the_package_does_not_define() -> None:
    trees = {path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    here = trees.pop(Path("layers/keras_internals.py"))
    of_keras = {name for node in ast.walk(here) if (name := private(node))} - {"__module__", "__name__"}
    assert len(of_keras) >= 7
    own = set().union(*map(defined, trees.values()))
    found = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            name = private(node)
            foreign = isinstance(node, ast.Attribute) and name not in own | OF_LITERT and not str(name).startswith("__")
            renamed = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == "__module__"
            untracked = name in ("__setattr__", "__delattr__") and ast.unparse(node).startswith("object.")
            # A frozen dataclass assigns its own fields so, in `__post_init__`.
            if ((name and foreign) or name in of_keras or renamed) and not untracked:
                found.append(f"{path}:{getattr(node, 'lineno', '')} {name or '__module__'}")
    assert not found


def test_producers_and_consumers_are_the_operations_beside_a_tensor(model: keras.Model) -> None:
    shared, inner, norm = (model.get_layer(name) for name in ("shared", "inner", "norm"))
    assert internals.producer(model.output) is norm
    assert internals.producer(model.input) is model.layers[0]
    assert internals.consumers(shared) == [shared, inner]
    assert internals.consumers(norm) == []
    assert [internals.call_count(layer) for layer in (shared, norm)] == [2, 1]
    last = internals.producing_call(internals.outer_input(inner))
    assert last.operation is shared
    assert internals.producing_call(last.input_tensors[0]).input_tensors == [model.input]


def test_input_and_output_of_a_nested_model_are_those_of_its_call(model: keras.Model) -> None:
    inner = model.get_layer("inner")
    assert internals.outer_output(inner) is model.get_layer("norm").input is not inner.output
    assert internals.outer_input(inner) is not inner.input


def test_parameters_of_a_frozen_layer_are_without_its_statistics(model: keras.Model) -> None:
    norm = model.get_layer("norm")
    assert not norm.trainable_variables
    assert internals.parameters(norm) == [norm.gamma, norm.beta]


def test_slots_of_an_optimizer_are_those_of_the_variable(model: keras.Model) -> None:
    second = model.trainable_variables[1]
    sgd, lamb = (built(kind, model) for kind in (keras.optimizers.SGD(momentum=0.9), keras.optimizers.Lamb()))
    assert internals.momentum_of(sgd, second) is sgd.momentums[1]
    assert [moment.shape for moment in internals.moments_of(lamb, second)] == [second.shape, second.shape]
    assert [moment.path.split("_")[-1] for moment in internals.moments_of(lamb, second)] == ["momentum", "velocity"]
    decaying = keras.optimizers.Lamb(weight_decay=0.1)
    decaying.exclude_from_weight_decay([second])
    first, *_ = model.trainable_variables
    built(decaying, model)
    assert [internals.has_weight_decay(decaying, variable) for variable in (first, second)] == [True, False]


def test_the_loss_that_fit_reports_is_a_mean_over_images() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    internals.build_from_batch(model, (np.zeros((2, 1)), np.zeros((2, 1))))
    assert model.optimizer.built
    internals.update_loss(model, 1.0, 3)
    internals.update_loss(model, 5.0, 1)
    assert float(model.get_metrics_result()["loss"]) == 2.0


def test_methods_are_replaced_in_the_context_alone() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

    def first(*args: Any) -> str:
        return "first"

    model.train_function = model.test_function = lambda data: None
    with internals.patch_methods(model, call=first):
        assert model.train_function is model.test_function is None
        with pytest.raises(KeyError), internals.patch_methods(model, call=lambda *args: "second"):
            assert model.call() == "second"
            raise KeyError
        assert model.call is first
    assert "call" not in vars(model)
    with internals.patch_methods(model.layers[0], call=first):
        assert model.layers[0].call() == "first"
    assert "call" not in vars(model.layers[0])


def test_only_a_subclass_with_the_name_of_its_layer_is_saved_as_that_layer() -> None:
    @internals.saved_as_keras_layer
    class Dense(keras.layers.Dense):
        pass

    assert keras.saving.serialize_keras_object(Dense(1))["module"] == "keras.layers"
    for layer in (type("Wide", (keras.layers.Dense,), {}), type("Dense", (keras.layers.ReLU,), {})):
        with pytest.raises(TypeError, match="subclass of the layer of `keras.layers` with its name"):
            internals.saved_as_keras_layer(layer)


def test_initial_weights_are_zeros_in_this_thread_and_context_alone() -> None:
    def kernel() -> np.ndarray:
        layer = keras.layers.Dense(3, kernel_initializer="he_normal")
        layer.build((None, 2))
        return np.asarray(layer.kernel)

    with ThreadPoolExecutor(1) as other, zero_initial_weights():
        assert not kernel().any()
        assert other.submit(kernel).result().all()
    assert kernel().all()
    assert keras.layers.Dense(3).kernel_initializer.__class__ is keras.initializers.GlorotUniform
