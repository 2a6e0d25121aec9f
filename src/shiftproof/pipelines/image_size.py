"""Image size of a model: as it was asked for, or chosen from the sizes of the images and the cost of the method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shiftproof.config import fit_size, format_size, parse_size
from shiftproof.errors import UsageError
from shiftproof.reporter import Reporter

AUTO = "auto"
LOOKED_AT = 64  # images whose size is read
MOST_ENLARGED = 2.0  # small images are enlarged by this much at most: there is no more detail to find


def resolve_size(
    wanted: int | str | tuple[int, int], paths: Sequence[Path], pixels: int | None, reporter: Reporter
) -> tuple[int, int]:
    """Return the (height, width) to resize images to, in multiples of 32.

    Args:
        wanted: side, "HxW", (height, width), or "auto".
        paths: good images, whose sizes "auto" follows.
        pixels: how many pixels "auto" aims at, in the images' aspect ratio; None: 256x256, whatever the images are.
        reporter: receives a size that was chosen or rounded.
    """
    if wanted == AUTO:
        return _choose(paths, pixels, reporter)
    if isinstance(wanted, str) and not wanted[:1].isdigit():
        raise UsageError(
            f"image size {wanted!r} is not understood: expected auto, N or HxW in pixels, e.g. 256 or 640x256"
        )
    size = parse_size(str(wanted)) if isinstance(wanted, str | int) else (int(wanted[0]), int(wanted[1]))
    fitted = fit_size(size)
    if fitted != size:
        reporter.info(
            f"image size {format_size(size)} is not made of multiples of 32, which the networks halve: "
            f"images are resized to {format_size(fitted)}"
        )
    return fitted


def _choose(paths: Sequence[Path], pixels: int | None, reporter: Reporter) -> tuple[int, int]:
    own = typical_size(paths)
    if pixels is None or own is None:
        return 256, 256
    height, width = own
    scale = min(math.sqrt(pixels / (height * width)), MOST_ENLARGED)
    size = fit_size((round(height * scale), round(width * scale)))
    reporter.info(
        f"image size {format_size(size)}: the images have {format_size(own)}; smaller is faster (--image-size 256), "
        "larger finds smaller defects"
    )
    return size


def typical_size(paths: Sequence[Path]) -> tuple[int, int] | None:
    """Return the median (height, width) of images, as their orientation shows them; None if none can be read."""
    step = max(1, len(paths) // LOOKED_AT)
    sizes = []
    for path in paths[::step][:LOOKED_AT]:
        try:
            with Image.open(path) as image:
                width, height = image.size
                turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientation: on its side
        except (OSError, ValueError, Image.DecompressionBombError):
            continue  # it is reported when it is decoded
        sizes.append((width, height) if turned else (height, width))
    if not sizes:
        return None
    height, width = np.median(np.array(sizes), axis=0)
    return int(height), int(width)
