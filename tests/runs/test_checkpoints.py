"""Checkpoints: complete or absent, with all that training needs to resume."""

import errno
import io
import json
import os
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from resnet_keras.runs.checkpoints import Checkpoints, Progress, metric_variables, training_variables
from resnet_keras.training.inputs import precision
from resnet_keras.training.optimizers import Lamb, MomentumSGD


def itself(variable: keras.Variable) -> Sequence:
    return [variable]


def compiled(seed: int, optimizer: str = "sgd", policy: str = "float32", width: int = 4) -> keras.Model:
    """Returns a network with batch normalization and dropout, whose random states depend on `seed`."""
    keras.utils.set_random_seed(seed)
    with precision(policy):
        layers = keras.layers
        network = keras.Sequential(
            [
                keras.Input((6, 6, 2)),
                layers.Conv2D(width, 3, name="conv"),
                layers.BatchNormalization(name="bn"),
                layers.Dropout(0.5),  # Keras names it, otherwise each time
                layers.Flatten(),
                layers.Dense(3, dtype="float32", name="logits"),
            ],
            name="network",
        )
        chosen = (
            Lamb(decay=0.1, learning_rate=0.01)
            if optimizer == "lamb"
            else MomentumSGD(l2=0.01, learning_rate=0.1, momentum=0.9)
        )
        network.compile(
            chosen,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        network.optimizer.build(network.trainable_variables)
    return network


def learn(network: keras.Model, steps: range) -> None:
    for step in steps:
        rng = np.random.default_rng(step)
        network.train_on_batch(rng.normal(size=(8, 6, 6, 2)).astype(np.float32), rng.integers(0, 3, 8))


def values(variables: dict[str, keras.Variable]) -> dict[str, np.ndarray]:
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in variables.items()}


