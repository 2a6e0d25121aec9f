"""Mask files as different tools write them: which pixels are defective, and what looks wrong about the file.

Plain are: nothing but two values; labels of classes (all of them defective); a palette. Less plain files are read by the
most likely meaning, which :attr:`MaskReading.notes` names: antialiased or JPEG edges, void labels, a background that is
not black. A picture that was painted over is no mask and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.data.source import Source, load_source, read_bytes, refusal, refusing_damage
from shiftproof.data.tiff import SOFTWARE, is_white_zero

MOST_CLASSES = 32
"""Labels above this are no class numbers."""
MOST_COLORS = 64
"""A mask has fewer colours than this, or one that covers more than half of it."""
VOID = 255
_VOID_COLOR = 224 << 16 | 224 << 8 | 192  # in pictures of PASCAL VOC's palette


@dataclass(frozen=True)
class MaskReading:
    """A mask, and what its file leaves open."""

    mask: NDArray[np.bool_]
    """[H, W], True where defective."""
    notes: tuple[str, ...]
    """What looks wrong, or had to be assumed; empty for a plain mask."""
    orientation: int
    """EXIF orientation of the mask's own file, by which it was turned; 1 for none."""


def read_mask(path: Path | str) -> NDArray[np.bool_]:
    """Read a ground-truth mask: bool [H, W], True where defective; see :func:`inspect_mask`."""
    return inspect_mask(path).mask


def inspect_mask(path: Path | str) -> MaskReading:
    """Read a ground-truth mask, and say what is unusual about it.

    Raises:
        ImageError: as :func:`~shiftproof.data.images.read_image`; ImageFormatError: it is a picture, not a mask.
    """
    with refusing_damage(str(path)):
        source = load_source(read_bytes(path), str(path))
        notes: list[str] = []
        mask = _read(source, str(path), notes)
        covered = float(mask.mean())
        if covered > 0.5:
            notes.append(f"covers {covered:.0%} of its image; black on white? Defects are white on black")
        return MaskReading(mask, tuple(notes), source.orientation)


def _read(source: Source, name: str, notes: list[str]) -> NDArray[np.bool_]:
    image = source.image
    if source.values is not None:
        return _of_levels(source.values, source, name, notes)
    if image.mode.startswith("I;16") or image.mode in ("L", "1"):
        levels = np.asarray(image)
        if image.mode == "1":  # tifffile writes the bits of a boolean array as they are, and calls zero white
            raw = is_white_zero(source.tags) and str(source.tags.get(SOFTWARE, "")).startswith("tifffile")
            return ~levels if raw else levels
        return _of_levels(levels, source, name, notes)
    if image.mode in ("P", "PA"):
        return _of_palette(source, notes)
    rgba = np.asarray(image.convert("RGBA"))
    rgb, visible = rgba[:, :, :3], rgba[:, :, 3] != 0
    if not visible.any():
        visible = ~visible
    rgb = np.where(visible[:, :, None], rgb, 0)
    if (rgb == rgb[:, :, :1]).all():
        return _of_levels(rgb[:, :, 0], source, name, notes)
    return _of_colors(rgb, source, name, notes)


def _of_levels(levels: NDArray[Any], source: Source, name: str, notes: list[str]) -> NDArray[np.bool_]:
    """Of gray values, 8 or 16 bits."""
    counts = np.bincount(levels.ravel())
    present = np.flatnonzero(counts)
    _refuse_picture(len(present), int(counts.max()), levels.size, name)
    present = present[present > 0]
    if len(present) <= 1 and source.format != "JPEG":
        return np.asarray(levels > 0)
    if len(present) == 0:
        return np.zeros(levels.shape, bool)
    greatest = int(present[-1])
    if source.format == "JPEG":
        notes.append(
            "is a JPEG, which blurs edges; read as defective above half of its brightest value. Save it as PNG"
        )
        return np.asarray(levels > greatest / 2)
    if greatest == VOID and present[-2] <= MOST_CLASSES:
        notes.append(f"has labels up to {present[-2]} and {VOID}; {VOID} is read as void, not as a defect")
        return np.asarray((levels > 0) & (levels < VOID))
    if greatest > 127 and _is_soft(levels, greatest):
        notes.append(
            f"has {len(present) - 1} values between black and white; read as defective above half (soft edges)"
        )
        return np.asarray(levels > greatest / 2)
    return np.asarray(levels > 0)


