"""Published counts of parameters."""

from __future__ import annotations

import pytest

from resnet_keras.networks.catalog import ARCHITECTURES, FAMILY
from resnet_keras.networks.published_sizes import SIZES, Size


def test_every_size_is_of_a_network_in_the_tables() -> None:
    assert set(SIZES) <= set(ARCHITECTURES | FAMILY)


@pytest.mark.parametrize(
    ("size", "text", "own", "other"),
    [
        (Size(25_557_032, "x"), "25,557,032", 25_557_032, 25_557_033),
        (Size(270_000, "x", 10_000), "0.27 M", 269_722, 275_100),
        (Size(1_700_000, "x", 100_000), "1.7 M", 1_727_962, 1_751_000),
    ],
)
def test_a_count_is_printed_and_compared_as_it_was_published(size: Size, text: str, own: int, other: int) -> None:
    assert str(size) == text
    assert size.is_of(own)
    assert not size.is_of(other)
