"""What every shift is made of, and the errors it may raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.errors import UsageError

Image = NDArray[np.uint8]
"""uint8 [H, W, 3], RGB."""
Mask = NDArray[np.bool_]
"""bool [H, W], True on defects."""

SEVERITIES = range(1, 6)


class ShiftNotApplicable(UsageError):  # noqa: N818 - a fact about the image; the caller may well go on without it
    """A shift that cannot change this image, such as a colour shift of a gray one."""


@dataclass(frozen=True)
class Shifted:
    """An image after a shift."""

    image: Image
    """uint8 [H, W, 3], of the size that went in."""
    mask: Mask | None
    """bool [H, W], moved along with the image; None if none was given."""
    lost: int
    """How many of the mask's defects (8-connected regions) now lie wholly outside the frame."""


@dataclass(frozen=True)
class Shift:
    """One way in which an image from the line comes to differ from the training images."""

    name: str
    """As the command line and the tables call it."""
    apply: Callable[[Image, Mask | None, Any, np.random.Generator], Shifted]
    """Takes the image, its mask, one of the parameters and a random generator."""
    parameters: tuple[Any, Any, Any, Any, Any]
    """For severity 1 to 5."""
    meaning: str
    """What the parameter is, with its unit."""
    moves: bool = False
    """True if the parts change place in the frame, and the mask with them."""


def to_pixels(values: NDArray[np.floating]) -> Image:
    """Gray levels of any range as uint8 of the same shape: clipped to 0..255, halves rounded up.

    Half to even, NumPy's rule, would merge neighbouring levels wherever a shift adds half a level.

    >>> to_pixels(np.array([-3.0, 25.5, 26.5, 254.7, 300.0]))
    array([  0,  26,  27, 255, 255], dtype=uint8)
    """
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def is_gray(image: Image) -> bool:
    """True if the three channels of ``image`` (uint8 [H, W, 3]) are the same."""
    red, green, blue = np.moveaxis(image, -1, 0)
    return np.array_equal(red, green) and np.array_equal(green, blue)
