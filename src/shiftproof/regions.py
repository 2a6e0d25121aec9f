"""Where an image is defective: the connected regions of its mask, in NumPy alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_REGIONS = 50  # that an inspection lists, those with the highest peaks: noise has thousands


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the image."""

    x: int  # of its left edge
    y: int  # of its upper edge
    width: int
    height: int


@dataclass(frozen=True)
class Peak:
    """The highest point of a region."""

    value: float  # of the anomaly map
    x: int  # pixel of the image
    y: int


@dataclass(frozen=True)
class Region:
    """One connected defect."""

    box: Box
    area: int  # in pixels of the image, rounded; 1 at least
    peak: Peak

    def to_json(self) -> dict[str, Any]:
        """As clients get it."""
        return asdict(self)


def find_regions(
    anomaly_map: NDArray[np.float32], threshold: float, size: tuple[int, int], most: int = MOST_REGIONS
) -> list[Region]:
    """The 8-connected regions where a map lies above the threshold.

    Args:
        anomaly_map: float32 [h, w], of the size that the networks see.
        threshold: in the map's own scale.
        size: (height, width) of the image, to whose pixels boxes, areas and peaks are brought.
        most: how many are listed at most.

    Returns:
        The regions, the one with the highest peak first; none if nothing lies above the threshold.

    >>> heat = np.zeros((4, 4), np.float32)
    >>> heat[0, 0], heat[1, 1], heat[3, 3] = 2, 3, 9
    >>> for region in find_regions(heat, 1.0, (8, 8)):
    ...     print(region.box, region.area, region.peak)
    Box(x=6, y=6, width=2, height=2) 4 Peak(value=9.0, x=7, y=7)
    Box(x=0, y=0, width=4, height=4) 8 Peak(value=3.0, x=3, y=3)
    """
    height, width = anomaly_map.shape
    rows, columns, labels = label(anomaly_map > threshold)
    if not rows.size:
        return []
    count = int(labels.max()) + 1
    values = anomaly_map[rows, columns]
    hottest_first = np.argsort(-values, kind="stable")
    _, first = np.unique(labels[hottest_first], return_index=True)
    peaks = hottest_first[first]  # of each region, the index of its hottest pixel
    areas = np.bincount(labels, minlength=count)
    top, left = np.full(count, height), np.full(count, width)
    bottom, right = np.zeros(count, int), np.zeros(count, int)
    for low, high, place in ((top, bottom, rows), (left, right, columns)):
        np.minimum.at(low, labels, place)
        np.maximum.at(high, labels, place + 1)
    down, across = size[0] / height, size[1] / width
    found = []
    for one in np.argsort(-values[peaks], kind="stable")[:most]:
        x, y = int(left[one] * across), int(top[one] * down)
        box = Box(x, y, max(int(np.ceil(right[one] * across)) - x, 1), max(int(np.ceil(bottom[one] * down)) - y, 1))
        at = peaks[one]
        peak = Peak(float(values[at]), int((columns[at] + 0.5) * across), int((rows[at] + 0.5) * down))
        found.append(Region(box, max(round(areas[one] * down * across), 1), peak))
    return found


def label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Number the 8-connected regions of a mask.

    Each row is cut into runs; runs of neighbouring rows that touch are joined by handing the lower number on until
    nothing changes, at twice the distance each time.

    Args:
        mask: bool [h, w].

    Returns:
        Rows, columns and region numbers (0, 1, ..., in the order in which they begin) of all pixels that are set.

    >>> rows, columns, labels = label(np.array([[1, 0, 0, 1], [0, 1, 0, 1]], bool))
    >>> labels.tolist()
    [0, 1, 0, 1]
    """
    rows, columns = np.nonzero(mask)
    if not rows.size:
        return rows, columns, rows
    place = rows * (mask.shape[1] + 2) + columns  # a gap between rows: runs end with them
    begins = np.concatenate(([True], np.diff(place) != 1))
    run = np.cumsum(begins) - 1  # of each pixel
    first = place[begins]
    last = place[np.concatenate((begins[1:], [True]))]
    # In the row below, a run is touched from one pixel before the first to one past the last.
    below = mask.shape[1] + 2
    start = np.searchsorted(last, first + below - 1, side="left")
    stop = np.searchsorted(first, last + below + 1, side="right")
    touches = np.maximum(stop - start, 0)
    upper = np.repeat(np.arange(first.size), touches)
    lower = np.arange(touches.sum()) - np.repeat(np.cumsum(touches) - touches, touches) + np.repeat(start, touches)
    number = np.arange(first.size)
    while True:
        least = np.minimum(number[upper], number[lower])
        joined = number.copy()
        np.minimum.at(joined, number[upper], least)
        np.minimum.at(joined, number[lower], least)
        while not np.array_equal(joined, joined[joined]):
            joined = joined[joined]
        if np.array_equal(joined, number):
            break
        number = joined
    _, dense = np.unique(number, return_inverse=True)
    return rows, columns, dense[run]
