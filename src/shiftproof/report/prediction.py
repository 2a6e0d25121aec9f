"""The report of `shiftproof predict`: what was found in images whose truth nobody has told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from shiftproof.charts import scores as charts
from shiftproof.report.page import Legend, Picture, model_card, write_page

MOST_PICTURES = 60
MOST_ROWS = 1000
"""Lines of the table of scores; a browser would stumble over one for every image of a large folder."""
MOST_FAILURES = 100
"""Lines about images that could not be read."""


@dataclass(frozen=True)
class PredictionReport:
    """All that the page shows. Rows are those of predictions.csv: a cell for each column, None or empty without a value."""

    title: str  # names model and images
    calibration_sentence: str  # what the threshold promises, from `Calibration.sentence`
    threshold: float  # the fixed threshold
    low: float  # colour scale of the heatmaps: drawn coolest
    high: float  # drawn hottest
    scores: NDArray[np.float64]  # [N], of all images that were inspected
    latency_ms: NDArray[np.float64]  # [N], what each took
    defective: int  # how many of them are called that
    rows: Sequence[Mapping[str, Any]]  # those that are listed, in this order: `MOST_ROWS` at most
    pictures: Sequence[Picture]  # the most anomalous first: `MOST_PICTURES` at most
    failures: Sequence[Mapping[str, Any]]  # rows of images that could not be read: `MOST_FAILURES` at most
    failed: int  # how many could not
    manifest: Mapping[str, Any] = field(default_factory=dict)  # model.json


def write_prediction_report(path: Path, report: PredictionReport) -> None:
    """Write the page: one HTML file with everything in it, no script, no request to anywhere.

    Raises:
        ShiftproofError: the file cannot be written.
    """
    drawn = None
    if report.scores.size:
        drawn = Markup(charts.histogram(report.scores, (), report.threshold, labels=("images", "")))  # noqa: S704 (numbers only)
    write_page(
        path,
        "prediction.html.j2",
        report=report,
        total=report.scores.size,
        latency_ms=float(np.median(report.latency_ms)) if report.latency_ms.size else None,
        histogram=drawn,
        legend=Legend(report.low, report.high, report.threshold),
        card=model_card(report.manifest),
        config=report.manifest.get("config") or {},
        version=report.manifest.get("shiftproof"),
    )
