"""A threshold from calibration images, and the bound on its false alarms.

A threshold placed at an order statistic of good scores calls good images defective at a rate that is itself random: it
depends on which calibration images were drawn. The bound here (Wilks, 1941; the upper limit of Clopper and Pearson, 1934) holds
with the stated confidence for every distribution of scores. It assumes that future good images are like the calibration
images, and that the training did not use these. P-values are conformal (Vovk, Gammerman and Shafer, 2005).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, overload

import numpy as np

from shiftproof.errors import DataError, ModelError, UsageError


def false_alarm_bound(n: int, exceeding: int, confidence: float = 0.95) -> float:
    """Upper bound on the false-alarm rate of a threshold placed at an order statistic of calibration scores.

    The threshold is the (n - exceeding)-th smallest score. The bound p solves
    P(Binomial(n, p) <= exceeding) = 1 - confidence: exact for continuous scores, cautious where they tie.

    Args:
        n: number of calibration scores, at least 1.
        exceeding: how many of them lie above the threshold, 0 ... n.
        confidence: probability that the bound holds, within (0, 1).

    Returns:
        A rate in (0, 1].

    >>> round(false_alarm_bound(59, 0), 4), round(false_alarm_bound(299, 0), 5), round(false_alarm_bound(60, 0), 4)
    (0.0495, 0.00997, 0.0487)
    """
    if n < 1 or not 0 <= exceeding <= n:
        raise DataError(f"{exceeding} of {n} calibration scores above the threshold; expected 0 to all of at least 1")
    _check_fraction("confidence", confidence)
    if exceeding == n:
        return 1.0
    risk = math.log1p(-confidence)
    if exceeding == 0:
        return -math.expm1(risk / n)
    count = np.arange(exceeding + 1)
    log_choose = np.concatenate(([0.0], np.cumsum(np.log((n - count[:-1]) / count[1:]))))

    def log_cdf(rate: float) -> float:
        terms = log_choose + count * math.log(rate) + (n - count) * math.log1p(-rate)
        return float(np.logaddexp.reduce(terms))

    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:  # until no number lies between: the bound to the last bit
        low, high = (middle, high) if log_cdf(middle) > risk else (low, middle)
    return high


def images_needed(target: float, confidence: float = 0.95) -> int:
    """How many calibration images certify a false-alarm rate, with the highest of their scores as the threshold.

    >>> images_needed(0.05), images_needed(0.01)
    (59, 299)
    """
    _check_fraction("target", target)
    _check_fraction("confidence", confidence)
    # The formula may land one beside where rounding ties; the bound itself decides.
    images = max(1, math.ceil(math.log1p(-confidence) / math.log1p(-target)) - 1)
    while false_alarm_bound(images, 0, confidence) > target:
        images += 1
    return images


def split_calibration(
    n: int, seed: int, *, fraction: float = 0.2, at_least: int = 59, at_most: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Split good images at random into training images and calibration images.

    Calibration images are ``fraction`` of all; more where that is fewer than ``at_least`` (59 certify 5 %), but for that
    reason never more than ``at_most`` of all; at least one, and at least one image is left to train on.

    Args:
        n: number of good images, at least 2.
        seed: the same seed gives the same split.
        fraction: part of the images for calibration, within (0, 1).
        at_least: number of calibration images to reach where there are enough.
        at_most: part of the images that ``at_least`` may take, within (0, 1).

    Returns:
        (train, calibration): int64 indices, each ascending, together 0 ... n - 1.

    >>> train, calibration = split_calibration(320, seed=0)
    >>> len(train), len(calibration)
    (256, 64)
    """
    if n < 2:
        raise DataError(f"{n} good images; expected at least 2, one for training and one for calibration: add images")
    _check_fraction("fraction", fraction)
    _check_fraction("at_most", at_most)
    count = min(max(round(max(fraction * n, min(at_least, at_most * n))), 1), n - 1)
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])


