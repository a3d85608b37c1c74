"""Training input of other libraries for `input_peers.py`: `python input_loaders.py LOADER PHOTOS THREADS`.

Each loader reads photographs without end: a random crop of 8 to 100 % of the area, resized to 224x224 pixels by
bilinear interpolation with antialiasing, mirrored at random, and normalized, in batches of 32. Each line of input is a
number of batches; the answer is an empty line when they have been read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCH, SIDE, AREA = 32, 224, (0.08, 1.0)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
REPEATS = 400  # passes over the photographs, as one epoch: an end of an epoch stops the workers


def torchvision(photos: Path, threads: int, *, pillow: bool) -> Iterator[Any]:
    """Yields batches of a `DataLoader`, decoded by Pillow or by torchvision."""
    import torch
    from PIL import Image
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms import v2

    torch.set_num_threads(1)

    def decoded(path: str) -> Any:
        if pillow:
            with Image.open(path) as image:
                return image.convert("RGB")
        return decode_jpeg(read_file(path), ImageReadMode.RGB)

    vary = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, scale=AREA, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor() if pillow else v2.Identity(),
            v2.ToDtype(torch.float32),
            v2.Normalize(MEAN, STD),
        ]
    )

    class Photographs(torch.utils.data.Dataset):  # type: ignore[misc]
        paths = sorted(map(str, photos.glob("*/*"))) * REPEATS

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> Any:
            return vary(decoded(self.paths[index]))

    yield from torch.utils.data.DataLoader(
        Photographs(), BATCH, shuffle=True, num_workers=threads, drop_last=True, persistent_workers=True
    )


def dali(photos: Path, threads: int) -> Iterator[Any]:
    """Yields batches of NVIDIA DALI's operators for CPUs."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=BATCH, num_threads=threads, device_id=None)
    def pipeline() -> Any:
        encoded, _ = fn.readers.file(file_root=str(photos), random_shuffle=True)
        images = fn.decoders.image_random_crop(encoded, device="cpu", random_area=AREA, output_type=types.RGB)
        images = fn.resize(images, size=(SIDE, SIDE), interp_type=types.INTERP_LINEAR, antialias=True)
        mirrored = fn.random.coin_flip(probability=0.5)
        return fn.crop_mirror_normalize(images, mirror=mirrored, mean=MEAN, std=STD, output_layout="HWC")

    made = pipeline()
    made.build()
    while True:
        yield made.run()


LOADERS: dict[str, Callable[[Path, int], Iterator[Any]]] = {
    "torchvision": lambda photos, threads: torchvision(photos, threads, pillow=False),
    "torchvision_pillow": lambda photos, threads: torchvision(photos, threads, pillow=True),
    "dali": dali,
}


def main() -> None:
    """Reads batches until there are no more lines."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not be read as an answer
    loader, photos, threads = sys.argv[1:]
    batches = LOADERS[loader](Path(photos), int(threads))
    for line in sys.stdin:
        for _ in range(int(line)):
            next(batches)
        print(file=answers)


if __name__ == "__main__":
    main()
