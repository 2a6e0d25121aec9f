"""Evidence against the hypothesis that a stream of numbers is exchangeable with reference numbers.

Pure pieces of the monitor:

- a conformal p-value of each new number among all before it, reference included, ties broken at random. If reference and
  stream are exchangeable, these p-values are independent and uniform on (0, 1), exactly, however few reference numbers
  there are (Vovk, Nouretdinov and Gammerman, *Testing exchangeability on-line*, ICML 2003);
- bets on them: densities f with mean 1 over uniform p-values, so that each factor f(p) has expectation 1 given the past;
- an e-detector of Shiryaev and Roberts' form, M <- (M + 1) f(p): M less the number of images is a martingale, hence the
  probability that M ever reaches A within t images is at most t / A (Shin, Ramdas and Rinaldo, *E-detectors*, 2023).
"""

from __future__ import annotations

from bisect import bisect_left
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILTS = (0.5, 1.0, 2.0, 3.0)
"""By how many standard deviations a bet supposes that the numbers have moved, up or down."""
WIDENINGS = (2.0, 3.0)
"""The same, where it supposes that some moved up and others down."""
BETS = 2 * len(TILTS) + len(WIDENINGS)
_NORMAL = NormalDist()


class Bag:
    """A multiset of whole numbers: how often each was seen. Its size grows with the distinct ones only.

    >>> bag = Bag(np.array([3, 1, 3]))
    >>> bag.add(2)
    >>> bag.ranks(3), len(bag)
    ((0, 2), 4)
    """

    def __init__(self, numbers: NDArray[np.int64]):
        keys, counts = np.unique(numbers, return_counts=True)
        self._keys: list[int] = keys.tolist()  # lists: a thousand numbers are searched quicker than an array is called
        self._counts: list[int] = counts.tolist()
        self._size = len(numbers)

    def __len__(self) -> int:
        return self._size

    def ranks(self, number: int) -> tuple[int, int]:
        """How many are larger than a number, and how many equal to it."""
        place = bisect_left(self._keys, number)
        equal = self._counts[place] if place < len(self._keys) and self._keys[place] == number else 0
        return sum(self._counts[place:]) - equal, equal

    def add(self, number: int, times: int = 1) -> None:
        """Put a number in, or take it out with ``times`` of -1."""
        place = bisect_left(self._keys, number)
        if place == len(self._keys) or self._keys[place] != number:
            self._keys.insert(place, number)
            self._counts.insert(place, 0)
        self._counts[place] += times
        self._size += times

    def to_json(self) -> list[list[int]]:
        """Numbers, and how often each."""
        held = [place for place, count in enumerate(self._counts) if count]
        return [[self._keys[place] for place in held], [self._counts[place] for place in held]]

    @classmethod
    def from_json(cls, content: Any) -> Bag:
        """The bag that :meth:`to_json` wrote."""
        return cls(np.repeat(np.array(content[0], np.int64), np.array(content[1], np.int64)))


def normal_score(bag: Bag, number: int, uniform: float) -> float:
    """A number's place among those of a bag, as a standard normal number has it: 0 in the middle, high if it is large.

    Args:
        bag: all numbers before it.
        number: the new one, not in the bag.
        uniform: from [0, 1), drawn anew for each number: breaks ties, the tie with itself included.

    >>> round(normal_score(Bag(np.arange(99)), 1000, 0.5), 3)
    2.576
    """
    larger, equal = bag.ranks(number)
    p_value = (larger + (1 - uniform) * (equal + 1)) / (len(bag) + 1)
    return -_NORMAL.inv_cdf(min(max(p_value, 1e-12), 1 - 1e-12))


def log_bets(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of the bets' factors, [C, 10], at normal scores [C]: ratios of normal densities, mean 1 each."""
    tilts = np.concatenate([np.array(TILTS), -np.array(TILTS)])
    wide = np.array(WIDENINGS)
    along = scores[:, None] * tilts - tilts**2 / 2
    both = np.abs(scores[:, None]) * wide
    return np.concatenate([along, both + np.log1p(np.exp(-2 * both)) - np.log(2) - wide**2 / 2], axis=1)


def gather(evidence: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """One image's step of the e-detectors.

    Args:
        evidence: float64 [C, 10], log(1 + M) of each channel and bet, 0 at the start.
        scores: float64 [C], normal scores of the image.

    Returns:
        the same for M <- (M + 1) f.
    """
    return np.logaddexp(0.0, evidence + log_bets(scores))


def log_mean(evidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(1 + mean of M over the bets), [C]: the mixture of a channel's bets is an e-detector itself."""
    peak = evidence.max(axis=1)
    return np.asarray(peak + np.log(np.exp(evidence - peak[:, None]).mean(axis=1)))
