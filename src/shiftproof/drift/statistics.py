"""What an image looks like as a whole, in a few numbers: light, contrast, colour, sharpness, grain, direction, evenness, place.

They measure what image correction measures (:mod:`shiftproof.networks.correction`), and what it cannot correct besides,
in NumPy alone and in a few milliseconds. All are means over a band of order statistics or over the whole image, so that a
defect, which changes a few pixels, moves them little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import ImageError

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # weights of red, green and blue (ITU-R BT.601)
LEVEL, LOGARITHM, SHARE = 1 / 16, 1 / 256, 1 / 512  # resolutions: gray levels, natural logarithms, shares of a whole
FLOOR = 0.05  # gray levels, added before a logarithm: an image without noise or edges has one too
MULTIPLE = 32  # of which height and width are multiples, as every model's are
Plane = NDArray[np.floating[Any]]  # float32 [h, w]


@dataclass(frozen=True)
class Statistic:
    """One number that is measured on every image."""

    name: str  # as in tables
    group: str  # what it says of the image, one of `GROUPS`
    resolution: float  # differences below this mean nothing; values are compared in steps of it


STATISTICS: tuple[Statistic, ...] = (
    Statistic("light", "light", LEVEL),  # mean luminance without its extremes
    Statistic("contrast", "contrast", LOGARITHM),  # log of bright less dark tones
    Statistic("red", "colour", LEVEL),  # red less luminance
    Statistic("blue", "colour", LEVEL),  # blue less luminance
    Statistic("crispness", "sharpness", LOGARITHM),  # log of second to first differences at edges
    Statistic("fine_edges", "sharpness", LOGARITHM),  # log of edges over 2 pixels to edges over 4
    Statistic("grain", "noise", LOGARITHM),  # log of the noise in luminance
    Statistic("colour_grain", "noise", LOGARITHM),  # log of the noise in red and blue less luminance
    Statistic("direction_2_cos", "orientation", SHARE),  # second and fourth harmonics of the directions of edges
    Statistic("direction_2_sin", "orientation", SHARE),
    Statistic("direction_4_cos", "orientation", SHARE),
    Statistic("direction_4_sin", "orientation", SHARE),
    Statistic("place_across", "place", SHARE),  # where the edges' centre of gravity lies, by half of the width
    Statistic("place_down", "place", SHARE),  # by half of the height
    Statistic("size", "place", LOGARITHM),  # log of how far the edges spread from there
    Statistic("slope_across", "evenness", LOGARITHM),  # of the logarithm of light, from the middle to the right border
    Statistic("slope_down", "evenness", LOGARITHM),  # from the middle to the lower border
    Statistic("falloff", "evenness", LOGARITHM),  # from the middle to the corners
)
"""In the order of :func:`measure`'s result."""

GROUPS = tuple(dict.fromkeys(statistic.group for statistic in STATISTICS))
RESOLUTIONS = np.array([statistic.resolution for statistic in STATISTICS])


