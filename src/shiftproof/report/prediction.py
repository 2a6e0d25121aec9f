"""The report of `shiftproof predict`: what was found in images whose truth nobody has told."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from shiftproof.report import charts
from shiftproof.report.page import Legend, Picture, model_card, write_page

MOST_PICTURES = 60


@dataclass(frozen=True)
class PredictionSummary:
    """What holds for all images of a run."""

    title: str  # names model and images
    calibration_sentence: str  # what the threshold promises, from `Calibration.sentence`
    threshold: float  # the frozen threshold
    low: float  # colour scale of the heatmaps: drawn coolest
    high: float  # drawn hottest
    manifest: Mapping[str, Any] = field(default_factory=dict)  # model.json


def write_prediction_report(
    path: Path, rows: Sequence[Mapping[str, Any]], pictures: Iterable[Picture], summary: PredictionSummary
) -> None:
    """Write the page: one HTML file with everything in it, no script, no request to anywhere.

    Args:
        path: where to.
        rows: the rows of predictions.csv: path, status ("ok" or "error"), score, p_value, verdict ("good" or "defective"),
            threshold, milliseconds, error; cells without a value are None or empty.
        pictures: any number, in any order; a generator works, as no more than 60, the most anomalous, are kept at a time.
        summary: what holds for all of them.

    Raises:
        ShiftproofError: the file cannot be written.
    """
    failed = [row for row in rows if row["status"] == "error"]
    done = sorted((row for row in rows if row["status"] != "error"), key=lambda row: -float(row["score"]))
    shown = heapq.nlargest(MOST_PICTURES, pictures, key=lambda picture: picture.score)
    times = [float(row["milliseconds"]) for row in done if row.get("milliseconds") not in (None, "")]
    scores = [float(row["score"]) for row in done]
    drawn = None
    if scores:
        drawn = Markup(charts.histogram(scores, (), summary.threshold, labels=("images", "")))  # noqa: S704 (numbers only)
    write_page(
        path,
        "prediction.html.j2",
        summary=summary,
        rows=done,
        failed=failed,
        defective=sum(row["verdict"] == "defective" for row in done),
        milliseconds=statistics.median(times) if times else None,
        pictures=shown,
        hidden=max(len(done) - len(shown), 0),
        histogram=drawn,
        legend=Legend(summary.low, summary.high, summary.threshold),
        card=model_card(summary.manifest),
        config=summary.manifest.get("config") or {},
        version=summary.manifest.get("shiftproof"),
    )
