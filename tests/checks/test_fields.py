"""Fields that may have one of a few values."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pytest

from resnet_keras.checks.fields import check_counts, check_fields, suggest_arguments

Color = Literal["red", "green"]


@dataclass(frozen=True)
class Lamp:
    """What the tests make."""

    color: Color = "red"
    shade: Color | None = None
    level: Literal[1, 2] = 1
    name: str = "anything"

    def __post_init__(self) -> None:
        check_fields(self)


def test_what_the_annotation_lists_is_taken_and_other_fields_are_free() -> None:
    assert Lamp("green", "red", 2, "colorless").shade == "red"
    assert Lamp(shade=None).color == "red"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("color", "blue", "('red', 'green')"),
        ("color", None, "('red', 'green')"),
        ("shade", "blue", "('red', 'green', None)"),
        ("level", 3, "(1, 2)"),
    ],
)
def test_another_value_is_refused_and_the_choices_are_listed(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError) as raised:
        Lamp(**{field: value})
    assert str(raised.value) == f"Expected `{field}` to be one of {expected}. Received: {value!r}"


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", float("nan")])
def test_a_count_is_an_integer_of_at_least_one_or_none(value: Any) -> None:
    check_counts(turns=1, batch_size=np.int64(7), top_k=None)
    with pytest.raises(ValueError, match=f"Expected `turns` of at least 1. Received: {value!r}"):
        check_counts(batch_size=1, turns=value)


def test_an_unknown_argument_gets_the_nearest() -> None:
    @suggest_arguments
    def network(include_top: bool = True, *, input_shape: int = 0) -> int:
        return input_shape

    assert network(input_shape=3) == 3
    assert list(inspect.signature(network).parameters) == ["include_top", "input_shape"]
    with pytest.raises(
        TypeError,
        match=r"^network\(\) got an unexpected keyword argument 'inputshape'\. Did you mean input_shape\?$",
    ):
        network(inputshape=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^network\(\) got an unexpected keyword argument 'xyzzy'$"):
        network(xyzzy=3)  # type: ignore[call-arg]


@dataclass(frozen=True)
class Numbers:
    """Fields of numbers."""

    count: int
    share: float | None
    sides: tuple[int, ...]

    def __post_init__(self) -> None:
        check_fields(self)


def test_numbers_of_numpy_become_those_of_python() -> None:
    made = Numbers(np.int64(3), np.float32(0.5), (np.int32(4), 5))  # type: ignore[arg-type]
    assert (made.count, made.share, made.sides) == (3, 0.5, (4, 5))
    assert [type(each) for each in (made.count, made.share, *made.sides)] == [int, float, int, int]
    assert json.loads(json.dumps(asdict(made))) == {"count": 3, "share": 0.5, "sides": [4, 5]}
