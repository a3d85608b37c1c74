"""What the tests of exports share: a process that converts."""

from collections.abc import Iterator

import pytest
from helpers.artifacts import one_converter


@pytest.fixture(scope="session", autouse=True)
def converter() -> Iterator[None]:
    """Conversions share a process."""
    with one_converter():
        yield