def _of_palette(source: Source, notes: list[str]) -> NDArray[np.bool_]:
    """Of indices: the background is black, or index 0 where no pixel is black; 255 is void beside other classes."""
    image = source.image
    visible = np.asarray(image.convert("RGBA"))[:, :, 3] != 0
    indices = np.asarray(image.convert("PA"))[:, :, 0] if image.mode == "PA" else np.asarray(image)
    palette = np.zeros((256, 3), np.uint8)
    colors = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    palette[: len(colors)] = colors
    used = np.unique(indices[visible]) if visible.any() else np.unique(indices)
    black = [index for index in used if not palette[index].any()]
    background = black or [0]
    if not black and 0 in used:
        notes.append(f"its background has the color {tuple(palette[0].tolist())}; index 0 is read as background")
    mask = ~np.isin(indices, background)
    if visible.any():
        mask &= visible
    classes = [index for index in used if index not in background]
    if len(classes) > 1 and classes[-1] == VOID:
        notes.append(f"index {VOID} beside other classes is read as void, not as a defect")
        mask &= indices != VOID
    return mask


def _of_colors(rgb: NDArray[np.uint8], source: Source, name: str, notes: list[str]) -> NDArray[np.bool_]:
    """Of colours: every one but the background's is a class."""
    if source.format == "JPEG":
        coarse = _codes(rgb >> 5)
        _refuse_picture(8 * len(np.unique(coarse)), int(np.bincount(coarse.ravel()).max()), coarse.size, name)
        return _of_levels(rgb.max(axis=2), source, name, notes)
    codes = _codes(rgb)
    colors, counts = np.unique(codes, return_counts=True)
    _refuse_picture(len(colors), int(counts.max()), codes.size, name)
    if colors[0] != 0:  # no black
        edge = np.concatenate([codes[0], codes[-1], codes[:, 0], codes[:, -1]])
        common, times = np.unique(edge, return_counts=True)
        background = int(common[times.argmax()])
        notes.append(f"no pixel is black; the color at its edge, #{background:06x}, is read as background")
        return np.asarray(codes != background)
    strongest = rgb.max(axis=2)
    if len(colors) > MOST_CLASSES and _is_soft(strongest, int(strongest.max())):
        notes.append(f"has {len(colors)} colors; read as defective above half of the brightest (soft edges)")
        return np.asarray(strongest > strongest.max() / 2)
    mask = codes != 0
    if _VOID_COLOR in colors and len(colors) > 2:
        notes.append("the color (224, 224, 192) beside others is read as void, not as a defect")
        mask &= codes != _VOID_COLOR
    return np.asarray(mask)


def _codes(rgb: NDArray[Any]) -> NDArray[np.int64]:
    wide = rgb.astype(np.int64)
    return wide[:, :, 0] << 16 | wide[:, :, 1] << 8 | wide[:, :, 2]


def _is_soft(levels: NDArray[Any], greatest: int) -> bool:
    """Whether values between black and the brightest are edges: a class would fill an area of one value."""
    between = (levels > 0) & (levels < greatest)
    same = (
        (levels[1:, 1:] == levels[:-1, :-1]) & (levels[1:, 1:] == levels[1:, :-1]) & (levels[1:, 1:] == levels[:-1, 1:])
    )
    return not bool((same & between[1:, 1:]).any())


def _refuse_picture(colors: int, most: int, size: int, name: str) -> None:
    if colors > MOST_COLORS and most * 2 < size:
        reason = f"is a picture, not a mask ({colors} values, none of them in half of it); save the painted area alone"
        raise refusal(name, f"{reason}, white on black")
