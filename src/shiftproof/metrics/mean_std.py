"""Mean and standard deviation of a figure over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class MeanStd:
    """A figure over seeds."""

    mean: float
    std: float | None  # with N - 1; None of a single seed
    seeds: int

    @classmethod
    def over(cls, values: Iterable[float | None]) -> MeanStd | None:
        """Of one value for each seed; those without are left out, and None is all that there is of none.

        >>> MeanStd.over([1.0, None, 3.0])
        MeanStd(mean=2.0, std=1.4142135623730951, seeds=2)
        """
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))
