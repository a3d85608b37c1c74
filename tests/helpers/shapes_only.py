"""Networks without values, for what their shapes and layers show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras.src.backend.common import global_state


@contextmanager
def shapes_only() -> Iterator[None]:
    """Builds networks whose variables have shapes alone: drawing values takes most of the time of building."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    # Keras would draw them all after its next scope.
    global_state.set_global_attribute("uninitialized_variables", [])
