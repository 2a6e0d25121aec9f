"""The effect of shifts on a detector: which raise false alarms, which cause misses, and which are the worst.

A shift can fail a detector in two ways, and an AUROC shows neither: good parts are called defective, or defects are called
good. Both are read at the fixed threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.metrics.paired import paired_auroc

SUMMARIES = ("mean_shift", "worst_shift")
"""Keys of metrics.json that sum up conditions instead of being one."""
FEWEST_FOR_A_RISE = 10
"""Images of each kind below which the error of an AUROC says too little to remark on its rise."""
_RISE_RISK = 0.05  # of one remark or more that chance alone has made, over all conditions of a run


@dataclass(frozen=True)
class ConditionScores:
    """All images under one condition, as numbers alone."""

    defective: NDArray[np.bool_]  # [N], the truth, from the folder
    scores: NDArray[np.float64]  # [N], image scores, unrounded
    images: NDArray[np.int64]  # [N], rising: which images of the set these are
    flagged: NDArray[np.bool_] | None = (
        None  # [N], verdicts by the shift-conditional threshold; None: the fixed threshold's
    )

    def split(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores of good and of defective images."""
        return self.scores[~self.defective], self.scores[self.defective]


@dataclass(frozen=True)
class Guarantee:
    """The false-alarm rate that the threshold guarantees, and the conditions that violate it."""

    rate: (
        float  # at most this share of them is called defective: the target, or the bound where none so low is certified
    )
    confidence: float  # 0..1, with which that is certified, and refuted
    violated: frozenset[str] = frozenset()  # conditions with more false alarms than that rate can explain


@dataclass(frozen=True)
class Point:
    """One condition of a family, at the fixed threshold."""

    condition: str  # key of metrics.json
    severity: int  # 1 to 5, 0 when clean
    auroc: float | None  # of images
    false_alarm_rate: float | None  # 0..1, of good images
    detection_rate: float | None  # 0..1, of defective ones


@dataclass(frozen=True)
class Family:
    """One shift at all its severities."""

    name: str  # of the shift
    points: tuple[Point, ...]  # by severity; clean is the first where it was evaluated
    raises_false_alarms: int | None  # the lowest severity that violates the guarantee
    causes_misses: int | None  # the lowest severity at which less than half is detected of what is detected clean
    above: bool  # more false alarms than guaranteed at some severity, perhaps by chance

    @property
    def shifted(self) -> tuple[Point, ...]:
        """The points that are not clean."""
        return tuple(point for point in self.points if point.severity)

    @property
    def highest_rate(self) -> float | None:
        """The highest false-alarm rate at any of its severities, 0..1."""
        return max((rate for point in self.shifted if (rate := point.false_alarm_rate) is not None), default=None)


@dataclass(frozen=True)
class Rise:
    """An image AUROC that is higher under a shift than clean, by more than chance explains."""

    condition: str
    clean: float  # 0..1
    shifted: float


def shift_and_severity(condition: str) -> tuple[str, int]:
    """What a condition's name says.

    >>> shift_and_severity("brightness-3"), shift_and_severity("clean")
    (('brightness', 3), ('clean', 0))
    """
    name, _, severity = condition.rpartition("-")
    return (name, int(severity)) if severity.isdecimal() else (condition, 0)


def families(conditions: Mapping[str, Mapping[str, Any]], guarantee: Guarantee) -> list[Family]:
    """The shifts of a run in the order in which they were evaluated.

    Args:
        conditions: content of metrics.json.
        guarantee: of the threshold.
    """
    points = [_point(name, metrics) for name, metrics in conditions.items() if name not in SUMMARIES]
    clean = [point for point in points if not point.severity]
    held: dict[str, list[Point]] = {}
    for point in points:
        if point.severity:
            held.setdefault(shift_and_severity(point.condition)[0], []).append(point)
    return [
        _family(name, clean, sorted(of_it, key=lambda point: point.severity), guarantee) for name, of_it in held.items()
    ]


def _point(name: str, metrics: Mapping[str, Any]) -> Point:
    image, rates = (metrics.get(group) or {} for group in ("image", "threshold"))
    severity = shift_and_severity(name)[1]
    return Point(name, severity, image.get("auroc"), rates.get("false_alarm_rate"), rates.get("detection_rate"))


def _family(name: str, clean: Sequence[Point], shifted: Sequence[Point], guarantee: Guarantee) -> Family:
    before = clean[0].detection_rate if clean else None
    return Family(
        name,
        (*clean, *shifted),
        raises_false_alarms=next((point.severity for point in shifted if point.condition in guarantee.violated), None),
        causes_misses=next(
            (
                point.severity
                for point in shifted
                if before and point.detection_rate is not None and point.detection_rate < before / 2
            ),
            None,
        ),
        above=any((point.false_alarm_rate or 0.0) > guarantee.rate for point in shifted),
    )


def worst_condition(conditions: Mapping[str, Mapping[str, Any]], group: str, key: str) -> str | None:
    """Which shifted condition has the worst of a number: the highest false-alarm rate, of any other figure the lowest.

    Args:
        conditions: content of metrics.json.
        group: ``"image"``, ``"pixel"`` or ``"threshold"``.
        key: of the number within it.

    Returns:
        its name, of equals the first; None where nothing is shifted, or a shifted condition lacks the number: the worst of
        what is left would look better than the truth.

    >>> shifts = {"clean": 0.9, "jpeg-3": 0.8, "scale-3": 0.7}
    >>> worst_condition({name: {"image": {"auroc": auroc}} for name, auroc in shifts.items()}, "image", "auroc")
    'scale-3'
    """
    values: dict[str, float] = {}
    for name, metrics in conditions.items():
        if name not in SUMMARIES and shift_and_severity(name)[1]:
            value = (metrics.get(group) or {}).get(key)
            if value is None:
                return None
            values[name] = value
    worse = max if key == "false_alarm_rate" else min
    return worse(values, key=lambda name: values[name]) if values else None


def rises(scores: Mapping[str, ConditionScores]) -> list[Rise]:
    """The shifts under which images are told apart better than clean, on the same images.

    A one-sided test on DeLong's error; a risk of 5 % that any of the run's conditions is named by chance alone is shared
    among them. Nothing is said with fewer than ten images of a kind.

    Args:
        scores: by condition.
    """
    if "clean" not in scores:
        return []
    clean = scores["clean"]
    shifted = {name: held for name, held in scores.items() if shift_and_severity(name)[1]}
    found = []
    for name, held in shifted.items():
        _, before, after = np.intersect1d(clean.images, held.images, assume_unique=True, return_indices=True)
        defective = held.defective[after]
        if min(defective.sum(), (~defective).sum()) < FEWEST_FOR_A_RISE:
            continue
        auroc, risen, error = paired_auroc(defective, clean.scores[before], held.scores[after])
        chance = math.erfc((risen - auroc) / max(error, 1e-12) / math.sqrt(2)) / 2  # of as high a rise, or a higher one
        if chance < _RISE_RISK / len(shifted):
            found.append(Rise(name, auroc, risen))
    return found
