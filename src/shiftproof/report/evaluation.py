"""The report of `shiftproof evaluate`: what the detector is worth at its frozen threshold, and where it is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from shiftproof.metrics import roc_points
from shiftproof.report import charts
from shiftproof.report.page import Legend, Picture, model_card, write_page

__all__ = ["MOST_ROWS", "ConditionScores", "EvaluationReport", "Picture", "ScoredImage", "write_evaluation_report"]

MOST_ROWS = 1000
"""Lines of the table of scores; a browser would stumble over one for every image of a large set."""
MOST_FAILURES = 20
"""Lines about images that could not be read."""

SUMMARIES = ("mean_shift", "worst_shift")
"""Keys of metrics.json that sum up conditions instead of being one."""


@dataclass(frozen=True)
class ScoredImage:
    """One test image and what the detector said of it."""

    name: str  # posix path relative to the data set
    kind: str  # "good", "scratch_head", ...
    defective: bool  # the truth, from the folder
    score: float  # image score, unrounded
    p_value: float | None  # conformal, against the held-out good images
    verdict: str  # "good" or "defective", at the frozen threshold
    condition: str = "clean"  # key of metrics.json

    @property
    def flagged(self) -> bool:
        return self.verdict == "defective"

    @property
    def outcome(self) -> str:
        """Where verdict and truth part: "miss", "false alarm", or nothing."""
        if self.flagged == self.defective:
            return ""
        return "miss" if self.defective else "false alarm"


@dataclass(frozen=True)
class ConditionScores:
    """All images under one condition, as numbers alone."""

    defective: NDArray[np.bool_]  # [N], the truth, from the folder
    scores: NDArray[np.float64]  # [N], image scores, unrounded


@dataclass(frozen=True)
class EvaluationReport:
    """All that the page shows. The first condition is the one that the head of the page speaks of."""

    title: str  # names model and data
    manifest: Mapping[str, Any]  # model.json
    calibration_sentence: str  # what the threshold promises, from `Calibration.sentence`
    conditions: Mapping[str, Mapping[str, Any]]  # content of metrics.json
    scores: Mapping[str, ConditionScores]  # by condition; all images, which the charts are drawn of
    table: Sequence[ScoredImage]  # those that are listed, in this order: `MOST_ROWS` at most
    misses: Sequence[Picture]  # defective, called good; worst first
    false_alarms: Sequence[Picture]  # good, called defective; worst first
    low: float  # colour scale of the heatmaps: drawn coolest
    high: float  # drawn hottest
    failures: Sequence[str] = ()  # a line for each image that could not be used


@dataclass(frozen=True)
class _Row:
    """One line of the table of conditions."""

    name: str
    image: Mapping[str, float | None]
    pixel: Mapping[str, float | None]
    threshold: Mapping[str, float | None]
    strip: Markup | None  # its score distribution
    summary: bool  # mean or worst of others


def write_evaluation_report(path: Path, report: EvaluationReport) -> None:
    """Write the page: one HTML file with everything in it, no script, no request to anywhere.

    Raises:
        ShiftproofError: the file cannot be written.
        ValueError: there is no condition to speak of.
    """
    names = [name for name in report.conditions if name not in SUMMARIES]
    if not names:
        raise ValueError("the report has no condition; expected at least one, such as 'clean'")
    head = report.scores.get(names[0], _NO_SCORES)
    rows = _rows(report)
    first = next(row for row in rows if row.name == names[0])
    threshold = first.threshold.get("value")
    write_page(
        path,
        "evaluation.html.j2",
        report=report,
        head=first,
        tally=_tally(head, threshold),
        rows=rows,
        shifted=[row for row in rows if not row.summary and row.name != first.name],
        has_pixels=any(value is not None for row in rows for value in row.pixel.values()),
        histogram=_histogram(head, threshold),
        roc=_roc(head, first),
        legend=Legend(report.low, report.high, threshold),
        total=sum(held.scores.size for held in report.scores.values()),
        most_failures=MOST_FAILURES,
        card=model_card(report.manifest),
        config=report.manifest.get("config") or {},
        version=report.manifest.get("shiftproof"),
    )


_NO_SCORES = ConditionScores(np.zeros(0, bool), np.zeros(0))


def _tally(held: ConditionScores, threshold: float | None) -> dict[str, int]:
    """Counts for the sentence at the head of the page."""
    flagged = held.scores > (np.inf if threshold is None else threshold)
    return {
        "defective": int(held.defective.sum()),
        "caught": int((flagged & held.defective).sum()),
        "missed": int((~flagged & held.defective).sum()),
        "good": int((~held.defective).sum()),
        "raised": int((flagged & ~held.defective).sum()),
    }


def _split(held: ConditionScores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return held.scores[~held.defective], held.scores[held.defective]


def _histogram(held: ConditionScores, threshold: float | None) -> Markup | None:
    if threshold is None or not held.scores.size:
        return None
    return Markup(charts.histogram(*_split(held), threshold))  # noqa: S704 (numbers and fixed words only)


def _roc(held: ConditionScores, row: _Row) -> Markup | None:
    if not held.scores.size:
        return None
    both = held.defective.any() and not held.defective.all()
    fpr, tpr = roc_points(held.defective, held.scores) if both else (np.empty(0), np.empty(0))
    alarm, detection = row.threshold.get("false_alarm_rate"), row.threshold.get("detection_rate")
    point = None if alarm is None or detection is None else (alarm, detection)
    return Markup(charts.roc(fpr, tpr, row.image.get("auroc"), operating_point=point))  # noqa: S704 (numbers only)


def _rows(report: EvaluationReport) -> list[_Row]:
    """Lines of the table; all score strips share one axis, so that a condition that moves the scores is seen to."""
    thresholds = [(metrics.get("threshold") or {}).get("value") for metrics in report.conditions.values()]
    known = [value for value in thresholds if value is not None]
    scores = np.concatenate([known, *(held.scores for held in report.scores.values())])
    axis = charts.score_axis(scores, known[0], 2, 178) if known and scores.size > len(known) else None
    rows = []
    for (name, metrics), threshold in zip(report.conditions.items(), thresholds, strict=True):
        held = report.scores.get(name, _NO_SCORES)
        strip = None
        if axis and held.scores.size and threshold is not None:
            strip = Markup(charts.strip(*_split(held), threshold, axis))  # noqa: S704 (numbers and fixed words only)
        image, pixel, rates = (metrics.get(key) or {} for key in ("image", "pixel", "threshold"))
        rows.append(_Row(name, image, pixel, rates, strip, name in SUMMARIES))
    return rows
