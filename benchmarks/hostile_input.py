"""Files that claim, hide, or damage something, given to every reader: `python benchmarks/hostile_input.py`.

Each group of files is read in a process of its own, of at most 12 GB of address space. The table says what happens, in
what time of the CPU, and how much the process grows. It replaces the section "Hostile input" of `faults.md`.
"""

# ruff: noqa: E402
from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import h5py
import numpy as np
import tensorflow as tf
from helpers.box_folders import VocFolder, write_coco
from helpers.hostile_images import flat_png, jpeg_of_scans, png_of_hidden_size
from helpers.hostile_pickles import HOSTILE_PICKLES
from PIL import Image

from resnet_keras import Classifier, export
from resnet_keras.data import evaluation_batches, open_split, training_batches
from resnet_keras.detection import open_boxes
from resnet_keras.exporting import LiteRTClassifier, write_saved_model
from resnet_keras.segmentation import open_masks
from resnet_keras.weights import open_weights

TITLE = "## Hostile input"
ADDRESS_SPACE = 12 << 30
LIMIT_SIDE = 9_459  # of the largest image that a request may have
SEED = 16
Row = tuple[str, int, Callable[[], Any]]


def archives(folder: Path) -> Iterator[Row]:
    """Yields `.keras` files that no classifier has."""
    whole = folder / "whole.keras"
    Classifier.from_pretrained("resnet20_digits").save(whole)
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def made(name: str, packing: int = zipfile.ZIP_STORED, **changed: bytes) -> Row:
        path = folder / f"{len(list(folder.iterdir()))}.keras"
        contents = members | {key.replace("__", "."): value for key, value in changed.items()}
        with zipfile.ZipFile(path, "w", packing) as archive:
            for member, content in contents.items():
                archive.writestr(member, content)
        return f".keras, {name}", path.stat().st_size, lambda: Classifier.load(path)

    def weights(change: Callable[[h5py.File], None]) -> bytes:
        (folder / "x.h5").write_bytes(members["model.weights.h5"])
        with h5py.File(folder / "x.h5", "a") as file:
            change(file)
        return (folder / "x.h5").read_bytes()

    def linked(file: h5py.File) -> None:
        for i in range(1000):
            file[f"copy{i}"] = file["layers"]

    def external(file: h5py.File) -> None:
        file.create_dataset("x", (4,), "f4", external=[("/etc/passwd", 0, 16)])

    def filled(file: h5py.File) -> None:
        file.create_dataset("x", (2**31,), "f4", chunks=(2**20,))

    def widened(config: str) -> bytes:
        content = json.loads(config)
        first = next(layer for layer in content["config"]["layers"] if layer["class_name"] == "Conv2D")
        first |= {"class_name": "UpSampling2D", "config": {"name": first["config"]["name"], "size": [1000, 1000]}}
        return json.dumps(content).encode()

    config = members["config.json"].decode()
    described = json.loads(members["classifier.json"])
    sized = described | {"preprocessing": described["preprocessing"] | {"image_size": [10**6, 10**6]}}
    named = described | {"class_names": ["a\nb", *described["class_names"][1:]]}
    yield made("64,000 channels everywhere", config__json=config.replace('"filters": 16', '"filters": 64000').encode())
    yield made("a Lambda", config__json=config.replace('"ReLU"', '"Lambda"').encode())
    yield made("100 MB of JSON in 100 kB", zipfile.ZIP_DEFLATED, config__json=b" " * 100_000_000)
    yield made("arrays under 1,000 hard links", **{"model__weights__h5": weights(linked)})
    yield made("an array in another file", **{"model__weights__h5": weights(external)})
    yield made("an array of 8 GB that is not there", **{"model__weights__h5": weights(filled)})
    yield made("an image size of 10^6", classifier__json=json.dumps(sized).encode())
    yield made("feature maps of 8,000x8,000", config__json=widened(config))
    more = {f"assets/{i}": bytes(10**6) for i in range(300)}
    yield made("300 MB of other members", zipfile.ZIP_DEFLATED, **more)
    yield made("a class name with a line break", classifier__json=json.dumps(named).encode())


