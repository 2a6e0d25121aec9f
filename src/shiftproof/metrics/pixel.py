"""Pixel metrics in one pass over the maps, in a memory that does not grow with the number of images.

Sorting every pixel of a test set needs gigabytes; a histogram does not, if its bins are fine where the values are.
The bits of a float32, read as an integer, are in the order of the floats, so the histogram is over that integer: its
bins are relative, as the floats themselves are, and need no guess of the range of the maps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.metrics.curves import area_up_to, climb, ranking_metrics

BINS = 1 << 21
_INFINITY = 0x7F800000  # the bits of float32 infinity: what lies beyond it is NaN
_GOOD, _DEFECTIVE, _OVERLAP = range(3)  # rows of the histogram


def ordered_keys(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Integers of the same shape and in the same order as the floats; equal floats (0 and -0 too) have equal keys.

    >>> ordered_keys(np.array([-1.5, -0.0, 0.0, 1e-30, 2.0], np.float32)).tolist()
    [-1069547521, 0, 0, 228737632, 1073741824]
    """
    bits = (values + np.float32(0)).view(np.int32)  # adding 0 turns -0 into 0
    # A negative float grows with its magnitude as an integer: turn all bits but the sign.
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))


class PixelMetrics:
    """AUROC, average precision, best F1 and AUPRO over all pixels of a test set.

    AUPRO is MVTec's (Bergmann et al., IJCV 2021): at each threshold the false-positive rate over all defect-free
    pixels of the set, those of good images included, and the per-region overlap averaged over all regions of the set
    (8-connected components of the masks); the curve is integrated up to a false-positive rate of exactly 0.3
    (``aupro_30``) or 0.05 (``aupro_05``), interpolated there, and divided by it.

    Resolution: the histogram has 2,097,152 bins and always the finest that cover the values seen so far; they
    do not depend on the order of the images. Values within a factor of 1.14 of each other are told apart to the last
    bit, values from 0.001 to 1 to 1 part in 131,000, from 0 to 1 to 1 in 16,000, from -1 to 1 to 1 in 8,000, and the
    widest to 1 in 4,000, always of the value itself. Pixels in one bin are a tie, shared out by the curve's trapezoids.

    Memory: 48 MiB, plus what one map needs while it is counted, and up to four times as much while computing.

    >>> metrics = PixelMetrics()
    >>> metrics.update(np.array([[0.1, 0.2], [0.3, 0.9]], np.float32), np.array([[0, 0], [0, 1]], bool))
    >>> metrics.compute()
    {'auroc': 1.0, 'ap': 1.0, 'f1_max': 1.0, 'aupro_30': 1.0, 'aupro_05': 1.0}
    """

    def __init__(self) -> None:
        self._histogram = np.zeros((3, BINS))
        self._low, self._high = _INFINITY, ~_INFINITY  # keys seen so far: none
        self._shift = 0  # low bits of a key that a bin no longer tells apart

    def update(self, anomaly_map: ArrayLike, mask: ArrayLike) -> None:
        """Count one image.

        Args:
            anomaly_map: float32 [H, W], higher is more anomalous (other types are rounded to float32).
            mask: bool [H, W], True on defects; all False for a good image.

        Raises:
            ValueError: the shapes differ or are not two-dimensional, or the map has NaN; nothing is counted then.
        """
        values, mask = np.asarray(anomaly_map, dtype=np.float32), np.asarray(mask, dtype=bool)
        if values.ndim != 2 or values.shape != mask.shape or not values.size:
            raise ValueError(f"anomaly map {values.shape} and mask {mask.shape}: expected the same [height, width]")
        keys = ordered_keys(values)
        low, high = int(keys.min()), int(keys.max())
        if high > _INFINITY or low < ~_INFINITY:
            raise ValueError(f"{int(np.isnan(values).sum())} of {values.size} values of the map are NaN")
        self._make_room(low, high)
        bins = (keys >> self._shift) & (BINS - 1)  # modulo BINS, for negative keys too
        np.add.at(self._histogram[_GOOD], bins[~mask], 1.0)
        if mask.any():
            from scipy import ndimage

            regions = ndimage.label(mask, structure=np.ones((3, 3)))[0][mask]
            np.add.at(self._histogram[_DEFECTIVE], bins[mask], 1.0)
            np.add.at(self._histogram[_OVERLAP], bins[mask], 1.0 / np.bincount(regions)[regions])

    def compute(self) -> dict[str, float | None]:
        """The metrics of all images so far: ``auroc``, ``ap``, ``f1_max``, ``aupro_30``, ``aupro_05``.

        Returns:
            float in 0..1 each; all None where there are no defective, or no defect-free, pixels.
        """
        good, defective, overlap = self._histogram[:, self._occupied()[::-1]]
        metrics = ranking_metrics(good, defective) | {"aupro_30": None, "aupro_05": None}
        if metrics["auroc"] is not None:
            false_positive_rate, region_overlap = climb(good), climb(overlap)
            for name, limit in ("aupro_30", 0.3), ("aupro_05", 0.05):
                mean_overlap = area_up_to(limit, false_positive_rate, region_overlap) / limit
                metrics[name] = min(mean_overlap, 1.0)  # a perfect curve may come out as 1 and a rounding error
        return metrics

    # The bin of a key is its number modulo BINS: keys that span fewer bins than there are never meet in one, and no
    # bin has to move when the range grows, until it outgrows them all.

    def _occupied(self) -> NDArray[np.intp]:
        """Where in the histogram pixels lie, by ascending value."""
        occupied = np.flatnonzero(self._histogram[_GOOD] + self._histogram[_DEFECTIVE])
        return np.roll(occupied, -np.searchsorted(occupied, (self._low >> self._shift) % BINS))

    def _make_room(self, low: int, high: int) -> None:
        """Widen the range to hold the keys from low to high; where there are too few bins for it, merge neighbours."""
        low, high, shift = min(low, self._low), max(high, self._high), self._shift
        while (high >> shift) - (low >> shift) >= BINS:
            shift += 1
        if shift > self._shift:
            occupied, first = self._occupied(), self._low >> self._shift
            numbers = first + (occupied - first) % BINS
            merged = (numbers >> (shift - self._shift)) % BINS
            for row in self._histogram:
                row[:] = np.bincount(merged, weights=row[occupied], minlength=BINS)
        self._low, self._high, self._shift = low, high, shift
