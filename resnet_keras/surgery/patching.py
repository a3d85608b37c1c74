"""Methods of a Keras model replaced for a while; the model stays what it is, and so does its file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras


@contextmanager
def patch_methods(model: keras.Model, **methods: Callable) -> Iterator[None]:
    """Gives one model other methods, as long as the context lasts; afterwards it has those of before.

    Functions that Keras has traced with the former methods are traced anew.
    """
    before = {name: vars(model)[name] for name in methods if name in vars(model)}
    for name, method in methods.items():
        object.__setattr__(model, name, method)  # past Keras's own, which would keep track of it
    model.train_function = model.test_function = None
    try:
        yield
    finally:
        for name in methods:
            if name in before:
                object.__setattr__(model, name, before[name])
            else:
                object.__delattr__(model, name)
        model.train_function = model.test_function = None
