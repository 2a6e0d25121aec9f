"""Every shift by its name, and the one function that applies them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from shiftproof.errors import UsageError, unknown
from shiftproof.shifts import camera, light, pose
from shiftproof.shifts.base import SEVERITIES, Image, Mask, Shift, Shifted


def _in_place(change: Callable[[Image, Any, np.random.Generator], Image]) -> Callable[..., Shifted]:
    """A change of the pixels alone, as the registry holds it: the mask stays as it is."""

    def apply(image: Image, mask: Mask | None, parameter: Any, rng: np.random.Generator) -> Shifted:
        return Shifted(change(image, parameter, rng), mask, lost=0)

    return apply


_TURN = "largest angle after the quarter turns, degrees"
_DISK = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))

SHIFTS: Mapping[str, Shift] = MappingProxyType(
    {
        shift.name: shift
        for shift in (
            Shift("brightness", _in_place(light.brightness), (0.1, 0.2, 0.3, 0.4, 0.5), "added to V in HSV, of 1"),
            Shift("contrast", _in_place(light.contrast), (0.4, 0.3, 0.2, 0.1, 0.05), "share of the contrast kept"),
            Shift("defocus_blur", _in_place(camera.defocus_blur), _DISK, "radius and softness of the disk, pixels"),
            Shift(
                "gaussian_noise",
                _in_place(camera.gaussian_noise),
                (0.08, 0.12, 0.18, 0.26, 0.38),
                "standard deviation, of 1",
            ),
            Shift("rotation", pose.rotation, (6, 15, 30, 37.5, 45), _TURN, moves=True),
            Shift("rotation_gray", pose.rotation_gray, (6, 15, 30, 37.5, 45), _TURN, moves=True),
            Shift("exposure", _in_place(light.exposure), (1.25, 1.5, 2, 2.5, 3.5), "gamma"),
            Shift(
                "colour_temperature",
                _in_place(light.colour_temperature),
                (16, 32, 48, 72, 96),
                "distance from 6500 K, mired",
            ),
            Shift("vignetting", _in_place(light.vignetting), (0.85, 0.7, 0.55, 0.4, 0.25), "share left in the corners"),
            Shift(
                "motion_blur",
                _in_place(camera.motion_blur),
                (0.01, 0.02, 0.03, 0.045, 0.06),
                "way moved, by the shorter side",
            ),
            Shift("jpeg", _in_place(camera.jpeg), (25, 18, 15, 10, 7), "quality"),
            Shift("translation", pose.translation, (0.02, 0.04, 0.06, 0.09, 0.12), "by the shorter side", moves=True),
            Shift("scale", pose.scale, (0.03, 0.06, 0.1, 0.15, 0.2), "enlarged by 1 + this, or shrunk", moves=True),
        )
    }
)


def apply_shift(name: str, image: Image, mask: Mask | None, severity: int, seed: int) -> Shifted:
    """Shift one image at its own size.

    Args:
        name: a key of :data:`SHIFTS`.
        image: uint8 [H, W, 3], RGB; left as it is.
        mask: bool [H, W], True on defects, or None.
        severity: 1 to 5.
        seed: 0 or more; the same gives the same pixels. :func:`image_seed` makes one for each image of a set.

    Returns:
        image and mask of the same shapes; the mask is the one given in, where nothing moves.

    Raises:
        UsageError: unknown name, severity out of 1..5, a negative seed, or arrays of another shape or dtype.
        ShiftNotApplicable: colour_temperature on a gray image.

    >>> black = np.zeros((2, 2, 3), np.uint8)
    >>> apply_shift("brightness", black, None, severity=2, seed=0).image[0, 0].tolist()
    [51, 51, 51]
    """
    check_shift(name, severity)
    if seed < 0:
        raise UsageError(f"seed {seed} of shift {name!r} is negative: give 0 or more")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(f"a shift takes an image uint8 [H, W, 3], got {image.dtype} {list(image.shape)}: convert it")
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != image.shape[:2]):
        raise UsageError(
            f"a shift takes a mask bool {list(image.shape[:2])}, got {mask.dtype} {list(mask.shape)}: convert it"
        )
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    shift = SHIFTS[name]
    return shift.apply(image, mask, shift.parameters[severity - 1], rng)


def check_shift(name: str, severity: int) -> None:
    """Raise :class:`~shiftproof.errors.UsageError` unless the shift is known and its severity one of 1..5."""
    if name not in SHIFTS:
        raise unknown("shift", name, SHIFTS)
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity} of shift {name!r} is out of range: give 1 to 5")


def image_seed(seed: int, condition: str, image_name: str) -> int:
    """A seed of its own for each image, whatever the order in which a set is read: 64 bits of a SHA-256.

    Args:
        seed: of the whole run.
        condition: its name, such as ``"rotation-3"``.
        image_name: posix path relative to the data set's root.

    >>> image_seed(0, "rotation-3", "test/good/000.png")
    15008732724771404255
    """
    digest = hashlib.sha256("\0".join((str(seed), condition, image_name)).encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big")
