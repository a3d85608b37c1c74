"""Speed of the training input, stage by stage and without a network, beside that of a naive pipeline."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import tensorflow as tf

from resnet_keras.checks.fields import check_counts
from resnet_keras.data.datasets import dataset
from resnet_keras.data.evaluation_input import preprocessing_of, whole_images
from resnet_keras.data.mapping import mapped
from resnet_keras.data.opening import open_split
from resnet_keras.data.preprocessing import Preprocessing
from resnet_keras.data.run_order import RunOrder, read_images
from resnet_keras.data.sampling import stratified_sample
from resnet_keras.data.settings import Augmentation, DataSettings
from resnet_keras.data.splits import ArraySplit, FileSplit, RecordSplit, Split
from resnet_keras.data.training_input import steps_per_epoch, training_batches
from resnet_keras.tables import markdown_table

NAIVE, ANTIALIASED = "naive", "naive, antialiased"

_ENDLESS = 10**6  # epochs
_SHUFFLED = 10_000  # images in the buffer of a naive pipeline: about 1 GB of ImageNet
_UNMIXED: dict[str, Any] = {"mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0}
_PLAIN: dict[str, Any] = {
    "pad_pixels": 0,
    "auto_augment": None,
    "flip": False,
    "alternate_flip": False,
    "pca_lighting": 0.0,
    "erase": 0.0,
}


@dataclass(frozen=True)
class Stage:
    """Measurements of the pipeline up to one of its stages, in each turn.

    Attributes:
        name: What is done to the images.
        rates: Images/s.
        cpu_times: Seconds of processor time per image, over all cores.
    """

    name: str
    rates: tuple[float, ...]
    cpu_times: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Images/s, the median over the turns."""
        return median(self.rates)

    def times_as_fast(self, other: Stage) -> float:
        """Returns how many times as fast as another this is: the median over the turns, which both have shared."""
        return median(mine / its for mine, its in zip(self.rates, other.rates, strict=True))


def training_images(data: DataSettings, *, data_dir: str | Path | None = None, download: bool = False) -> Split:
    """Opens the training images of a run; of a folder all, as the choice does not affect speed.

    Args:
        data: Its data set and number of training images apply.
        data_dir: Folder of the data; see `open_split`.
        download: Whether TFDS may download and prepare a missing set.
    """
    part = "all" if dataset(data.dataset).source == "folder" else "train"
    split = open_split(data.dataset, part, data_dir=data_dir, download=download)
    return split if data.train_images is None else stratified_sample(split, data.train_images)


def first_preprocessing(data: DataSettings, split: Split, network_size: int) -> Preprocessing:
    """Returns the preprocessing of the first epoch of a run; see `preprocessing_of` for the arguments."""
    preprocessing = preprocessing_of(data, split, network_size)
    return preprocessing.at(data.train_sizes[0]) if data.train_sizes else preprocessing


