"""The warning of a `fit` on pixels, where the weights expect normalized images."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from resnet_keras.applications.pixel_warning import warn_of_pixels
from resnet_keras.data.preprocessing import Preprocessing

IMAGENET = Preprocessing(image_size=(4, 4), channels=3, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3)).astype("float32")
LABELS = np.zeros(20, "int64")


class Batches(keras.utils.PyDataset):
    """Two batches of pixels."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return PIXELS[:4], LABELS[:4]


def network() -> keras.Model:
    """A network whose `fit` does nothing."""
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten()], name="net")
    object.__setattr__(model, "fit", lambda x=None, *args, **options: options)
    return model


def warned(x: Any, preprocessing: Preprocessing | None = IMAGENET) -> list[str]:
    """Returns the warnings of two calls of `fit`."""
    model = network()
    warn_of_pixels(model, preprocessing)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert model.fit(x, LABELS, epochs=3) == {"epochs": 3}
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(
    "of",
    [
        lambda x: x,
        lambda x: x.astype("uint8"),
        tf.constant,
        lambda x: tf.data.Dataset.from_tensor_slices((x, LABELS)).batch(4),
        lambda x: tf.data.Dataset.from_tensor_slices(x.astype("uint8")).batch(4),
        lambda x: Batches(),
    ],
)
def test_pixels_warn_with_the_values_that_the_weights_expect(of: Callable[[np.ndarray], Any]) -> None:
    (message,) = warned(of(PIXELS))
    assert message.startswith("'net' is trained on images of up to 25")
    assert (
        "expect RGB less (123.7, 116.3, 103.5), divided by (58.4, 57.1, 57.4): `resnet_keras.preprocess_in" in message
    )


@pytest.mark.parametrize(
    ("x", "preprocessing"),
    [
        ((PIXELS - 120) / 58, IMAGENET),
        (PIXELS - 120, IMAGENET),
        (PIXELS, None),
        (PIXELS, Preprocessing(image_size=(4, 4), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)),
        (tf.data.Dataset.from_tensor_slices((PIXELS - 120, LABELS)).batch(4), IMAGENET),
        ((batch for batch in [PIXELS]), IMAGENET),  # a generator's batch can't be put back
        (np.zeros((0, 4, 4, 3)), IMAGENET),
        (None, IMAGENET),
    ],
)
def test_normalized_images_and_what_cannot_be_seen_do_not_warn(x: Any, preprocessing: Preprocessing | None) -> None:
    assert warned(x, preprocessing) == []


def test_only_the_first_fit_is_looked_at() -> None:
    model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    warn_of_pixels(model, IMAGENET)
    with pytest.warns(UserWarning, match="pixels 0-255"):
        model.fit(PIXELS, LABELS, verbose=0)
    assert model.fit.__func__ is keras.Sequential.fit
