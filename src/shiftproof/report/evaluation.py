"""The report of `shiftproof evaluate`: what the detector is worth at its fixed threshold, and where it is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from shiftproof.charts import scores as charts
from shiftproof.metrics import roc_points
from shiftproof.metrics.confounds import Confound
from shiftproof.metrics.robustness import SUMMARIES, ConditionScores, Guarantee, worst_condition
from shiftproof.report.page import Legend, Picture, model_card, write_page
from shiftproof.report.shift_section import ShiftExample, shift_section

__all__ = [
    "MOST_ROWS",
    "ConditionScores",
    "EvaluationReport",
    "ShiftExample",
    "Picture",
    "Guarantee",
    "ScoredImage",
    "write_evaluation_report",
]

MOST_ROWS = 1000
"""Lines of the table of scores; a browser would stumble over one for every image of a large set."""
GROUPS = ("image", "pixel", "threshold", "conditional")
"""Of figures in metrics.json; the last one only where a conditional threshold judged."""
MOST_FAILURES = 20
"""Lines about images that could not be read."""


@dataclass(frozen=True)
class ScoredImage:
    """One test image and what the detector said of it."""

    name: str  # posix path relative to the data set
    defect_type: str  # "good", "scratch_head", ...
    defective: bool  # the truth, from the folder
    score: float  # image score, unrounded
    p_value: float | None  # conformal, against the calibration images
    verdict: str  # "good" or "defective", at the fixed threshold
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
    guarantee: Guarantee  # the same as a number, and which conditions refute it
    conditions: Mapping[str, Mapping[str, Any]]  # content of metrics.json
    scores: Mapping[str, ConditionScores]  # by condition; all images, which the charts are drawn of
    table: Sequence[ScoredImage]  # those that are listed, in this order: `MOST_ROWS` at most
    misses: Sequence[Picture]  # defective, called good; worst first
    false_alarms: Sequence[Picture]  # good, called defective; worst first
    low: float  # colour scale of the heatmaps: drawn coolest
    high: float  # drawn hottest
    failures: Sequence[str] = ()  # a line for each image that could not be used
    left_out: Sequence[str] = ()  # a line for each condition that lacks images, or all of them
    confounds: Sequence[Confound] = ()  # what tells the first condition's labels without a detector
    examples: Sequence[ShiftExample] = ()  # the same image under each shift


@dataclass(frozen=True)
class _Row:
    """One line of the table of conditions."""

    name: str
    image: Mapping[str, float | None]
    pixel: Mapping[str, float | None]
    threshold: Mapping[str, float | None]
    conditional: Mapping[str, float | None]  # empty where the fixed threshold judged alone
    summary: bool  # mean or worst of others
    named: Mapping[
        str, Mapping[str, str | None]
    ]  # by group and key: the condition whose number this is, if it is one's


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
        under_shifts=shift_section(report.conditions, report.scores, report.guarantee, threshold),
        lost=_lost(report),
        has_conditional=any(row.conditional for row in rows),
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


_NO_SCORES = ConditionScores(np.zeros(0, bool), np.zeros(0), np.zeros(0, np.int64))


def _tally(held: ConditionScores, threshold: float | None) -> dict[str, int]:
    """Counts for the sentence at the head of the page."""
    flagged = held.flagged if held.flagged is not None else held.scores > (np.inf if threshold is None else threshold)
    return {
        "defective": int(held.defective.sum()),
        "caught": int((flagged & held.defective).sum()),
        "missed": int((~flagged & held.defective).sum()),
        "good": int((~held.defective).sum()),
        "raised": int((flagged & ~held.defective).sum()),
    }


def _histogram(held: ConditionScores, threshold: float | None) -> Markup | None:
    if threshold is None or not held.scores.size:
        return None
    return Markup(charts.histogram(*held.split(), threshold))  # noqa: S704 (numbers and fixed words only)


def _roc(held: ConditionScores, row: _Row) -> Markup | None:
    if not held.scores.size:
        return None
    both = held.defective.any() and not held.defective.all()
    fpr, tpr = roc_points(held.defective, held.scores) if both else (np.empty(0), np.empty(0))
    alarm, detection = row.threshold.get("false_alarm_rate"), row.threshold.get("detection_rate")
    point = None if alarm is None or detection is None else (alarm, detection)
    return Markup(charts.roc(fpr, tpr, row.image.get("auroc"), operating_point=point))  # noqa: S704 (numbers only)


def _rows(report: EvaluationReport) -> list[_Row]:
    """Lines of the table; that of the worst names the condition of each number, which need not be the same."""
    rows = []
    for name, metrics in report.conditions.items():
        image, pixel, rates, conditional = (metrics.get(key) or {} for key in GROUPS)
        named = {
            group: {key: worst_condition(report.conditions, group, key) for key in metrics.get(group) or {}}
            for group in GROUPS
        }
        rows.append(
            _Row(name, image, pixel, rates, conditional, name in SUMMARIES, named if name == "worst_shift" else {})
        )
    return rows


def _lost(report: EvaluationReport) -> list[tuple[str, int]]:
    """The conditions that have moved defects out of the frame, and how many."""
    counts = {name: (metrics.get("images") or {}).get("lost_defects", 0) for name, metrics in report.conditions.items()}
    return [(name, count) for name, count in counts.items() if count]
