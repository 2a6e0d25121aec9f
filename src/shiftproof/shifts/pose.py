"""Shifts of the pose: the part, or the camera, has moved. The mask moves with the image.

Each function takes an image (uint8 [H, W, 3]), its mask (bool [H, W] or None), the parameter of its severity and a
random generator, and returns both in the same frame. What comes into view at the border is a mirror image. It
may show a defect once more; then the mask does so too, for it says what is to be seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shiftproof.shifts.base import Image, Mask, Shifted

GRAY = 114  # the published rotation set's corners
Affine = NDArray[np.float64]
"""float64 [2, 3]: takes a place in the moved image (x, y, 1) to one in the source; a pixel's centre lies at + 0.5."""


def rotation(
    image: Image, mask: Mask | None, largest: float, rng: np.random.Generator, *, fill: int | None = None
) -> Shifted:
    """Turn by a multiple of 90 degrees, then by up to ``largest`` degrees either way; both are drawn.

    Other images than square ones turn by 0 or 180 degrees first, so that their frame stays what it is.
    """
    quarter_turns, share = int(rng.integers(4)), rng.uniform(-1, 1)
    height, width = image.shape[:2]
    if height != width:
        quarter_turns = quarter_turns // 2 * 2
    image, mask = np.rot90(image, quarter_turns), None if mask is None else np.rot90(mask, quarter_turns)
    angle = np.deg2rad(largest * share)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return move(image, mask, about_centre(turn, height, width), fill)


def rotation_gray(image: Image, mask: Mask | None, largest: float, rng: np.random.Generator) -> Shifted:
    """As :func:`rotation`, with gray corners (the published form: its corners are anomalies)."""
    return rotation(image, mask, largest, rng, fill=GRAY)


def translation(image: Image, mask: Mask | None, share: float, rng: np.random.Generator) -> Shifted:
    """Move by ``share`` of the shorter side, to whole pixels; the direction is drawn."""
    angle = 2 * np.pi * rng.random()
    step = np.round(share * min(image.shape[:2]) * np.array([np.cos(angle), np.sin(angle)]))
    return move(image, mask, np.column_stack([np.eye(2), step]))


def scale(image: Image, mask: Mask | None, share: float, rng: np.random.Generator) -> Shifted:
    """Enlarge by 1 + ``share`` or shrink by as much, about the centre; which of the two is drawn."""
    factor = (1 + share) ** (1 if rng.random() < 0.5 else -1)
    return move(image, mask, about_centre(np.eye(2) / factor, *image.shape[:2]))


def about_centre(linear: Affine, height: int, width: int) -> Affine:
    """The affine map that does ``linear`` (float64 [2, 2]) and leaves the centre where it is."""
    centre = np.array([width / 2, height / 2])
    return np.column_stack([linear, centre - linear @ centre])


def move(image: Image, mask: Mask | None, to_source: Affine, fill: int | None = None) -> Shifted:
    """Resample an image (bicubic) and its mask (nearest neighbour).

    Args:
        image: uint8 [H, W, 3].
        mask: bool [H, W], or None.
        to_source: where in the source each place of the result comes from.
        fill: gray level of what comes into view; None mirrors the border.

    A defect so small that it falls between the nearest neighbours is marked where its pixels land: what is in the
    frame is in the mask.
    """
    moved_image = _resample(image, to_source, fill)
    if mask is None or not mask.any():
        return Shifted(moved_image, None if mask is None else np.zeros_like(mask), lost=0)
    from scipy.ndimage import label

    regions, count = label(mask, structure=np.ones((3, 3)))
    moved = _resample(regions, to_source, None if fill is None else 0)
    moved_mask = moved > 0
    missing = np.setdiff1d(np.arange(1, count + 1), moved)
    if missing.size:
        rows, columns = np.nonzero(np.isin(regions, missing))
        landing = np.linalg.solve(to_source[:, :2], np.stack([columns, rows]) + 0.5 - to_source[:, 2:])
        x, y = np.floor(landing).astype(int)
        inside = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
        moved_mask[y[inside], x[inside]] = True
        missing = np.setdiff1d(missing, regions[rows[inside], columns[inside]])
    return Shifted(moved_image, moved_mask, lost=missing.size)


def _resample(array: NDArray, to_source: Affine, fill: int | None) -> NDArray:
    """Pixels (uint8 [H, W, 3], bicubic) or region numbers (int32 [H, W], nearest) after the map, in the same frame."""
    from PIL import Image as Pillow

    height, width = array.shape[:2]
    margin = 0
    if fill is None:
        corners = to_source @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
        beyond = max(-corners.min(), *(corners.max(axis=1) - (width, height)))
        margin = max(int(np.ceil(beyond)), 0) + 2  # 2: what a bicubic kernel sees past the last pixel
        array = np.pad(array, [(margin, margin)] * 2 + [(0, 0)] * (array.ndim - 2), mode="reflect")
    pixels = array.ndim == 3
    moved = Pillow.fromarray(np.ascontiguousarray(array)).transform(
        (width, height),
        Pillow.Transform.AFFINE,
        tuple((to_source + [[0, 0, margin]]).ravel()),
        Pillow.Resampling.BICUBIC if pixels else Pillow.Resampling.NEAREST,
        fillcolor=(fill or 0,) * 3 if pixels else 0,
    )
    return np.array(moved)