@dataclass(frozen=True)
class Calibration:
    """Threshold, bound on its false alarms, p-values and color scale of the maps, from calibration images."""

    scores: tuple[float, ...]  # calibration image scores, ascending
    target: float  # wanted false-alarm rate, within (0, 1)
    confidence: float  # probability that the bound holds, within (0, 1)
    threshold: float  # an image whose score lies above it is called defective
    bound: float  # the false-alarm rate is at most this, with that confidence
    map_low: float  # anomaly-map value drawn as the coldest: the typical background of calibration maps
    map_high: float  # anomaly-map value drawn as the hottest

    @classmethod
    def from_scores(
        cls,
        scores: Iterable[float],
        *,
        target: float = 0.05,
        confidence: float = 0.95,
        map_low: float,
        map_high: float | None = None,
    ) -> Calibration:
        """Place the threshold at the smallest score whose bound is within the target, or at the highest if none is.

        Args:
            scores: calibration image scores, finite, at least one, in any order.
            target: wanted false-alarm rate, within (0, 1).
            confidence: probability that the bound holds, within (0, 1).
            map_low: anomaly-map value to draw as the coldest.
            map_high: the same for the hottest; by default as far above the threshold as map_low is below it.

        Raises:
            DataError: no scores, a score that is not finite, a color scale without extent.

        >>> calibration = Calibration.from_scores(range(1, 301), map_low=0.0)
        >>> calibration.threshold, round(calibration.bound, 4)
        (292.0, 0.0476)
        """
        _check_fraction("target", target)
        ordered = np.sort(np.asarray(list(scores), dtype=np.float64))
        if ordered.size == 0:
            raise DataError("no calibration scores; expected at least one to place a threshold: add calibration images")
        if not np.isfinite(ordered).all():
            raise DataError(
                f"calibration score {ordered[~np.isfinite(ordered)][0]}; expected finite scores: train again"
            )
        n = ordered.size
        exceeding, bound = _placement(n, target, confidence)
        threshold = float(ordered[n - 1 - exceeding])
        if map_high is None:
            half = threshold - map_low
            map_high = map_low + (2 * half if half > 0 else 1.0)  # equal maps everywhere still need a scale
        if not (math.isfinite(map_low) and math.isfinite(map_high) and map_low < map_high):
            raise DataError(f"color scale from {map_low} to {map_high}; expected finite values, the first one smaller")
        return cls(tuple(ordered.tolist()), target, confidence, threshold, bound, float(map_low), float(map_high))

    def with_threshold(self, threshold: float) -> Calibration:
        """Return a calibration with another threshold, and with the bound for it.

        The bound holds for a threshold that was chosen without looking at these scores.

        >>> moved = Calibration.from_scores(range(60), map_low=0.0).with_threshold(59.5)
        >>> moved.threshold, round(moved.bound, 4)
        (59.5, 0.0487)
        """
        exceeding = len(self.scores) - bisect_right(self.scores, threshold)
        bound = false_alarm_bound(len(self.scores), exceeding, self.confidence)
        return replace(self, threshold=float(threshold), bound=bound)

    @overload
    def p_value(self, score: float) -> float: ...
    @overload
    def p_value(self, score: np.ndarray) -> np.ndarray: ...
    def p_value(self, score: float | np.ndarray) -> float | np.ndarray:
        """Conformal p-value, in [1/(n+1), 1]: for a good image it is at most x with probability x at most.

        Args:
            score: one image score, or an array of any shape.

        Raises:
            DataError: a score is NaN.
        """
        reached = len(self.scores) - np.searchsorted(self.scores, _without_nan(score), side="left")
        values = (1 + reached) / (len(self.scores) + 1)
        return values if isinstance(score, np.ndarray) else float(values)

    @overload
    def is_defective(self, score: float) -> bool: ...
    @overload
    def is_defective(self, score: np.ndarray) -> np.ndarray: ...
    def is_defective(self, score: float | np.ndarray) -> bool | np.ndarray:
        """Whether a score (or each of an array) lies above the threshold; DataError on NaN, which is no verdict."""
        above = _without_nan(score) > self.threshold
        return above if isinstance(score, np.ndarray) else bool(above)

    def sentence(self) -> str:
        """Return the bound in words, and how many images would certify the target where these do not.

        >>> print(Calibration.from_scores(range(60), map_low=0.0).sentence())
        60 calibration images: at 95 % confidence at most 4.9 % false alarms
        >>> print(Calibration.from_scores(range(20), map_low=0.0).sentence())
        20 calibration images: at 95 % confidence at most 14 % false alarms; 59 would certify 5 %
        """
        images = "1 calibration image" if len(self.scores) == 1 else f"{len(self.scores)} calibration images"
        guarantee = (
            f"{images}: at {100 * self.confidence:g} % confidence at most {_percent_up(self.bound)} % false alarms"
        )
        if self.bound <= self.target:
            return guarantee
        return f"{guarantee}; {images_needed(self.target, self.confidence)} would certify {100 * self.target:g} %"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, floats in full: :meth:`from_json` gives back an equal calibration."""
        return {**asdict(self), "scores": list(self.scores)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Calibration:
        """The calibration that :meth:`to_json` wrote; ModelError where a field is missing or is no number."""
        try:
            numbers = {field.name: float(content[field.name]) for field in fields(cls) if field.name != "scores"}
            return cls(scores=tuple(float(score) for score in content["scores"]), **numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the model's calibration cannot be read ({error!r}): train the model again") from error


@lru_cache(maxsize=64)  # a shift-conditional threshold is placed for every image, among as many scores each time
def _placement(n: int, target: float, confidence: float) -> tuple[int, float]:
    """How many of n scores lie above the threshold, and its bound.

    The bound grows with that number, which is chosen from n alone, never from the scores, or the confidence would not hold.
    """
    certified = bisect_right(range(n), target, key=lambda above: false_alarm_bound(n, above, confidence))
    exceeding = max(certified - 1, 0)
    return exceeding, false_alarm_bound(n, exceeding, confidence)


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise UsageError(f"{name} {value}; expected a number between 0 and 1, such as 0.05 for 5 %")


def _without_nan(score: float | np.ndarray) -> np.ndarray:
    values = np.asarray(score, dtype=np.float64)
    if np.isnan(values).any():
        raise DataError(
            "image score nan; expected a number: the image or the model's weights hold values that are not finite"
        )
    return values


def _percent_up(rate: float) -> str:
    """A rate in percent with two digits, rounded up: a bound that is printed must hold as printed.

    >>> _percent_up(0.04871), _percent_up(0.1391), _percent_up(0.00997), _percent_up(0.000123), _percent_up(1.0)
    ('4.9', '14', '1', '0.013', '100')
    """
    percent = 100 * rate
    decimals = max(1 - math.floor(math.log10(percent)), 0)
    scale = 10.0**decimals
    return f"{math.ceil(percent * scale - 1e-9) / scale:g}"
