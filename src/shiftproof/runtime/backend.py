"""What a backend is, and what it accepts: the same for torch and for every exported graph."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import ImageError

GRAPH_VERSION = 1
"""Of the contract of an exported graph: its input, its outputs and what its metadata tell."""
INPUT = "pixels"
"""uint8 [B, H, W, 3] RGB; B is free, H and W are the model's image size."""
OUTPUTS = ("map", "score", "p_value")
"""float32 [B, H, W], [B] and [B]."""


class Backend(Protocol):
    """Computes anomaly maps and scores."""

    name: str  # of the backend
    image_size: tuple[int, int]  # height and width of the images that it takes

    def maps_and_scores(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Inspect images of the model's size.

        Args:
            pixels: uint8 [B, H, W, 3] RGB, B >= 1, in any memory order.

        Returns:
            anomaly maps, float32 [B, H, W], and image scores, float64 [B].

        Raises:
            ImageError: another shape or type.
        """
        ...


def check_pixels(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels in C order, if they are what a graph of that image size takes.

    Args:
        pixels: to be uint8 [B, height, width, 3], B >= 1.
        size: (height, width).

    Raises:
        ImageError: they are not; the message says what to do.

    >>> check_pixels(np.zeros((1, 3, 64, 96), np.uint8), (64, 96))
    Traceback (most recent call last):
    shiftproof.errors.ImageError: pixels of shape (1, 3, 64, 96) and type uint8: expected uint8 [B, 64, 96, 3]; \
channels come last, np.moveaxis(pixels, 1, -1) puts them there
    """
    expected = (*size, 3)
    if pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[1:] == expected and len(pixels):
        return np.ascontiguousarray(pixels)
    if pixels.dtype != np.uint8:
        fix = "give 0 to 255 as uint8, without normalisation: that is in the graph"
    elif pixels.shape == expected:
        fix = "a single image is a batch of one, pixels[None]"
    elif pixels.ndim == 4 and pixels.shape[1:] == (3, *size):
        fix = "channels come last, np.moveaxis(pixels, 1, -1) puts them there"
    elif pixels.ndim == 4 and pixels.shape[-1] != 3:
        fix = "give three channels, red first: drop alpha, repeat gray"
    else:
        fix = "resize with shiftproof.data.resize_image, as in training, or let Detector.inspect do it"
    shape = f"uint8 [B, {size[0]}, {size[1]}, 3]"
    raise ImageError(f"pixels of shape {pixels.shape} and type {pixels.dtype}: expected {shape}; {fix}")
