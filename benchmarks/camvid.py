"""U-Net on CamVid from pretrained and from random weights: `python benchmarks/camvid.py CAMVID WEIGHTS`.

CAMVID is a folder of train, val, and test parts, each with images and masks of 11 classes and 11 for pixels that do not
count. WEIGHTS are those of an ImageNet ResNet-18. Both networks are trained in the same way on the training part; the
table is of the test part after the last epoch, at full resolution. It is printed and written to `camvid.md`, and
pictures of the first test images to the folder of `--pictures`.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image

import resnet_keras
from resnet_keras import segmentation, surgery
from resnet_keras.runs import versions
from resnet_keras.tables import markdown_table

CLASSES = (*("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),)
VOID = len(CLASSES)
SCALE = (0.75, 1.5)
PICTURES = 3


@dataclass(frozen=True)
class Trained:
    """A trained network, its result, and the CPU seconds and wall seconds of its training."""

    segmenter: segmentation.Segmenter
    result: segmentation.SegmentationResult
    cpu_seconds: float
    seconds: float


def train(folder: Path, weights: Path | None, arguments: argparse.Namespace) -> Trained:
    """Trains a U-Net over ResNet-18 and evaluates it on the test part."""
    train_part, test_part = (
        segmentation.open_masks(folder, part, class_names=CLASSES, ignored=VOID) for part in ("train", "test")
    )
    preprocessing = resnet_keras.Preprocessing(
        image_size=tuple(arguments.size), channels=3, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)
    )
    keras.utils.set_random_seed(arguments.seed)
    shape = (*preprocessing.image_size, 3)
    backbone = None
    if weights is not None:
        backbone = resnet_keras.ResNet18(include_top=False, input_shape=shape, weights=weights)
        # Published weights may have their statistics folded away, which training needs.
        some = segmentation.mask_batches(train_part, preprocessing, batch_size=32, scale=SCALE, seed=arguments.seed)
        surgery.restore_statistics(backbone, some.as_numpy_iterator())
    model = segmentation.UNet("resnet18", len(CLASSES), input_shape=shape, backbone_weights=backbone)
    steps = len(train_part) // arguments.batch_size
    rate = keras.optimizers.schedules.PolynomialDecay(
        arguments.learning_rate, steps * arguments.epochs, end_learning_rate=1e-6, power=0.9
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=VOID),
    )
    batches = segmentation.mask_batches(
        train_part,
        preprocessing,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        seed=arguments.seed,
        scale=SCALE,
    )
    start, cpu = time.perf_counter(), time.process_time()
    model.fit(batches, epochs=arguments.epochs, steps_per_epoch=steps, shuffle=False, verbose=2)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    result = segmentation.evaluate_masks(
        model, segmentation.whole_images(test_part, preprocessing), CLASSES, ignored=VOID
    )
    return Trained(segmentation.Segmenter(model, preprocessing, CLASSES), result, cpu, seconds)


def report(trained: dict[str, Trained], arguments: argparse.Namespace) -> str:
    """Returns the page: how it was measured, the measures, and the classes."""
    height, width = arguments.size
    found = versions()
    packages = ", ".join(f"{name} {found[name]}" for name in ("tensorflow", "keras"))
    rows = [
        [
            name,
            f"{100 * each.result.mean_iou:.2f}",
            f"{100 * each.result.pixel_accuracy:.2f}",
            f"{each.cpu_seconds:.0f}",
            f"{each.seconds:.0f}",
        ]
        for name, each in trained.items()
    ]
    classes = [[name, *(_percent(each.result.class_iou[name]) for each in trained.values())] for name in CLASSES]
    return "\n".join(
        [
            "# U-Net on CamVid",
            "",
            f"`python benchmarks/camvid.py CAMVID WEIGHTS --epochs {arguments.epochs} --size {height} {width} "
            f"--batch-size {arguments.batch_size} --learning-rate {arguments.learning_rate} --seed {arguments.seed}` "
            f"on {os.cpu_count()} CPU cores ({platform.machine()}), {packages}; one seed; every second image of "
            f"CamVid, at {height}x{width} pixels, measured at 360x480 after the last epoch.",
            "",
            markdown_table(
                [
                    "initial weights of ResNet-18",
                    "mean IoU, %",
                    "pixel accuracy, %",
                    "CPU s of training",
                    "s of training",
                ],
                rows,
            ),
            "",
            markdown_table(["class, IoU in %", *trained], classes),
            "",
        ]
    )


def draw(trained: Trained, folder: Path, to: Path, name: str) -> None:
    """Writes the first test images with the masks of a network beside the true ones."""
    part = segmentation.open_masks(folder, "test", class_names=CLASSES, ignored=VOID)
    to.mkdir(parents=True, exist_ok=True)
    for image, mask in list(zip(part.images, part.masks, strict=True))[:: len(part) // PICTURES][:PICTURES]:
        ((pixels, predicted),) = trained.segmenter.masks(image)
        shown = [
            segmentation.draw_mask(pixels, each, len(CLASSES)) for each in (predicted, segmentation.read_mask(mask))
        ]
        Image.fromarray(np.concatenate([pixels.astype(np.uint8), *shown], 1)).save(to / f"{image.stem}_{name}.png")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def main() -> None:
    """Trains, prints, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("camvid", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--size", type=int, nargs=2, default=(160, 224))
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    trained = {
        name: train(arguments.camvid, weights, arguments)
        for name, weights in (("ImageNet", arguments.weights), ("random", None))
    }
    if arguments.pictures:
        for name, each in trained.items():
            draw(each, arguments.camvid, arguments.pictures, name.lower())
    page = report(trained, arguments)
    print(page)
    arguments.to.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
