"""Two AUROCs of the same images: do they differ by more than the luck of which images were drawn?"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def paired_auroc(
    defective: NDArray[np.bool_], first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[float, float, float]:
    """AUROC of the same images scored twice, and the standard error of its change.

    Each defective image has a placement, the share of good images that it outranks (half of those that tie); each good
    one the share of defective images that outrank it. Their spread from image to image gives the variance; that the
    images are the same both times is taken into account (E. DeLong, D. DeLong and D. Clarke-Pearson, *Comparing the Areas
    under Two or More Correlated Receiver Operating Characteristic Curves*, Biometrics 44, 1988).

    Args:
        defective: bool [N], the truth; two of each kind at least.
        first: float [N], scores, higher is more anomalous.
        second: float [N], scores of the same images in the same order.

    Returns:
        (AUROC of the first, of the second, standard error of their difference): 0..1 each, error 0 or more.

    Raises:
        ValueError: shapes that differ, or fewer than two images of a kind.

    >>> paired_auroc(np.array([False, False, True, True]), np.array([1.0, 3.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    (0.75, 1.0, 0.3535533905932738)
    """
    if not defective.shape == first.shape == second.shape or defective.ndim != 1:
        raise ValueError(f"shapes {defective.shape}, {first.shape}, {second.shape}; expected [N] three times")
    if min(defective.sum(), (~defective).sum()) < 2:
        raise ValueError(f"{defective.sum()} defective images of {defective.size}; expected two of each kind at least")
    above, below = zip(*(placements(scores[defective], scores[~defective]) for scores in (first, second)), strict=True)
    variances = [np.var(after - before, ddof=1) / before.size for before, after in (above, below)]
    return float(above[0].mean()), float(above[1].mean()), math.sqrt(sum(variances))


def placements(
    defective: NDArray[np.float64], good: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the good scores below each defective one, and of the defective ones above each good one."""
    return _share_below(defective, good), 1 - _share_below(good, defective)


def _share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(others)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * others.size)
