"""Whitening stem: a first convolution that decorrelates patches of the images (arXiv:2404.00498, section 3.1)."""

from __future__ import annotations

import keras
import numpy as np

_PATCHES = 100_000
_FLOOR = 5e-4  # added to eigenvalues, as in the paper: directions of low variance are noise


def whiten(model: keras.Model, images: np.ndarray, seed: int = 0) -> None:
    """Initializes a network's stem with the principal components of image patches, scaled to a variance of 1.

    Each component becomes two filters, itself and its negative, because the ReLU after them keeps one half of each. The
    components of largest variance are used; filters beyond twice their number keep their values.

    Args:
        model: A network whose first convolution is `stem_conv`.
        images: Normalized images (N, H, W, C), no smaller than the convolution's kernel.
        seed: Seed of the choice of patches.

    Raises:
        ValueError: The images have another number of channels than the network, or are smaller than a patch.
    """
    layer = model.get_layer("stem_conv")
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    height, width, channels, filters = kernel.shape
    if images.ndim != 4 or images.shape[3] != channels or images.shape[1] < height or images.shape[2] < width:
        raise ValueError(
            f"Expected images of {channels} channels and at least {height}x{width} pixels. Received: {images.shape}"
        )
    rng = np.random.default_rng(seed)
    which = rng.integers(len(images), size=_PATCHES)
    tops = rng.integers(images.shape[1] - height + 1, size=_PATCHES)[:, None, None]
    lefts = rng.integers(images.shape[2] - width + 1, size=_PATCHES)[:, None, None]
    rows, columns = np.arange(height)[:, None], np.arange(width)
    patches = images[which[:, None, None], tops + rows, lefts + columns].reshape(_PATCHES, -1)
    values, vectors = np.linalg.eigh(np.cov(patches.astype(np.float64), rowvar=False))
    count = min(filters // 2, len(values))
    chosen = vectors[:, ::-1][:, :count] / np.sqrt(values[::-1][:count] + _FLOOR)
    kernel[..., : 2 * count] = np.concatenate([chosen, -chosen], axis=1).reshape(height, width, channels, 2 * count)
    layer.kernel.assign(kernel)