def measure(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Measure one image.

    Args:
        pixels: uint8 [H, W, 3], RGB, at the model's input size: H and W multiples of 32.

    Returns:
        float64 [18], all finite, in the order of :data:`STATISTICS`.

    Raises:
        ImageError: another shape or type.

    >>> flat = measure(np.full((64, 64, 3), 100, np.uint8))
    >>> flat[:2].round(3).tolist(), flat[8:].round(3).tolist() == [0] * 10
    ([100.0, 0.0], True)
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not _fits(pixels.shape):
        raise ImageError(
            f"an image of shape {pixels.shape} and type {pixels.dtype} cannot be measured: expected uint8 [H, W, 3] with "
            f"sides that are multiples of {MULTIPLE}, as the networks see it; resize with shiftproof.data.resize_image"
        )
    red, blue = (pixels[..., channel].astype(np.float32) for channel in (0, 2))
    luminance = LUMINANCE[0] * red + LUMINANCE[1] * pixels[..., 1] + LUMINANCE[2] * blue
    half, across, down, diagonal = _haar(luminance)
    quarter, across_4, down_4, _ = _haar(half)
    tints = [_haar(colour - luminance) for colour in (red, blue)]
    tint_grain = sum(_grain(tint[3][::2]) for tint in tints) / 2
    return np.array(
        [
            _between(quarter, 0.05, 0.95),
            math.log1p(max(_between(quarter, 0.9, 0.98) - _between(quarter, 0.02, 0.1), 0.0)),
            *(_between(_haar(tint[0])[0], 0.05, 0.95) for tint in tints),
            _crispness(luminance),
            _log_ratio(_strongest(_length(across, down)), _strongest(_length(across_4, down_4))),
            math.log(_grain(diagonal) + FLOOR),
            math.log(tint_grain + FLOOR),
            *_directions_and_place(quarter),
            *_evenness(_haar(quarter)[0]),
        ]
    )


def _fits(shape: tuple[int, ...]) -> bool:
    return all(side >= MULTIPLE and side % MULTIPLE == 0 for side in shape[:2])


def _haar(values: Plane) -> tuple[Plane, ...]:
    """Means of 2 x 2 pixels, and the orthonormal Haar coefficients across, down and diagonal: [H / 2, W / 2] each."""
    left, right = values[:, ::2], values[:, 1::2]
    total, step = left + right, left - right
    upper, lower = total[::2], total[1::2]
    return (upper + lower) / 4, (step[::2] + step[1::2]) / 2, (upper - lower) / 2, (step[::2] - step[1::2]) / 2


def _length(across: Plane, down: Plane) -> Plane:
    """Of vectors, :func:`numpy.hypot` at a quarter of its time; gray levels are far from where squares overflow."""
    return np.sqrt(across * across + down * down)


def _between(values: Plane, low: float, high: float) -> float:
    """Mean of the order statistics between two quantiles: as robust as a quantile, and continuous where those tie."""
    first, last = round(low * values.size), max(round(high * values.size), round(low * values.size) + 1)
    # NumPy sorts float32 with vector instructions, and so several times as fast as it partitions at two places.
    return float(np.sort(values, axis=None)[first:last].mean(dtype=np.float64))


def _grain(diagonal: Plane) -> float:
    """Standard deviation of the noise: from the smaller half of the diagonal coefficients, where no edges are.

    For normal noise the mean of the smaller half of absolute values is 0.3247 standard deviations.
    """
    return _between(np.abs(diagonal), 0.0, 0.5) / 0.3247


def _strongest(strength: Plane) -> float:
    """How strong the edges are: between the 97 % and 99.5 % quantiles; what lies above may be a defect's."""
    return _between(strength, 0.97, 0.995)


def _crispness(luminance: Plane) -> float:
    """Second differences at edges by first differences there, in every other row: blur lowers it, contrast does not."""
    middle, above, below = luminance[1:-1:2, 1:-1], luminance[:-2:2, 1:-1], luminance[2::2, 1:-1]
    left, right = luminance[1:-1:2, :-2], luminance[1:-1:2, 2:]
    second = np.abs(4 * middle - above - below - left - right)
    return _log_ratio(_strongest(second), _strongest(_length(right - left, below - above)))


def _log_ratio(over: float, under: float) -> float:
    return math.log((over + FLOOR) / (under + FLOOR))


def _directions_and_place(values: Plane) -> list[float]:
    """Harmonics of the directions of edges, weighted with their strength; where they lie, and how far apart.

    The median strength, which noise has everywhere, counts for nothing.
    """
    rows, columns = values[1:] + values[:-1], values[:, 1:] + values[:, :-1]
    across, down = rows[:, 1:] - rows[:, :-1], columns[1:] - columns[:-1]
    strength = _length(across, down)
    weight = np.maximum(strength - np.median(strength), 0)
    total = float(weight.sum())
    if total <= 1e-3 * weight.size:  # nothing but the rounding of 8 bits
        return [0.0] * 7
    squared = np.maximum(strength, 1e-6) ** 2
    cos_2, sin_2 = (across**2 - down**2) / squared, 2 * across * down / squared
    harmonics = [cos_2, sin_2, cos_2**2 - sin_2**2, 2 * cos_2 * sin_2]
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in weight.shape)
    by_column, by_row = weight.sum(axis=0), weight.sum(axis=1)
    centre_x, centre_y = float(by_column @ x) / total, float(by_row @ y) / total
    moment = (float(by_column @ (x - centre_x) ** 2) + float(by_row @ (y - centre_y) ** 2)) / total
    return [
        *(float((weight * each).sum()) / total for each in harmonics),
        centre_x,
        centre_y,
        math.log(moment + 1e-2) / 2,
    ]


def _evenness(eighth: Plane) -> list[float]:
    """Slopes and falloff of the light: a plane and a bowl fitted to the logarithms of medians over 8 x 8 (or 4) cells."""
    height, width = eighth.shape
    rows, columns = (np.linspace(-1, 1, math.gcd(8, side)) for side in (height, width))
    cells = eighth.reshape(len(rows), height // len(rows), len(columns), width // len(columns))
    field = np.log1p(np.median(cells, axis=(1, 3)).astype(np.float64))
    bowl = (rows[:, None] ** 2 + columns**2) / 2
    bowl = bowl - bowl.mean()
    across = float((field * columns).sum() / (np.square(columns).sum() * len(rows)))
    down = float((field * rows[:, None]).sum() / (np.square(rows).sum() * len(columns)))
    falloff = float((field * bowl).sum() / np.square(bowl).sum())
    return [across, down, falloff]
