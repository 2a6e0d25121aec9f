"""Shifts of the light: other gray levels, everything in its place.

Each function takes an image (uint8 [H, W, 3]), the parameter of its severity and a random generator (used only
where the text says that something is drawn), and returns a new image of the same shape and dtype.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftproof.shifts.base import Image, ShiftNotApplicable, is_gray, to_pixels

LEVELS = np.arange(256, dtype=np.float64)
DAYLIGHT_MIRED = 1e6 / 6500
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB
XYZ_TO_RGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])


def brightness(image: Image, added: float, rng: np.random.Generator) -> Image:
    """Add ``added`` (of 1) to V in HSV space (ImageNet-C).

    Hue and saturation stay, so every pixel is scaled by V'/V, where V is its largest channel; black becomes gray.

    >>> brightness(np.array([[[100, 50, 0], [0, 0, 0]]], np.uint8), 0.2, np.random.default_rng(0)).tolist()
    [[[151, 76, 0], [51, 51, 51]]]
    """
    brighter = np.minimum(LEVELS + 255 * added, 255)
    table = np.empty((256, 256))  # [V, level of a channel]
    table[1:] = LEVELS * brighter[1:, None] / LEVELS[1:, None]
    table[0] = brighter[0]
    return to_pixels(table)[image.max(axis=-1, keepdims=True), image]


def contrast(image: Image, kept: float, rng: np.random.Generator) -> Image:
    """Draw each channel towards its mean over the image, keeping the share ``kept`` of every deviation (ImageNet-C)."""
    means = image.mean(axis=(0, 1), dtype=np.float64)
    return _by_channel(image, to_pixels((LEVELS - means[:, None]) * kept + means[:, None]))


def exposure(image: Image, gamma: float, rng: np.random.Generator) -> Image:
    """Darken as a lamp that ages or a shorter exposure does: level^gamma, on levels in [0, 1]."""
    return to_pixels(255 * (LEVELS / 255) ** gamma)[image]


def vignetting(image: Image, corner: float, rng: np.random.Generator) -> Image:
    """Darken towards the corners, where the share ``corner`` of each level is left.

    The falloff is a lens's: cos^4 of the angle to the optical axis, which stands in the middle of the image.
    """
    height, width = image.shape[:2]
    y, x = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    squared = y[:, None] ** 2 + x**2
    tangent = (corner**-0.5 - 1) * squared / max(squared[0, 0], 1)  # squared, of the angle
    return to_pixels(image / ((1 + tangent) ** 2)[..., None])


def colour_temperature(image: Image, mired: float, rng: np.random.Generator) -> Image:
    """Light the scene warmer or cooler than 6500 K by ``mired`` (1e6 / kelvin); which of the two is drawn.

    The gains of red, green and blue are those of a black body's light, at equal luminance, on linear sRGB.

    Raises:
        ShiftNotApplicable: the image is gray: it would get a tint that no camera of its kind can record.
    """
    if is_gray(image):
        raise ShiftNotApplicable(
            "colour_temperature needs a colour image, and this one is gray (R = G = B): leave that shift out"
        )
    sign = 1 if rng.random() < 0.5 else -1
    gains = colour_gains(1e6 / (DAYLIGHT_MIRED + sign * mired))
    encoded = LEVELS / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    lit = np.minimum(linear * gains[:, None], 1)
    return _by_channel(
        image, to_pixels(255 * np.where(lit <= 0.0031308, 12.92 * lit, 1.055 * lit ** (1 / 2.4) - 0.055))
    )


def colour_gains(kelvin: float) -> NDArray[np.float64]:
    """By how much a black body's light differs from 6500 K: float64 [3], linear R, G, B, luminance-weighted mean 1.

    >>> colour_gains(6500).round(6)
    array([1., 1., 1.])
    """
    gains = _linear_rgb(kelvin) / _linear_rgb(6500)
    return gains / (gains @ LUMINANCE)


def black_body_chromaticity(kelvin: float) -> tuple[float, float]:
    """CIE 1931 x and y of a black body from 4000 to 25000 K (cubic fit of Kim, Kang and others, US patent 7024034)."""
    x = -3.0258469e9 / kelvin**3 + 2.1070379e6 / kelvin**2 + 0.2226347e3 / kelvin + 0.240390
    return x, 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483


def _linear_rgb(kelvin: float) -> NDArray[np.float64]:
    x, y = black_body_chromaticity(kelvin)
    return XYZ_TO_RGB @ (x / y, 1, (1 - x - y) / y)


def _by_channel(image: Image, tables: Image) -> Image:
    """Look every level up in its channel's table: ``tables`` is uint8 [3, 256]."""
    return np.stack([table[channel] for table, channel in zip(tables, np.moveaxis(image, -1, 0), strict=True)], axis=-1)