def measure(
    split: Split,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    batch_size: int,
    one_hot: bool = False,
    seconds: float = 5.0,
    turns: int = 3,
) -> tuple[Stage, ...]:
    """Measures each of `pipelines` by itself, in turns, so that other load on the machine affects all of them.

    Args:
        split: Images to read.
        preprocessing: Size and normalization of the network's input.
        augmentation: Random changes of images and labels.
        batch_size: Images in a batch.
        one_hot: Whether labels are one-hot, also without mixing.
        seconds: Length of a turn of one pipeline, after a warm-up of a fifth of it.
        turns: Turns of each pipeline.

    Raises:
        ValueError: `seconds` or `turns` is too small, or the split does not fill a batch.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"Expected `seconds` above 0, a finite number. Received: {seconds}")
    check_counts(turns=turns)
    to_measure = pipelines(split, preprocessing, augmentation, batch_size=batch_size, one_hot=one_hot)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in to_measure}
    for _ in range(turns):
        for name, batches in to_measure.items():
            found[name].append(_turn(batches, seconds))
    return tuple(Stage(name, *zip(*results, strict=True)) for name, results in found.items())


def table(stages: tuple[Stage, ...]) -> str:
    """Returns a Markdown table of stages: images/s, milliseconds per image, and times as fast as the naive ones."""
    others = [stage for stage in stages if stage.name in (NAIVE, ANTIALIASED)]
    head = ["stage", "images/s", "ms per image", "CPU ms per image", *(f"x {other.name}" for other in others)]
    rows = []
    for stage in stages:
        times = (f"{1000 * seconds:.3f}" for seconds in (1 / stage.rate, median(stage.cpu_times)))
        rows.append([stage.name, f"{stage.rate:.1f}", *times, *(f"{stage.times_as_fast(o):.2f}" for o in others)])
    return markdown_table(head, rows)


def pipelines(
    split: Split, preprocessing: Preprocessing, augmentation: Augmentation, *, batch_size: int, one_hot: bool = False
) -> dict[str, tf.data.Dataset]:
    """Returns endless batches up to each stage of the input, with all stages before it, and of naive pipelines.

    Stages that the augmentation or the kind of split does not have are skipped: images in memory are neither read nor
    decoded. Reading yields the bytes of each image, decoding whole images the pixel in the corner. See `measure` for
    the arguments.
    """
    unmixed = replace(augmentation, **_UNMIXED)
    plain = replace(unmixed, **_PLAIN)

    def stage(chosen: Augmentation, size: Preprocessing = preprocessing, **options: Any) -> tf.data.Dataset:
        return training_batches(split, size, chosen, batch_size=batch_size, epochs=_ENDLESS, **options)

    found: dict[str, tf.data.Dataset] = {}
    if not isinstance(split, ArraySplit):
        found["read"] = _read(split, batch_size)
        found["read, decode whole"] = _decoded_whole(split, preprocessing, batch_size)
    cut = "crop" if augmentation.crops_each_image else "resize"
    first = f"gather, {cut}" if isinstance(split, ArraySplit) else f"read, decode, {cut}"
    found[f"{first}, normalize"] = stage(plain)
    if unmixed != plain:
        found["+ augmentation"] = stage(unmixed)
    if augmentation != unmixed or one_hot:
        found["+ mixing, soft labels"] = stage(augmentation, one_hot=one_hot)
    found[NAIVE] = naive_batches(split, preprocessing, augmentation, batch_size=batch_size)
    if augmentation.crops_each_image or not isinstance(split, ArraySplit):
        found[ANTIALIASED] = naive_batches(split, preprocessing, augmentation, batch_size=batch_size, antialias=True)
    return found


def naive_batches(
    split: Split,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    batch_size: int,
    antialias: bool = False,
) -> tf.data.Dataset:
    """Returns endless batches of a naive pipeline, with the shapes and types of `training_batches`.

    One parallel `map` from a file or array to a normalized image, with the operations of `tf.io` and `tf.image` as
    they are: `decode_jpeg` of the whole image, `resize`, a random crop, mirroring and a random shift of the colors,
    then `batch` and `prefetch`, with `tf.data.AUTOTUNE`. It applies crop, flip and lighting noise of the augmentation,
    but no automatic augmentation, erasing or mixing.

    Args:
        split: Images to read.
        preprocessing: Size and normalization of the result.
        augmentation: Its crop, flip, padding and lighting noise apply.
        batch_size: Images in a batch.
        antialias: Whether images are resized with antialiasing, as `training_batches` does and `tf.image.resize` by
            itself does not: otherwise it is faster, and its images are worse.
    """
    mean, std = tf.constant(preprocessing.mean), tf.constant(preprocessing.std)
    shape = (*preprocessing.image_size, preprocessing.channels)

    def resized(image: tf.Tensor, size: Any) -> tf.Tensor:
        return tf.image.resize(image, size, preprocessing.interpolation, antialias=antialias)

    def cropped(image: tf.Tensor) -> tf.Tensor:
        if augmentation.crop_area:
            begin, extent, _ = tf.image.sample_distorted_bounding_box(
                tf.shape(image),
                tf.zeros((1, 0, 4)),
                area_range=augmentation.crop_area,
                aspect_ratio_range=(3 / 4, 4 / 3),
                min_object_covered=0.0,
                max_attempts=10,
                use_image_if_no_bounding_boxes=True,
            )
            return resized(tf.slice(image, begin, extent), preprocessing.image_size)
        if augmentation.shorter_side:
            shortest, longest = augmentation.shorter_side
            side = tf.random.uniform((), shortest, longest + 1, tf.int32)
            size = tf.shape(image)[:2]
            return tf.image.random_crop(resized(image, side * size // tf.reduce_min(size)), shape)
        return resized(image, preprocessing.image_size)

    def varied(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if isinstance(split, FileSplit):
            image = tf.io.read_file(image)
        if not isinstance(split, ArraySplit):
            image = tf.io.decode_jpeg(image, channels=preprocessing.channels)  # PNGs, too
        image = tf.ensure_shape(tf.cast(cropped(image), tf.float32), shape)
        if augmentation.flip:
            image = tf.image.random_flip_left_right(image)
        if augmentation.pca_lighting and preprocessing.channels == 3:
            image += tf.random.normal((3,), stddev=32 * augmentation.pca_lighting)
        image = (image - mean) / std
        if augmentation.pad_pixels:
            pad = augmentation.pad_pixels
            image = tf.image.random_crop(tf.pad(image, ((pad, pad), (pad, pad), (0, 0))), shape)
        return image, label

    images = mapped(_shuffled(split).repeat(), varied)
    return images.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _shuffled(split: Split) -> tf.data.Dataset:
    """Returns images as the split has them, or paths, and labels."""
    if isinstance(split, RecordSplit):
        return split.records().shuffle(_SHUFFLED)
    if isinstance(split, FileSplit):
        return tf.data.Dataset.from_tensor_slices((list(split.paths), split.labels)).shuffle(len(split))
    with tf.device("CPU"):
        return tf.data.Dataset.from_tensor_slices((split.images, split.labels)).shuffle(_SHUFFLED)


def _read(split: FileSplit | RecordSplit, batch_size: int) -> tf.data.Dataset:
    steps = steps_per_epoch(split, batch_size)
    rows, images = range(batch_size), steps * batch_size
    order = RunOrder(
        images=len(split), epoch_images=images, batch_size=batch_size, rows=rows, last_step=_ENDLESS * steps
    )
    batches = mapped(read_images(split, order), lambda _, image, label, __: (image, label))
    return batches.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _decoded_whole(split: FileSplit | RecordSplit, preprocessing: Preprocessing, batch_size: int) -> tf.data.Dataset:
    images = whole_images(split, preprocessing.channels).repeat()
    corners = mapped(images, lambda image, label: (image[:1, :1], label))
    return corners.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def _turn(batches: tf.data.Dataset, seconds: float) -> tuple[float, float]:
    """Returns images/s and processor time per image; of an iterator that ends here and leaves the cores to others."""
    iterator = iter(batches)
    _images_within(seconds / 5, iterator)
    cpu, begin = time.process_time(), time.perf_counter()
    images = _images_within(seconds, iterator)
    return images / (time.perf_counter() - begin), (time.process_time() - cpu) / images


def _images_within(seconds: float, iterator: Iterator[tuple[tf.Tensor, tf.Tensor]]) -> int:
    """Takes batches until the time is over, at least one; returns their images."""
    end, images = time.perf_counter() + seconds, 0
    while not images or time.perf_counter() < end:
        images += len(next(iterator)[1])
    return images
