"""Bytes that each of several workers reads: `python benchmarks/reading.py`.

Images of noise, as image files, TFRecord files, and ArrayRecord files, make an epoch for 1, 2, and 4 workers: the rows
of each are read, decoded, and augmented here, one worker after the other, and Linux counts the bytes (`rchar` in
`/proc/self/io`). Joined, the workers' batches are compared with those of one process. A run that resumes after three
quarters of the epoch is counted, too. The table is printed and written to `reading.md`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from resnet_keras.data import Augmentation, Preprocessing, RecordSplit, open_split, training_batches
from resnet_keras.runs import versions
from resnet_keras.tables import markdown_table

IMAGES, SIDE, BATCH, SHARDS = 512, 96, 64, 4
STEPS = IMAGES // BATCH
WORKERS = (1, 2, 4)
UNIT = Preprocessing(image_size=(64, 64), channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
CROPPED = Augmentation(crop_area=(0.08, 1.0), flip=True)
RECIPES = {"random crops, mirrored": CROPPED, "with MixUp": Augmentation(crop_area=(0.08, 1.0), flip=True, mixup=0.2)}
"""MixUp adds to each image its partner in the batch, which another worker may have."""


def noise(i: int) -> np.ndarray:
    """Returns image `i`."""
    return np.random.default_rng(i).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def write_folder(folder: Path) -> None:
    """Writes the images as a folder of two classes."""
    for i in range(IMAGES):
        path = folder / "train" / ("cat", "dog")[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(noise(i)).numpy())
    (folder / "test").symlink_to("train")


def write_records(folder: Path, file_format: str) -> None:
    """Writes the images as TensorFlow Datasets does, in several files."""
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    }
    signature = {"image": tf.TensorSpec((None, None, 3), tf.uint8), "label": tf.TensorSpec((), tf.int64)}
    examples = tf.data.Dataset.from_generator(
        lambda: ({"image": noise(i), "label": i % 2} for i in range(IMAGES)), output_signature=signature
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="noise",
        version="1.0.0",
        data_dir=folder,
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": examples},
        file_format=file_format,
        download_config=tfds.download.DownloadConfig(num_shards=SHARDS),
    )


def counted(split: object, augmentation: Augmentation, rows: range, first_step: int = 0) -> tuple[list, int]:
    """Returns the batches of one worker, and the bytes that were read for them."""
    batches = training_batches(
        split, UNIT, augmentation, batch_size=BATCH, epochs=1, rows=rows, first_step=first_step, last_step=STEPS
    )
    before = bytes_read()
    return list(batches.as_numpy_iterator()), bytes_read() - before


def bytes_read() -> int:
    """Returns the bytes that this process has asked its files for."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="utf-8").splitlines())
    return int(fields["rchar"])


def rows_of(split: object, kind: str) -> list[tuple[str, ...]]:
    """Returns the rows of the table for one kind of files."""
    found = []
    for name, augmentation in RECIPES.items():
        whole, all_bytes = counted(split, augmentation, range(BATCH))
        for workers in WORKERS:
            size = BATCH // workers
            shares = [counted(split, augmentation, range(i * size, (i + 1) * size)) for i in range(workers)]
            largest = max(read for _, read in shares)
            steps = zip(*(batches for batches, _ in shares), strict=True)
            joined = [np.concatenate([images for images, _ in step]) for step in steps]
            same = all(np.array_equal(one, other) for one, (other, _) in zip(joined, whole, strict=True))
            cells = (f"{largest / 1e6:.2f}", f"{largest / all_bytes:.3f}", "yes" if same else "NO")
            found.append((kind, name, str(workers), *cells))
        left, read = counted(split, augmentation, range(BATCH), first_step=STEPS * 3 // 4)
        same = all(np.array_equal(one, other) for one, other in zip(left[-1], whole[-1], strict=True))
        found.append(
            (kind, name, "1, last quarter", f"{read / 1e6:.2f}", f"{read / all_bytes:.3f}", "yes" if same else "NO")
        )
        print(*found[-len(WORKERS) - 1 :], sep="\n", flush=True)
    return found


def main() -> None:
    """Writes the images, counts, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        write_folder(Path(scratch, "folder"))
        rows += rows_of(open_split("folder", "train", data_dir=Path(scratch, "folder")), "image files")
        for file_format in ("tfrecord", "array_record"):
            write_records(Path(scratch, file_format), file_format)
            split = open_split("noise", "train[:100%]", data_dir=Path(scratch, file_format))
            assert isinstance(split, RecordSplit)
            for index in range(0, IMAGES, IMAGES // SHARDS):  # the places of the records are read once in a process
                split.record(tf.constant(index, tf.int64))
            rows += rows_of(split, file_format)
    head = ("images in", "augmentation", "workers", "MB read by a worker", "of all", "batches as of one process")
    lines = [
        "# Bytes that a worker reads",
        f"`python benchmarks/reading.py`, {', '.join(f'{key} {value}' for key, value in versions().items())}.",
        f"An epoch of {IMAGES} images, batch {BATCH}; the worker that reads most. MixUp needs the partner of each "
        "image, at most as many again.",
        markdown_table(head, rows, text=head[:2]),
    ]
    arguments.to.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    print(arguments.to.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
