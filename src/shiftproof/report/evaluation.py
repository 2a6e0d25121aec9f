"""The report of `shiftproof evaluate`: what the detector is worth at its frozen threshold, and where it is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from shiftproof.report import charts
from shiftproof.report.page import Legend, Picture, model_card, write_page

__all__ = ["EvaluationReport", "Picture", "ScoredImage", "write_evaluation_report"]

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
class EvaluationReport:
    """All that the page shows. The first condition is the one that the head of the page speaks of."""

    title: str  # names model and data
    manifest: Mapping[str, Any]  # model.json
    calibration_sentence: str  # what the threshold promises, from `Calibration.sentence`
    conditions: Mapping[str, Mapping[str, Any]]  # content of metrics.json
    scores: Sequence[ScoredImage]  # of all conditions
    misses: Sequence[Picture]  # defective, called good; worst first
    false_alarms: Sequence[Picture]  # good, called defective; worst first
    low: float  # colour scale of the heatmaps: drawn coolest
    high: float  # drawn hottest


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
    by_condition: dict[str, list[ScoredImage]] = defaultdict(list)
    for item in report.scores:
        by_condition[item.condition].append(item)
    head = by_condition[names[0]]
    rows = _rows(report, by_condition)
    first = next(row for row in rows if row.name == names[0])
    threshold = first.threshold.get("value")
    write_page(
        path,
        "evaluation.html.j2",
        report=report,
        head=first,
        tally=_tally(head),
        rows=rows,
        shifted=[row for row in rows if not row.summary and row.name != first.name],
        has_pixels=any(value is not None for row in rows for value in row.pixel.values()),
        histogram=_histogram(head, threshold),
        roc=_roc(head, first),
        legend=Legend(report.low, report.high, threshold),
        scores=[item for name in names for item in sorted(by_condition[name], key=lambda item: -item.score)],
        card=model_card(report.manifest),
        config=report.manifest.get("config") or {},
        version=report.manifest.get("shiftproof"),
    )


def _tally(items: Sequence[ScoredImage]) -> dict[str, int]:
    """Counts for the sentence at the head of the page."""
    defective = [item for item in items if item.defective]
    good = [item for item in items if not item.defective]
    return {
        "defective": len(defective),
        "caught": sum(item.flagged for item in defective),
        "missed": sum(not item.flagged for item in defective),
        "good": len(good),
        "raised": sum(item.flagged for item in good),
    }


def _split(items: Sequence[ScoredImage]) -> tuple[list[float], list[float]]:
    return [item.score for item in items if not item.defective], [item.score for item in items if item.defective]


def _histogram(items: Sequence[ScoredImage], threshold: float | None) -> Markup | None:
    if threshold is None or not items:
        return None
    return Markup(charts.histogram(*_split(items), threshold))  # noqa: S704 (numbers and fixed words only)


def _roc(items: Sequence[ScoredImage], row: _Row) -> Markup | None:
    if not items:
        return None
    fpr, tpr = charts.roc_points([item.defective for item in items], [item.score for item in items])
    alarm, detection = row.threshold.get("false_alarm_rate"), row.threshold.get("detection_rate")
    point = None if alarm is None or detection is None else (alarm, detection)
    return Markup(charts.roc(fpr, tpr, row.image.get("auroc"), operating_point=point))  # noqa: S704 (numbers only)


def _rows(report: EvaluationReport, by_condition: Mapping[str, Sequence[ScoredImage]]) -> list[_Row]:
    """Lines of the table; all score strips share one axis, so that a condition that moves the scores is seen to."""
    thresholds = [(metrics.get("threshold") or {}).get("value") for metrics in report.conditions.values()]
    known = [value for value in thresholds if value is not None]
    scores = [item.score for item in report.scores]
    axis = charts.score_axis([*scores, *known], known[0], 2, 178) if known and scores else None
    rows = []
    for (name, metrics), threshold in zip(report.conditions.items(), thresholds, strict=True):
        items = by_condition.get(name, ())
        strip = None
        if axis and items and threshold is not None:
            strip = Markup(charts.strip(*_split(items), threshold, axis))  # noqa: S704 (numbers and fixed words only)
        image, pixel, rates = (metrics.get(key) or {} for key in ("image", "pixel", "threshold"))
        rows.append(_Row(name, image, pixel, rates, strip, name in SUMMARIES))
    return rows
