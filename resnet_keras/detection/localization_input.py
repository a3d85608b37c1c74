"""Images of one class each, with one box or several of it, as the input of localization."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import tensorflow as tf

from resnet_keras.data.evaluation_input import options
from resnet_keras.data.image_files import OnCorrupt
from resnet_keras.data.image_ops import decode
from resnet_keras.data.mapping import mapped
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.detection.box_split import BoxExample, BoxSplit, Faults, WrongImage
from resnet_keras.detection.boxes import encode
from resnet_keras.detection.canvas import on_canvas, resized_size
from resnet_keras.detection.image_reading import image_reader
from resnet_keras.detection.localization_network import CANVAS_WEIGHTS


def one_class_images(split: BoxSplit, *, on_corrupt: OnCorrupt = "raise") -> BoxSplit:
    """Returns images whose objects are all of one class, as ILSVRC's localization has them.

    Args:
        split: Images with boxes.
        on_corrupt: An image without objects or with those of several classes is an error ("raise"), or left out with a
            warning ("skip").

    Raises:
        ValueError: There is such an image; the message names it. Or none is left.
    """
    faults, kept = Faults(on_corrupt), []
    for example in split.examples:
        with faults.tolerated():
            found = sorted({split.class_names[label] for label in example.labels[example.trained]})
            if len(found) != 1:
                raise WrongImage(
                    f"Expected objects of one class in each image, for localization. Received: {example.image}, with "
                    f"{', '.join(found) or 'no objects'}"
                )
            kept.append(example)
    faults.report("images for localization")
    if not kept:
        raise ValueError("Expected images with objects of one class each. Received: none")
    return replace(split, examples=tuple(kept), skipped_images=split.skipped_images + faults.images)


def class_of(example: BoxExample) -> int:
    """Returns the class of the objects in an image of `one_class_images`."""
    return int(example.labels[example.trained][0])


def largest_boxes(split: BoxSplit) -> BoxSplit:
    """Returns images of `one_class_images` with the largest object of each alone, which is trained on."""
    return replace(split, examples=tuple(map(_with_largest_box, split.examples)))


def with_targets(batches: tf.data.Dataset, preprocessing: Preprocessing) -> tf.data.Dataset:
    """Returns batches of `box_batches` with one box in each image as images and targets.

    Returns:
        A data set of images and float32 (N, 5): the label, 0 for the first class, and the offsets of `encode` from the
        whole canvas to the box.
    """
    return mapped(
        batches,
        lambda images, found: (images, _targets(found["labels"][:, 0] - 1, found["boxes"][:, 0], preprocessing)),
    )


def target_batches(split: BoxSplit, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    """Returns every image of `largest_boxes` once, in order, on its canvas, with its target; see `with_targets`.

    Args:
        split: Images with one box each.
        preprocessing: Its `image_size` is the canvas; channels, mean, and standard deviation apply.
        batch_size: Images in each batch; the last may have fewer.
    """
    read = image_reader(split)

    def placed(place: tf.Tensor, label: tf.Tensor, box: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = decode(read(place), preprocessing.channels)
        full = tf.shape(image)[:2]
        size = resized_size(full, preprocessing.image_size)
        ratio = tf.cast(size, tf.float32) / tf.cast(full, tf.float32)
        target = _targets(label[None], box[None] * tf.gather(ratio, [1, 0, 1, 0]), preprocessing)
        return on_canvas(image, preprocessing, size), target[0]

    labels, boxes = zip(*((class_of(each), each.boxes[each.trained][0]) for each in split.examples), strict=True)
    rows = np.arange(len(split)), np.array(labels, np.int32), np.array(boxes, np.float32)
    batches = mapped(tf.data.Dataset.from_tensor_slices(rows), placed).batch(batch_size)
    return batches.with_options(options(deterministic=True)).prefetch(tf.data.AUTOTUNE)


def canvas_box(preprocessing: Preprocessing) -> np.ndarray:
    """Returns the box of a whole canvas, float32 (4,)."""
    height, width = preprocessing.image_size
    return np.array([0, 0, width, height], np.float32)


def _targets(labels: tf.Tensor, boxes: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    offsets = encode(boxes, canvas_box(preprocessing), CANVAS_WEIGHTS)
    return tf.concat([tf.cast(labels, tf.float32)[:, None], offsets], axis=-1)


def _with_largest_box(example: BoxExample) -> BoxExample:
    counted = np.flatnonzero(example.trained)
    sides = example.boxes[counted, 2:] - example.boxes[counted, :2]
    chosen = counted[[np.argmax(sides.prod(-1))]]
    names = ("boxes", "labels", "difficult", "crowd", "areas")
    return replace(example, **{name: getattr(example, name)[chosen] for name in names})
