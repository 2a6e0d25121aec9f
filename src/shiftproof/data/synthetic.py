"""Images out of a seed, for what needs images and not any particular ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftproof.data.images import resize_image


def synthetic_images(size: tuple[int, int], count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth fields of colour, edges and noise.

    Args:
        size: (height, width).
        count: how many.
        seed: the same seed gives the same images.

    Returns:
        uint8 [count, height, width, 3].

    >>> synthetic_images((64, 96), count=2).shape
    (2, 64, 96, 3)
    """
    random = np.random.default_rng(seed)
    height, width = size
    pixels = np.empty((count, height, width, 3), np.uint8)
    for image in pixels:
        cells = int(random.integers(3, 12))
        image[:] = resize_image(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8), size)
        top, left = random.integers(0, height // 2), random.integers(0, width // 2)
        image[top : top + height // 3, left : left + width // 4] = random.integers(0, 256, 3)
        noisy = image + random.normal(0, random.uniform(0, 12), image.shape)
        image[:] = noisy.clip(0, 255).astype(np.uint8)
    return pixels