def assert_equal(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
        assert found[name].dtype == value.dtype


KINDS = [("sgd", "float32"), ("lamb", "float32"), ("sgd", "mixed_float16"), ("lamb", "mixed_float16")]


@pytest.mark.parametrize(
    ("optimizer", "policy"), [KINDS[0], *(pytest.param(*kind, marks=pytest.mark.slow) for kind in KINDS[1:])]
)
def test_another_network_continues_as_the_one_that_was_saved(tmp_path: Path, optimizer: str, policy: str) -> None:
    one, other = (compiled(seed, optimizer, policy) for seed in (0, 1))
    assert type(one.optimizer) is keras.optimizers.LossScaleOptimizer or policy == "float32"
    learn(one, range(3))
    learn(other, range(10, 12))
    checkpoints = Checkpoints(tmp_path, itself)
    checkpoints.save(Progress(step=3), training_variables(one) | metric_variables(one))
    wanted = values(training_variables(one) | metric_variables(one))
    names = " ".join(wanted)
    assert all(part in names for part in ("kernel", "moving_mean", "seed_generator_state", "iteration"))
    assert "dynamic_scale" in names or policy == "float32"

    found = checkpoints.read()
    assert found is not None
    checkpoints.restore(found[1], training_variables(other) | metric_variables(other))
    assert_equal(values(training_variables(other) | metric_variables(other)), wanted)
    for network in (one, other):
        learn(network, range(3, 6))
    assert_equal(
        values(training_variables(other) | metric_variables(other)),
        values(training_variables(one) | metric_variables(one)),
    )


def test_two_networks_of_a_process_have_the_same_names() -> None:
    one, other = compiled(0), compiled(1)
    assert one.layers[2].name != other.layers[2].name
    assert list(training_variables(one)) == list(training_variables(other))
    assert list(metric_variables(one)) == list(metric_variables(other))
    assert len(set(training_variables(one))) == len(one.variables) + len(one.optimizer.variables)


def test_what_else_a_run_keeps_is_saved_under_its_place() -> None:
    more = [keras.Variable(1.0, name="average_0"), keras.Variable(2, dtype="int64", name="steps")]
    named = training_variables(compiled(0), more)
    assert list(named)[-2:] == ["others/0/average_0", "others/1/steps"]


def test_progress_is_restored(tmp_path: Path) -> None:
    progress = Progress(
        step=25,
        history=[{"epoch": 1, "loss": 0.1 + 0.2, "val_accuracy": 1 / 3}, {"epoch": 2, "loss": float("inf")}],
        seconds=1.25,
        logs={"loss": 1e-30},
    )
    checkpoints = Checkpoints(tmp_path, itself)
    checkpoints.save(progress, {"x": keras.Variable(1.0)})
    found = checkpoints.read()
    assert found is not None
    assert found[0] == progress
    assert Progress().history is not Progress().history


def test_a_checkpoint_holds_arrays_and_text_and_nothing_that_is_executed(tmp_path: Path) -> None:
    network = compiled(0)
    Checkpoints(tmp_path, itself).save(Progress(step=7), training_variables(network))
    (folder,) = tmp_path.iterdir()
    assert {file.name for file in folder.iterdir()} == {"state.safetensors", "progress.json"}
    content = (folder / "state.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert {name.rpartition("#")[0] for name in header if name != "__metadata__"} == set(training_variables(network))
    assert json.loads((folder / "progress.json").read_text())["step"] == 7


def saved(path: Path, steps: Sequence[int]) -> Checkpoints:
    """Returns checkpoints at some steps, of a variable that is the step."""
    checkpoints = Checkpoints(path, itself)
    for step in steps:
        checkpoints.save(Progress(step=step), {"x": keras.Variable(float(step))})
    return checkpoints


def step_of(checkpoints: Checkpoints) -> int | None:
    """Returns the step of the checkpoint that is read, making sure that its parts belong together."""
    found = checkpoints.read()
    if found is None:
        return None
    assert found[1]["x#0"] == found[0].step
    return found[0].step


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, [8, 9, 10, 100])
    assert names(tmp_path) == ["step_000000010", "step_000000100"]
    assert checkpoints.last() == 100
    assert step_of(checkpoints) == 100


def test_without_any_there_is_none(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "none", itself)
    assert checkpoints.last() is None
    assert checkpoints.read() is None


def test_a_step_that_is_saved_again_is_the_new_one(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, [3, 6])
    checkpoints.save(Progress(step=6, seconds=2.0), {"x": keras.Variable(6.0)})
    found = checkpoints.read()
    assert found is not None
    assert found[0].seconds == 2.0
    assert names(tmp_path) == ["step_000000003", "step_000000006"]


def truncated(folder: Path) -> None:
    file = folder / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def emptied(folder: Path) -> None:
    (folder / "state.safetensors").write_bytes(b"")


def flipped(folder: Path) -> None:
    file = folder / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def without_progress(folder: Path) -> None:
    (folder / "progress.json").unlink()


def without_state(folder: Path) -> None:
    (folder / "state.safetensors").unlink()


def progress_of(text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "progress.json").write_text(text)

    return damage


def changed_progress(**fields: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / "progress.json"
        content = json.loads(file.read_text()) | fields
        file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return damage


def not_utf8(folder: Path) -> None:
    file = folder / "progress.json"
    file.write_bytes(b"\xff" + file.read_bytes())


DAMAGES = {
    "truncated": truncated,
    "emptied": emptied,
    "flipped": flipped,
    "without progress": without_progress,
    "without state": without_state,
    "half a JSON": progress_of('{"step": 6, '),
    "an empty JSON": progress_of(""),
    "a JSON of something else": progress_of("[6]"),
    "a JSON of nothing": progress_of("null"),
    "not UTF-8": not_utf8,
    "a wrong sum": changed_progress(sha256="0" * 64),
    "no sum": changed_progress(sha256=None),
    "an unknown field": changed_progress(other=1),
}


def test_a_damaged_one_is_skipped_with_a_warning_and_the_one_before_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, damage in DAMAGES.items():
        checkpoints = saved(tmp_path / name, [3, 6])
        damage(tmp_path / name / "step_000000006")
        caplog.clear()
        assert step_of(checkpoints) == 3, name
        assert len(caplog.messages) == 1, name
        assert "step_000000006 is damaged and is skipped: " in caplog.messages[0], name
        assert caplog.records[0].levelname == "WARNING", name
        damage(tmp_path / name / "step_000000003")
        caplog.clear()
        assert step_of(checkpoints) is None, name
        assert len(caplog.messages) == 2, name


def test_progress_that_was_changed_is_damaged_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = saved(tmp_path, [3, 6])
    changed_progress(step=7)(tmp_path / "step_000000006")
    assert step_of(checkpoints) == 3
    assert "is damaged and is skipped" in caplog.messages[0]


def test_a_damaged_one_counts_for_none_of_the_two(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, [3, 9])
    truncated(tmp_path / "step_000000009")
    assert step_of(checkpoints) == 3
    for step in (5, 7):
        checkpoints.save(Progress(step=step), {"x": keras.Variable(float(step))})
    assert checkpoints.last() == 7
    truncated(tmp_path / "step_000000007")
    assert step_of(checkpoints) == 5


def test_a_damaged_one_is_replaced_when_its_step_comes_again(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, [3, 6])
    truncated(tmp_path / "step_000000006")
    checkpoints.save(Progress(step=6), {"x": keras.Variable(6.0)})
    assert step_of(checkpoints) == 6


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Returns a function after which a file's first half can be written."""
    write = Path.write_bytes

    def fail(path: Path, data: Any) -> int:
        write(path, bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    return lambda: monkeypatch.setattr(Path, "write_bytes", fail)


def test_a_full_disk_keeps_earlier_checkpoints(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    checkpoints = saved(tmp_path, [3, 6])
    full_disk()
    wanted = (
        r"Expected to write .*step_000000009\. Received: No space left on device; the last checkpoint is from step 6"
    )
    with pytest.raises(OSError, match=wanted) as caught:
        checkpoints.save(Progress(step=9), {"x": keras.Variable(9.0)})
    assert caught.value.errno == errno.ENOSPC
    assert names(tmp_path) == ["step_000000003", "step_000000006"]
    assert step_of(checkpoints) == 6


_CALLS = ("mkdir", "open", "rename", "replace", "rmdir", "unlink", "fsync", "scandir", "chmod", "lstat", "stat")


class _Dead(BaseException):
    """Ends a process: nothing that would tidy up is done."""


def faulty(patch: pytest.MonkeyPatch, number: int, fault: int | None) -> list[str]:
    """Makes the call to the file system of that number fail; with `None`, it and all later ones raise `_Dead`.

    Returns:
        The names of the calls so far.
    """
    calls: list[str] = []

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == number and fault is not None:
                raise OSError(fault, os.strerror(fault))
            if len(calls) >= number and fault is None:
                raise _Dead
            return call(*arguments, **options)

        return counted

    for name in _CALLS:
        patch.setattr(os, name, wrapped(name, getattr(os, name)))
    patch.setattr(io, "open", wrapped("io.open", io.open))
    return calls


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [errno.ENOSPC, errno.EIO, errno.EACCES, None], ids=["full", "broken", "denied", "dead"]
)
def test_a_fault_at_any_call_of_a_save_leaves_a_whole_checkpoint(tmp_path: Path, fault: int | None) -> None:
    outcomes, number = Counter[str](), 0
    while not outcomes["undisturbed"]:
        number += 1
        checkpoints = saved(tmp_path / str(number), [3, 6])
        with pytest.MonkeyPatch.context() as patch:
            calls = faulty(patch, number, fault)
            try:
                checkpoints.save(Progress(step=9), {"x": keras.Variable(9.0)})
                outcomes["saved" if len(calls) >= number else "undisturbed"] += 1
            except (OSError, _Dead):
                outcomes["failed"] += 1
        assert step_of(checkpoints) in (6, 9)
        assert step_of(saved(tmp_path / str(number), [12])) == 12
        assert names(tmp_path / str(number)) in (
            [f"step_{step:09d}" for step in (6, 12)],
            [f"step_{step:09d}" for step in (9, 12)],
        )
    print(fault, outcomes)
    assert number > 44
    assert outcomes["failed"] > 20


def test_a_disk_that_is_full_from_the_beginning_creates_nothing(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    full_disk()
    checkpoints = Checkpoints(tmp_path / "checkpoints", itself)
    with pytest.raises(OSError, match="there is no checkpoint yet, and the same command resumes the run"):
        checkpoints.save(Progress(step=9), {"x": keras.Variable(9.0)})
    assert names(tmp_path / "checkpoints") == []


def test_a_step_that_cannot_be_saved_again_stays_as_it_was(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    checkpoints = saved(tmp_path, [6])
    full_disk()
    with pytest.raises(OSError, match="the last checkpoint is from step 6"):
        checkpoints.save(Progress(step=6, seconds=2.0), {"x": keras.Variable(6.0)})
    assert step_of(checkpoints) == 6


def test_a_folder_that_cannot_be_written_to_raises(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(OSError, match=r"Expected to write .*step_000000001\. Received: .*no checkpoint yet"):
        saved(tmp_path / "checkpoints", [1])


def test_a_missing_variable_and_another_shape_are_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, itself)
    little, large = compiled(0), compiled(0, width=5)
    checkpoints.save(Progress(step=1), training_variables(little))
    found = checkpoints.read()
    assert found is not None
    with pytest.raises(ValueError, match=r"model/0/kernel of shape \(3, 3, 2, 5\) in .*Received: \(3, 3, 2, 4\)"):
        checkpoints.restore(found[1], training_variables(large))
    with pytest.raises(ValueError, match=r"others/0/more of shape \(\) in .*Received: none"):
        checkpoints.restore(found[1], training_variables(little, [keras.Variable(0.0, name="more")]))
    with pytest.raises(ValueError, match=r"Expected optimizer/.*Received"):
        checkpoints.restore(found[1], training_variables(compiled(0, "lamb")))
    checkpoints.restore({**found[1], "unknown#0": np.zeros(1)}, training_variables(little))


class Copied:
    """A variable of which every replica has its own copy."""

    shape = (2,)

    def __init__(self, *values: list[float], dtype: str = "float32") -> None:
        self.copies = [keras.Variable(value, dtype=dtype) for value in values]

    def values(self) -> list[list[float]]:
        """Returns those of each copy."""
        return [copy.numpy().tolist() for copy in self.copies]


def replicas(variable: Any) -> Sequence:
    return variable.copies


def restored(tmp_path: Path, before: Copied, after: Copied) -> list[list[float]]:
    checkpoints = Checkpoints(tmp_path, replicas)
    checkpoints.save(Progress(), {"x": before})  # type: ignore[dict-item]
    found = checkpoints.read()
    assert found is not None
    checkpoints.restore(found[1], {"x": after})  # type: ignore[dict-item]
    return after.values()


def test_as_many_replicas_as_before_get_their_own_copies_back(tmp_path: Path) -> None:
    assert restored(tmp_path, Copied([1, 2], [3, 6]), Copied([0, 0], [0, 0])) == [[1, 2], [3, 6]]


def test_other_numbers_of_replicas_get_the_mean(tmp_path: Path) -> None:
    before = Copied([1, 2], [3, 6])
    assert restored(tmp_path / "fewer", before, Copied([0, 0])) == [[2, 4]]
    assert restored(tmp_path / "more", before, Copied(*[[0, 0]] * 3)) == [[2, 4]] * 3
    whole = Copied([4, 5], [4, 5], dtype="int64")
    assert restored(tmp_path / "whole", whole, Copied([0, 0], dtype="int64")) == [[4, 5]]
