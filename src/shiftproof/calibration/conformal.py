"""A threshold from good calibration images, and its guarantees.

The threshold is an order statistic of the calibration scores. Two rules place it for a wanted false-alarm rate R:

- ``expected``: at most R false alarms in the mean over calibration sets: the ceil((n + 1)(1 - R))-th smallest of n scores
  (split conformal prediction; Vovk, Gammerman and Shafer, 2005; Lei et al., JASA 2018).
- ``certified``: at most R false alarms with 95 % confidence (Wilks, 1941; the upper limit of Clopper and Pearson, 1934;
  order-statistic bounds for anomaly detection: Deng, arXiv 2608.15090). It costs detections: 59 images certify 5 % with
  the highest of their scores.

Both hold for every distribution of scores. Both assume that new good images are like the calibration images, and that the
calibration images had no part in what they are scored with. Both guarantees are reported, whichever rule places the threshold.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, overload

import numpy as np

from shiftproof.errors import DataError, ModelError, UsageError, unknown

RULES = ("expected", "certified")
FAR = 5.0  # robust standard deviations above the median at which a calibration score is called outlying


def false_alarm_bound(held_out: int, exceeding: int, confidence: float = 0.95) -> float:
    """Upper bound on the false-alarm rate of a threshold placed at an order statistic of held-out good scores.

    The threshold is the (held_out - exceeding)-th smallest score. The bound p solves
    P(Binomial(held_out, p) <= exceeding) = 1 - confidence: exact for continuous scores, cautious where they tie.

    Args:
        held_out: number of held-out good scores, at least 1.
        exceeding: how many of them lie above the threshold, 0 ... held_out.
        confidence: probability that the bound holds, within (0, 1).

    Returns:
        A rate in (0, 1].

    >>> round(false_alarm_bound(59, 0), 4), round(false_alarm_bound(299, 0), 5), round(false_alarm_bound(60, 0), 4)
    (0.0495, 0.00997, 0.0487)
    """
    if held_out < 1 or not 0 <= exceeding <= held_out:
        raise DataError(
            f"{exceeding} of {held_out} held-out scores above the threshold; expected 0 to all, of 1 at least"
        )
    _check_fraction("confidence", confidence)
    if exceeding == held_out:
        return 1.0
    risk = math.log1p(-confidence)
    if exceeding == 0:
        return -math.expm1(risk / held_out)
    count = np.arange(exceeding + 1)
    log_choose = np.concatenate(([0.0], np.cumsum(np.log((held_out - count[:-1]) / count[1:]))))

    def log_cdf(rate: float) -> float:
        terms = log_choose + count * math.log(rate) + (held_out - count) * math.log1p(-rate)
        return float(np.logaddexp.reduce(terms))

    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:  # until no number lies between: the bound to the last bit
        low, high = (middle, high) if log_cdf(middle) > risk else (low, middle)
    return high


def images_needed(target: float, confidence: float = 0.95) -> int:
    """How many held-out good images certify a false-alarm rate, with the highest of their scores as the threshold.

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


def images_expected(target: float) -> int:
    """Return how many calibration images the expected rule needs for a false-alarm rate.

    >>> images_expected(0.05), images_expected(0.01)
    (19, 99)
    """
    _check_fraction("target", target)
    return math.ceil(1 / target - 1e-9) - 1


def split_calibration(
    n: int, seed: int, *, fraction: float = 0.2, at_least: int = 59, at_most: float = 0.3
) -> tuple[np.ndarray, np.ndarray]:
    """Split good images at random into those to train on and those held out for the threshold.

    Held out are ``fraction`` of them; more where that is fewer than ``at_least`` (59 certify 5 %), but for that reason
    never more than ``at_most`` of all; one at least, and one is always left to train on.

    Args:
        n: number of good images, at least 2.
        seed: the same seed gives the same split.
        fraction: part of the images that is held out, within (0, 1).
        at_least: number of held-out images to reach where there are enough.
        at_most: part of the images that ``at_least`` may take, within (0, 1).

    Returns:
        (train, held_out): int64 indices, each ascending, together 0 ... n - 1.

    >>> train, held_out = split_calibration(320, seed=0)
    >>> len(train), len(held_out)
    (256, 64)
    """
    if n < 2:
        raise DataError(f"{n} good images; expected 2 at least, one to train on and one to hold out: add images")
    _check_fraction("fraction", fraction)
    _check_fraction("at_most", at_most)
    count = min(max(round(max(fraction * n, min(at_least, at_most * n))), 1), n - 1)
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])