def pickles(folder: Path) -> Iterator[Row]:
    """Yields checkpoints of PyTorch."""
    for i, (name, make) in enumerate(HOSTILE_PICKLES.items()):
        path = folder / f"{i}.pth"
        path.write_bytes(make())
        yield f"checkpoint, {name}", path.stat().st_size, lambda path=path: open_weights(path)


def bombs() -> dict[str, bytes]:
    """Returns images that would take much memory or time."""
    return {
        "a PNG of 16,000x16,000 behind a chunk of 8x8": png_of_hidden_size(16_000, 16_000),
        "a PNG of 16,000x16,000": flat_png(16_000, 16_000),
        "a JPEG of 10,000 scans": jpeg_of_scans(10_000, 128),
    }


def images(folder: Path) -> Iterator[Row]:
    """Yields images for prediction, evaluation, and training."""
    classifier = Classifier.from_pretrained("resnet20_cifar10")
    for i, (name, content) in enumerate(bombs().items()):
        yield f"prediction, {name}", len(content), lambda content=content: classifier.predict(content)
        place = folder / str(i)
        for part in ("train", "test"):
            for label in ("a", "b"):
                (place / part / label).mkdir(parents=True)
                (place / part / label / "1.img.jpg").write_bytes(content)
        for part, batches in (("evaluation", evaluation_batches), ("training", _training)):
            split = open_split("folder", "train", data_dir=place)
            yield (
                f"{part}, {name}",
                len(content),
                lambda split=split, batches=batches: list(batches(split, classifier.preprocessing, batch_size=2)),
            )


def _training(split: Any, preprocessing: Any, batch_size: int) -> Any:
    return training_batches(split, preprocessing, batch_size=batch_size, epochs=1)


def requests(folder: Path) -> Iterator[Row]:
    """Yields requests to `serve_bytes`; the last is the largest that it accepts."""
    write_saved_model(Classifier.from_pretrained("resnet20_cifar10"), folder / "saved")
    loaded = tf.saved_model.load(str(folder / "saved"))
    serve = loaded.signatures["serve_bytes"]

    def request(name: str, files: list[bytes]) -> Row:
        size = sum(map(len, files))
        return f"`serve_bytes`, {name}", size, lambda: (loaded, serve(image_bytes=tf.constant(files)))

    small, large = flat_png(32, 32), flat_png(LIMIT_SIDE, LIMIT_SIDE)
    serve(image_bytes=tf.constant([small]))
    for name, content in bombs().items():
        yield request(name, [content])
    yield request("8 PNGs of the limit of pixels", [large] * 8)
    yield request("257 small PNGs", [small] * 257)
    yield request("256 small PNGs, accepted", [small] * 256)
    yield request("1 PNG of the limit of pixels, accepted", [large])
    yield request("4 PNGs of the limit of pixels, the largest accepted", [large] * 4)


