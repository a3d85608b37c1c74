"""CPU time of RandAugment beside keras-cv's, in one run: `python benchmarks/rand_augment.py`.

Both apply two operations of magnitude 7 of 10 (standard deviation 0.5), each skipped half the time, to random images
in a `tf.data` pipeline. keras-cv's layer gets single images, as ours does, and whole batches; it draws from about the
same operations. The variants take turns. A ratio is the median over the turns of keras-cv's CPU time over ours. The
table is printed and written to `rand_augment.md`.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_cv
import tensorflow as tf

from resnet_keras.data import rand_augment
from resnet_keras.distributed import cores
from resnet_keras.runs import versions

BATCH = 64
LAYERS, MAGNITUDE, DEVIATION, RATE = 2, 7.0, 0.5, 0.5
IMAGES = {32: 4096, 224: 512}
"""Images in a turn, for each height and width in pixels."""


def pipelines(side: int) -> dict[str, tf.data.Dataset]:
    """Returns endless batches of augmented images, ours first."""
    images = tf.random.stateless_uniform((BATCH, side, side, 3), (0, 1), 0, 256, tf.int32)
    single = tf.data.Dataset.from_tensor_slices(tf.cast(images, tf.uint8)).cache().repeat()
    layer = keras_cv.layers.RandAugment(
        (0, 255), augmentations_per_image=LAYERS, magnitude=MAGNITUDE / 10, magnitude_stddev=DEVIATION / 10, rate=RATE
    )

    def ours(number: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
        seed = tf.stack([number, tf.zeros_like(number)])
        return rand_augment(image, seed, layers=LAYERS, magnitude=MAGNITUDE, magnitude_std=DEVIATION)

    return {
        "resnet_keras": single.enumerate().map(ours, num_parallel_calls=1).batch(BATCH),
        "keras-cv, single images": single.map(layer, num_parallel_calls=1).batch(BATCH),
        "keras-cv, batches": single.batch(BATCH).map(layer, num_parallel_calls=1),
    }


def turn(batches: Iterator[tf.Tensor], count: int) -> float:
    """Returns the CPU time of all threads, in seconds, for `count` batches."""
    start = time.process_time()
    for _ in range(count):
        next(batches)
    return time.process_time() - start


def compare(side: int, turns: int) -> list[tuple[str, float, float]]:
    """Returns, for each variant, images per CPU second, and its CPU time over ours: medians over the turns."""
    batches = {name: iter(dataset) for name, dataset in pipelines(side).items()}
    count = IMAGES[side] // BATCH
    for iterator in batches.values():
        turn(iterator, max(1, count // 4))
    times: dict[str, list[float]] = {name: [] for name in batches}
    for _ in range(turns):
        for name, iterator in batches.items():
            times[name].append(turn(iterator, count))
    ours = times["resnet_keras"]
    return [
        (name, count * BATCH / median(taken), median(a / b for a, b in zip(taken, ours, strict=True)))
        for name, taken in times.items()
    ]


def report(turns: int, tell: Callable[[str], None] = print) -> str:
    """Measures all sizes and returns the page."""
    made = {key: value for key, value in versions().items() if key in ("tensorflow", "keras", "commit")}
    lines = [
        "# RandAugment, side by side",
        "",
        f"`python benchmarks/rand_augment.py --turns {turns}` on {cores()} CPU cores ({platform.machine()}), "
        + ", ".join(f"{key} {value}" for key, value in made.items())
        + f", keras-cv {keras_cv.__version__}; medians over {turns} turns, CPU time of all threads.",
        "",
        "| image | variant | images per CPU second | CPU time against ours |",
        "|---:|---|---:|---:|",
    ]
    for side in IMAGES:
        for name, rate, ratio in compare(side, turns):
            against = "" if name == "resnet_keras" else f"{ratio:.2f}x"
            lines.append(f"| {side}x{side} | {name} | {rate:,.0f} | {against} |")
            tell(lines[-1])
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    arguments.to.write_text(report(arguments.turns), encoding="utf-8")


if __name__ == "__main__":
    main()