@dataclass(frozen=True)
class Calibration:
    """Scores of good calibration images, the threshold placed by them, and the color scale of the maps."""

    scores: tuple[float, ...]  # image scores of good calibration images, ascending
    target: float  # wanted false-alarm rate, within (0, 1)
    confidence: float  # probability that the bound holds, within (0, 1)
    threshold: float  # an image whose score is above it is defective
    bound: float  # with that confidence, the false-alarm rate is at most this
    map_low: float  # anomaly-map value drawn as the coldest: the typical background of good maps
    map_high: float  # anomaly-map value drawn as the hottest
    rule: str = "expected"  # that placed the threshold: "expected", "certified", or "value" (set by a person)

    @classmethod
    def from_scores(
        cls,
        scores: Iterable[float],
        *,
        target: float = 0.05,
        confidence: float = 0.95,
        rule: str = "expected",
        map_low: float,
        map_high: float | None = None,
    ) -> Calibration:
        """Place the threshold by a rule; where there are too few scores for the rule, at the highest score.

        Args:
            scores: image scores of good calibration images, finite, at least one, in any order.
            target: wanted false-alarm rate, within (0, 1).
            confidence: probability that the bound holds, within (0, 1).
            rule: "expected" or "certified".
            map_low: anomaly-map value to draw as the coldest.
            map_high: the same for the hottest; by default as far above the threshold as map_low is below it.

        Raises:
            DataError: no scores, a score that is not finite, a color scale without extent. UsageError: another rule.

        >>> calibration = Calibration.from_scores(range(1, 301), map_low=0.0)
        >>> calibration.threshold, round(calibration.expected, 4), round(calibration.bound, 4)
        (286.0, 0.0498, 0.072)
        >>> calibration = Calibration.from_scores(range(1, 301), rule="certified", map_low=0.0)
        >>> calibration.threshold, round(calibration.bound, 4)
        (292.0, 0.0476)
        """
        _check_fraction("target", target)
        if rule not in RULES:
            raise unknown("rule", rule, RULES)
        ordered = np.sort(np.asarray(list(scores), dtype=np.float64))
        if ordered.size == 0:
            raise DataError("no calibration scores: expected at least one to place a threshold; add calibration images")
        if not np.isfinite(ordered).all():
            raise DataError(
                f"calibration score {ordered[~np.isfinite(ordered)][0]}: expected finite scores; train again"
            )
        n = ordered.size
        above, bound = _placement(n, target, confidence, rule)
        threshold = float(ordered[n - 1 - above])
        if map_high is None:
            half = threshold - map_low
            map_high = map_low + (2 * half if half > 0 else 1.0)  # equal maps everywhere still need a scale
        if not (math.isfinite(map_low) and math.isfinite(map_high) and map_low < map_high):
            raise DataError(f"color scale from {map_low} to {map_high}: expected finite values, the first one smaller")
        low, high = float(map_low), float(map_high)
        return cls(tuple(ordered.tolist()), target, confidence, threshold, bound, low, high, rule)

    @property
    def expected(self) -> float:
        """The false-alarm rate to expect at most, in the mean over calibration sets, in (0, 1]."""
        return (1 + self._above) / (len(self.scores) + 1)

    @property
    def _above(self) -> int:
        """How many calibration scores are above the threshold."""
        return len(self.scores) - bisect_right(self.scores, self.threshold)

    def moved(self, *, target: float | None = None, rule: str | None = None, value: float | None = None) -> Calibration:
        """Return a calibration of the same scores with another threshold.

        Args:
            target: another wanted false-alarm rate; None keeps it.
            rule: another rule; None keeps it ("expected" after a value).
            value: the threshold itself. Its guarantees hold if it was chosen without these scores.

        Raises:
            UsageError: a value that is not finite, or together with a target or a rule.

        >>> calibration = Calibration.from_scores(range(1, 301), map_low=0.0)
        >>> calibration.moved(target=0.01).threshold, calibration.moved(value=290.5).expected.__round__(3)
        (298.0, 0.037)
        """
        if value is None:
            rule = rule or (self.rule if self.rule in RULES else "expected")
            target = self.target if target is None else target
            return Calibration.from_scores(
                self.scores, target=target, confidence=self.confidence, rule=rule, map_low=self.map_low
            )
        if target is not None or rule is not None:
            raise UsageError("a threshold value was given together with a false-alarm rate or a rule: give one of them")
        if not math.isfinite(value):
            raise UsageError(f"threshold {value} is not finite: expected a score, such as {self.threshold:.4g}")
        moved = replace(self, threshold=float(value), rule="value")
        high = value + (value - self.map_low) if value > self.map_low else self.map_high
        bound = false_alarm_bound(len(self.scores), moved._above, self.confidence)
        return replace(moved, bound=bound, map_high=float(high))

    def with_scores(self, scores: Iterable[float]) -> Calibration:
        """Return a calibration of these and further scores, with the threshold placed again by the same rule."""
        scores = [*self.scores, *scores]
        if self.rule == "value":
            return replace(self, scores=tuple(sorted(scores))).moved(value=self.threshold)
        return Calibration.from_scores(
            scores, target=self.target, confidence=self.confidence, rule=self.rule, map_low=self.map_low
        )

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
        """Return both guarantees of the threshold in words; and what the target would take where it is not reached.

        >>> print(Calibration.from_scores(range(60), map_low=0.0).sentence())
        60 calibration images: expected at most 5 % false alarms; with 95 % confidence at most 11 %
        >>> print(Calibration.from_scores(range(60), rule="certified", map_low=0.0).sentence())
        60 calibration images: expected at most 1.7 % false alarms; with 95 % confidence at most 4.9 %
        >>> print(Calibration.from_scores(range(9), map_low=0.0).sentence())
        9 calibration images: expected at most 10 % false alarms; with 95 % confidence at most 29 %; 5 % expected takes 19
        """
        images = "1 calibration image" if len(self.scores) == 1 else f"{len(self.scores)} calibration images"
        line = (
            f"{images}: expected at most {_percent_up(self.expected)} % false alarms; "
            f"with {100 * self.confidence:g} % confidence at most {_percent_up(self.bound)} %"
        )
        if self.rule == "certified" and self.bound > self.target:
            return f"{line}; {100 * self.target:g} % certified takes {images_needed(self.target, self.confidence)}"
        if self.rule == "expected" and self.expected > self.target + 1e-12:
            return f"{line}; {100 * self.target:g} % expected takes {images_expected(self.target)}"
        return line

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, floats in full: :meth:`from_json` gives back an equal calibration."""
        return {**asdict(self), "scores": list(self.scores)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Calibration:
        """Return the calibration that :meth:`to_json` wrote; ModelError where a field is missing or is no number."""
        try:
            numbers = {
                field.name: float(content[field.name]) for field in fields(cls) if field.name not in ("scores", "rule")
            }
            scores = tuple(float(score) for score in content["scores"])
            return cls(scores=scores, rule=str(content["rule"]), **numbers)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"the model's calibration cannot be read ({error!r}): train the model again") from error


def outlying(scores: Sequence[float]) -> list[int]:
    """Return the indices of calibration scores far above all others, highest first: images to look at.

    Far is more than :data:`FAR` robust standard deviations (1.4826 times the median absolute deviation) above the median
    of the logarithms, as scores of good images are skewed. Of fewer than eight scores nothing is said.

    >>> outlying([1.0, 1.1, 0.9, 1.2, 1.05, 0.95, 1.15, 3.0])
    [7]
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) < 8:
        return []
    logs = np.log(np.maximum(values, 1e-12)) if (values > 0).all() else values
    median = np.median(logs)
    deviation = 1.4826 * np.median(np.abs(logs - median))
    far = np.flatnonzero(logs > median + FAR * max(float(deviation), 1e-9))
    return sorted((int(i) for i in far), key=lambda i: -values[i])


@lru_cache(maxsize=64)  # a shift-conditional threshold is placed for every image, among as many scores each time
def _placement(n: int, target: float, confidence: float, rule: str) -> tuple[int, float]:
    """Return how many of n scores are above the threshold, and its bound.

    That number is a function of n alone, never of the scores, or the guarantees would not hold.
    """
    if rule == "expected":
        above = max(math.floor((n + 1) * target + 1e-9) - 1, 0)
    else:
        certified = bisect_right(range(n), target, key=lambda above: false_alarm_bound(n, above, confidence))
        above = max(certified - 1, 0)
    return above, false_alarm_bound(n, above, confidence)


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
