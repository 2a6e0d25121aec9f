"""What a test set tells of its labels without any detector, by the look of whole images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from shiftproof.metrics.paired import placements

LEAST_IMAGES = 10  # of each kind, below which nothing is said
STRIKING = 0.8  # image AUROC that a confound has to exceed for certain
CONFIDENCE = 0.95  # shared by all statistics


@dataclass(frozen=True)
class Confound:
    """A statistic of whole images that tells good from defective ones."""

    name: str
    auroc: float  # above 0.5, whichever kind is higher


def find_confounds(
    defective: NDArray[np.bool_], values: NDArray[np.floating], names: Sequence[str]
) -> tuple[Confound, ...]:
    """The statistics whose AUROC lies above :data:`STRIKING` by more than the luck of which images were drawn.

    A detector's AUROC on such a set may be earned by the light of the images as well as by their defects. Each AUROC's standard
    error is DeLong's (Biometrics 44, 1988); the confidence is shared by all statistics (Bonferroni).

    Args:
        defective: bool [N], the truth.
        values: float [N, K], the statistics of each image, finite.
        names: of the statistics, K.

    Returns:
        the confounds, the strongest first; none where there are fewer than :data:`LEAST_IMAGES` of a kind.
    """
    if min(defective.sum(), (~defective).sum()) < LEAST_IMAGES:
        return ()
    reach = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / len(names))
    found = []
    for name, column in zip(names, values.T.astype(np.float64), strict=True):
        above, below = placements(column[defective], column[~defective])
        auroc = max(above.mean(), 1 - above.mean())
        error = math.sqrt(np.var(above, ddof=1) / above.size + np.var(below, ddof=1) / below.size)
        if auroc - reach * error > STRIKING:
            found.append(Confound(name, float(auroc)))
    return tuple(sorted(found, key=lambda confound: -confound.auroc))
