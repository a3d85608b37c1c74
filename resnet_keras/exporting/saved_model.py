"""SavedModel, as TensorFlow Serving wants it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from resnet_keras import atomic


def write_saved_model(model: keras.Model, folder: Path, class_names: Sequence[str], *, pixels: tf.DType) -> None:
    """Writes a pixel model as a SavedModel with one signature, `serving_default`.

    It takes `images` (N, H, W, C) of the type `pixels` and returns `probabilities` float32 (N, classes). The class
    names lie in `assets/class_names.txt`, one a line.
    """

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), pixels, name="images")])
    def serve(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model(tf.cast(images, tf.float32), training=False)}

    names = folder.parent / "class_names.txt"
    atomic.write_text(names, "".join(f"{name}\n" for name in class_names))
    module = tf.Module()
    # The variables alone: Keras's layers, saved whole, would want Keras's code to open again.
    module.weights = [variable.value for variable in model.variables]
    module.class_names = tf.saved_model.Asset(str(names))
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    names.unlink()
