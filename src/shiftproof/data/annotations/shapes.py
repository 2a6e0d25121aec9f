"""The one place that turns annotations into masks: polygons, boxes, ellipses, lines, runs and mask files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from shiftproof.data.masks import read_mask
from shiftproof.errors import DataError

Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """One thing that an annotation tool has drawn on an image."""

    label: str
    points: tuple[Point, ...] = ()
    """(x, y) of a polygon's corners, from the upper left corner of the image; of a line's points where it is one."""
    relative: bool = False
    """The points are fractions of width and height, not pixels."""
    line: bool = False
    """The points are joined to a line of one pixel, not to an area."""
    runs: tuple[int, ...] = ()
    """Lengths of runs of background and defect in turn, over an area of ``size``."""
    size: tuple[int, int] = (0, 0)
    """(height, width) of the area of ``runs``; (0, 0) for an image of unknown size."""
    offset: tuple[int, int] = (0, 0)
    """(top, left) of that area in the image."""
    by_columns: bool = False
    """Runs go down the columns (COCO), not along the rows."""
    file: Path | None = None
    """A mask file."""


def box(x: float, y: float, width: float, height: float) -> tuple[Point, ...]:
    """The corners of a box."""
    return (x, y), (x + width, y), (x + width, y + height), (x, y + height)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, corners: int = 72) -> tuple[Point, ...]:
    """The corners of a polygon that stands for an ellipse around (x, y)."""
    angles = np.arange(corners) * (2 * np.pi / corners)
    return tuple(zip((x + radius_x * np.cos(angles)).tolist(), (y + radius_y * np.sin(angles)).tolist(), strict=True))


def draw_shapes(shapes: Iterable[Shape], size: tuple[int, int], name: str) -> NDArray[np.bool_]:
    """The area of all shapes together: a pixel belongs to a polygon if its centre does.

    Args:
        shapes: of one image.
        size: (height, width) of that image.
        name: what to call the image in an error.

    Returns:
        bool [height, width].

    Raises:
        DataError: a shape was drawn on an image of another size.

    >>> draw_shapes([Shape("dent", box(1, 0, 2, 2))], (3, 4), "x").astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    united = np.zeros(size, dtype=bool)
    for shape in shapes:
        if shape.file is not None:
            mask = read_mask(shape.file)
            if mask.shape != size:
                raise _of_another_size(name, mask.shape, size)
            united |= mask
        elif shape.runs:
            _paint_runs(united, shape, name)
        else:
            scale = np.array([size[1], size[0]] if shape.relative else [1.0, 1.0])
            points = np.array(shape.points, np.float64).reshape(-1, 2) * scale
            if shape.line or not _fill_polygon(united, points):
                _draw_line(united, points)
    return united


def _paint_runs(united: NDArray[np.bool_], shape: Shape, name: str) -> None:
    height, width = shape.size if any(shape.size) else united.shape
    top, left = shape.offset
    whole = united.shape if not any(shape.offset) and shape.by_columns else None
    if whole is not None and (height, width) != whole:
        raise _of_another_size(name, (height, width), united.shape)
    flat = np.repeat(np.arange(len(shape.runs)) % 2 == 1, shape.runs)
    if len(flat) != height * width:
        raise DataError(f"{name}: a mask of {len(flat)} pixels was annotated for an area of {width}x{height}")
    area = flat.reshape(width, height).T if shape.by_columns else flat.reshape(height, width)
    target = united[top : top + height, left : left + width]
    target |= area[: target.shape[0], : target.shape[1]]


def _fill_polygon(united: NDArray[np.bool_], points: NDArray[np.float64]) -> bool:
    """Fill by the even-odd rule; False where no pixel's centre is inside."""
    height, width = united.shape
    following = np.roll(points, -1, axis=0)
    painted = False
    first = max(0, int(np.floor(points[:, 1].min() - 0.5))) if len(points) else 0
    last = min(height, int(np.ceil(points[:, 1].max() + 0.5))) if len(points) else 0
    for row in range(first, last):
        y = row + 0.5
        crosses = (points[:, 1] <= y) != (following[:, 1] <= y)
        start, end = points[crosses], following[crosses]
        x = np.sort(start[:, 0] + (y - start[:, 1]) * (end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1]))
        for left, right in zip(x[::2], x[1::2], strict=True):
            from_column, to_column = max(0, int(np.ceil(left - 0.5))), min(width, int(np.ceil(right - 0.5)))
            if from_column < to_column:
                united[row, from_column:to_column] = painted = True
    return painted


def _draw_line(united: NDArray[np.bool_], points: NDArray[np.float64]) -> None:
    canvas = Image.new("1", (united.shape[1], united.shape[0]))
    corners = [tuple(point) for point in np.floor(points).tolist()]
    draw = ImageDraw.Draw(canvas)
    if len(corners) == 1:
        draw.point(corners, fill=1)
    elif corners:
        draw.line(corners, fill=1)
    united |= np.asarray(canvas)


def _of_another_size(name: str, found: tuple[int, ...], size: tuple[int, ...]) -> DataError:
    return DataError(
        f"{name}: annotated as an image of {found[1]}x{found[0]} pixels, but has {size[1]}x{size[0]}; "
        "annotate the image as it is"
    )
