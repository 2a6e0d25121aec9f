"""The report of `shiftproof drift`: whether images have drifted, what changed, and the evidence over the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from shiftproof.charts.drift import deviation_panel, evidence_chart
from shiftproof.report.page import model_card, write_page

MOST_FAILURES = 100


@dataclass(frozen=True)
class DriftReport:
    """All that the page shows."""

    title: str  # names model and images
    lines: Sequence[str]  # the verdict
    episodes: Sequence[Mapping[str, Any]]  # drifts: start_index, alert_index, end_index, path, findings, advice
    status: str  # "steady", "watch" or "drift", after the last image
    advice: str  # what to do
    evidence: NDArray[np.float64]  # [N], powers of ten, in the order of the images
    alert_at: float  # evidence at which an alert is raised
    alpha: float  # false-alert rate
    groups: Sequence[str]  # what the columns of `deviations` are
    deviations: NDArray[np.float64]  # [N, G], in sigma (robust z-scores)
    good: int  # images in the reference
    order: str  # how the images were sorted, in words
    failures: Sequence[str]  # a line for each image that could not be read
    manifest: Mapping[str, Any] = field(default_factory=dict)  # model.json


def write_drift_report(path: Path, report: DriftReport) -> None:
    """Write the page: one HTML file with everything in it, no script, no request to anywhere.

    Raises:
        ShiftproofError: the file cannot be written.
    """
    spans = [(each["start_index"], each["end_index"] or len(report.evidence)) for each in report.episodes]
    panels = [
        (group, Markup(deviation_panel(values, spans)))  # noqa: S704 (numbers only)
        for group, values in zip(report.groups, report.deviations.T, strict=True)
    ]
    write_page(
        path,
        "drift.html.j2",
        report=report,
        failures=report.failures[:MOST_FAILURES],
        curve=Markup(evidence_chart(report.evidence, report.alert_at, spans)),  # noqa: S704 (numbers only)
        panels=panels,
        images=len(report.evidence),
        one_in=round(1 / report.alpha),
        card=model_card(report.manifest),
        config=report.manifest.get("config") or {},
        version=report.manifest.get("shiftproof"),
    )