def mutated(folder: Path) -> Iterator[Row]:
    """Yields the outcomes of damaged files, by format."""
    pixels = np.random.default_rng(SEED).integers(0, 256, (9, 11, 3), np.uint8)
    image = Image.fromarray(pixels).resize((45, 37))
    classifier = Classifier.from_pretrained("resnet20_cifar10")
    for name, options in (
        *(("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("GIF", {}), ("BMP", {})),
        *(("TIFF", {}), ("AVIF", {})),
    ):
        file = io.BytesIO()
        image.save(file, name, **options)
        kind = f"progressive {name}" if options else name
        yield _damaged(kind, file.getvalue(), 300, classifier.preprocess)
    for suffix, count in ((".pth", 2000), (".safetensors", 1000), (".keras", 100)):
        path = folder / f"x{suffix}"
        if suffix == ".keras":
            Classifier.from_pretrained("resnet20_digits").save(path)
        elif suffix == ".pth":
            path.write_bytes(_checkpoint())
        else:
            path = next((ROOT / "resnet_keras" / "weights" / "pretrained").glob("*digits.safetensors"))

        def read(content: bytes, suffix: str = suffix) -> None:
            place = folder / f"y{suffix}"
            place.write_bytes(content)
            Classifier.load(place) if suffix == ".keras" else open_weights(place)

        yield _damaged(suffix, path.read_bytes(), count, read)


def _checkpoint() -> bytes:
    from helpers.foreign_weights import foreign, network, torch_bytes

    return torch_bytes({"state_dict": foreign(network(1), "cifar"), "epoch": 1}, zipped=True)


def _damaged(name: str, whole: bytes, count: int, read: Callable[[bytes], Any]) -> Row:
    def outcomes() -> str:
        rng, found = np.random.default_rng(SEED), Counter[str]()
        for _ in range(count):
            content = bytearray(whole)
            for place in rng.integers(0, len(content), rng.integers(1, 12)):
                content[place] = rng.integers(256)
            if rng.integers(4) == 0:
                del content[rng.integers(len(content)) :]
            try:
                read(bytes(content))
                found["read"] += 1
            except ValueError:
                found["refused"] += 1
        return ", ".join(f"{number:,} {outcome}" for outcome, number in sorted(found.items()))

    return f"{count:,} damaged {name} files", len(whole), outcomes


def annotations(folder: Path) -> Iterator[Row]:
    """Yields annotations of boxes, and masks."""

    def coco(name: str, **lists: list[Any]) -> Row:
        root = folder / f"coco {len(list(folder.iterdir()))}"
        write_coco(root, [])
        file = root / "annotations" / "instances_train2017.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | lists).replace('"@"', "[" * 900 + "]" * 900))
        return f"COCO, {name}", file.stat().st_size, lambda: _opened(open_boxes(root, "train", on_corrupt="skip"))

    def voc(name: str, old: str, new: str, listed: bytes = b"") -> Row:
        made = VocFolder(folder / f"voc {len(list(folder.iterdir()))}")
        file = made.add("a", [("dog", 3, 4, 20, 30)])
        file.write_text(file.read_text().replace(old, new, 1))
        (made.root / "ImageSets/Main/train.txt").write_bytes(b"a\n" + listed)
        return f"VOC, {name}", file.stat().st_size + len(listed), lambda: _opened(open_boxes(made.root, "train"))

    def mask(name: str, content: bytes) -> Row:
        root = folder / f"mask {len(list(folder.iterdir()))}"
        for part in ("images", "masks"):
            (root / "train" / part).mkdir(parents=True)
        Image.new("RGB", (3, 2)).save(root / "train/images/a.jpg")
        (root / "train/masks/a.png").write_bytes(content)
        return f"mask, {name}", len(content), lambda: open_masks(root, "train") and "opened"

    box = {"image_id": 7, "bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 0}
    classes = [{"id": number, "name": f"class {number}"} for number in range(100_000)]
    yield coco("a box of lists inside each other", annotations=[box | {"bbox": "@", "category_id": "@"}])
    known = [box | {"category_id": 99_999}] * 100_000
    yield coco("100,000 classes and 100,000 boxes", categories=classes, annotations=known)
    unknown = [box | {"category_id": 10**9 + number} for number in range(100_000)]
    yield coco("100,000 boxes of unknown classes", categories=classes, annotations=unknown)
    yield voc("a number of 900,000 digits", "<xmin>3", "<xmin>3" + "9" * 900_000)
    yield voc("a name of 300,000 spaces in a list", "", "", b"a" + b" " * 300_000 + b"b")
    yield voc("an entity", "<annotation>", '<!DOCTYPE a [<!ENTITY lol "x">]><annotation>&lol;')
    yield mask("a PNG of 13,000x13,000", flat_png(13_000, 13_000))
    yield mask("a PNG of 20,000x20,000", flat_png(20_000, 20_000))


def _opened(split: Any) -> str:
    return f"opened, {split.skipped_boxes:,} boxes left out"


def litert(folder: Path) -> Iterator[Row]:
    """Yields the outcomes of damaged LiteRT files, each run by a process of its own."""
    made = export("resnet20_digits", folder, formats=("float32",), images="noise")
    path, photo = made.path / "float32.tflite", folder / "a.png"
    Image.new("L", (8, 8)).save(photo)
    content = path.read_bytes()

    def read(changed: bytes) -> None:
        path.write_bytes(changed)
        LiteRTClassifier.open(path).predict(photo)

    yield _damaged(".tflite", content, 60, read)


GROUPS = (pickles, archives, images, requests, mutated, annotations, litert)


def measure(group: Callable[[Path], Iterator[Row]]) -> None:
    """Prints a line of JSON for each row of a group."""
    with tempfile.TemporaryDirectory() as folder:
        for name, size, act in group(Path(folder)):
            before, begun = _peak(), _cpu_seconds()
            try:
                result = act()
                happened = result if isinstance(result, str) else "answered"
            except (ValueError, tf.errors.InvalidArgumentError) as error:
                happened = "refused: " + _reason(str(error), folder)
            seconds = _cpu_seconds() - begun
            print(json.dumps([name, size, happened, seconds, _peak() - before]), flush=True)


def _cpu_seconds() -> float:
    return sum(os.times()[:4])  # with those of child processes


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _reason(message: str, folder: str) -> str:
    line = message.replace(folder, "").partition("can't be read: ")[2] or message.replace(folder, "")
    for start in ("assertion failed: [", "Summarized data: b'"):
        line = line.partition(start)[2] or line
    return line.split("\n")[0].rstrip("'").replace("|", "/")[:110]


def section(groups: Sequence[Callable[[Path], Iterator[Row]]], before: str = "") -> str:
    """Returns the section of the table, in Markdown.

    Args:
        groups: What is measured.
        before: The section before, whose other rows stay.
    """
    old = {row.split(" | ")[0]: row for row in before.splitlines() if row.startswith("| ")}
    new: dict[str, str] = {}
    measured = ", ".join(group.__name__ for group in groups)
    kept = f" Measured last: {measured}; others stay as they were, and their seconds are of a clock."
    lines = [
        TITLE,
        "",
        "`python benchmarks/hostile_input.py`, each group in a process of 12 GB of address space; seconds are of "
        "the CPU, memory is the growth of the peak." + kept * bool(before),
        "",
        "| file | bytes | what happens | CPU seconds | MB |",
        "|---|---:|---|---:|---:|",
    ]
    for group in groups:
        process = subprocess.Popen(
            [sys.executable, __file__, "--group", group.__name__],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE)),
        )
        for line in process.stdout or ():
            name, size, happened, seconds, growth = json.loads(line)
            new[f"| {name}"] = f"| {name} | {size:,} | {happened} | {seconds:.2f} | {growth / 1e6:.0f} |"
            print(new[f"| {name}"], flush=True)
        if process.wait():
            name = f"| {group.__name__}"
            new[name] = f"{name} | | **ended with status {process.returncode}** | | |"
            print(new[name], flush=True)
    return "\n".join([*lines, *({name: row for name, row in old.items() if name != "| file"} | new).values()]) + "\n"


def main() -> None:
    """Measures all groups, and replaces their section in `faults.md`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--group", choices=[group.__name__ for group in GROUPS], help="measure one, as lines of JSON")
    parser.add_argument("--groups", nargs="+", choices=[group.__name__ for group in GROUPS], help="only these")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_name("faults.md"))
    arguments = parser.parse_args()
    if arguments.group:
        measure(next(group for group in GROUPS if group.__name__ == arguments.group))
        return
    before, _, after = arguments.to.read_text(encoding="utf-8").partition(TITLE)
    old, _, following = after.partition("\n## ")
    chosen = [group for group in GROUPS if not arguments.groups or group.__name__ in arguments.groups]
    made = section(chosen, old if arguments.groups else "")
    rest = f"\n## {following}" if following else ""
    arguments.to.write_text(f"{before.rstrip()}\n\n{made}{rest}", encoding="utf-8")


if __name__ == "__main__":
    main()
