"""Whether a line's images still look like the good ones: evidence over time, what changed, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from shiftproof.calibration import images_needed
from shiftproof.charts.drift import deviation_panel, evidence_chart
from shiftproof.drift import DRIFT, GROUPS, STEADY
from shiftproof.service.api.dependencies import StationDependency
from shiftproof.service.drift_tracker import DriftPoint, DriftSnapshot
from shiftproof.service.page.rendering import render
from shiftproof.service.store import calibrations

router = APIRouter()
_MARKS = {"steady": "good", "watch": "watch", "drift": "defective"}


@dataclass(frozen=True)
class Panel:
    """One group of statistics."""

    group: str
    chart: Markup
    description: str  # what changed in it; empty where nothing did
    corrected: bool  # whether shift correction corrects it, within its limits


@router.get("/drift")
def drift(request: Request, station: StationDependency, model: str = "") -> HTMLResponse:
    """Of one model's present version."""
    name = model if model in station.queues else next(iter(station.queues))
    version = station.queues[name].version
    snapshot = station.drift_trackers[name].snapshot
    with station.database.reading() as session:
        reviewed = len(calibrations.reviewed_good(session, name))
    return render(
        request,
        "drift.html.j2",
        model=name,
        version=version,
        snapshot=snapshot,
        mark="good" if snapshot is None else _MARKS[snapshot.state.status],
        curve=Markup() if snapshot is None else _curve(snapshot),
        panels=[] if snapshot is None else _panels(snapshot),
        first_point=None if snapshot is None else _first_point(snapshot),
        steady=snapshot is not None and snapshot.state.status == STEADY,
        found=snapshot is not None and snapshot.state.status == DRIFT,
        reviewed=reviewed,
        needed=images_needed(version.calibration.target, version.calibration.confidence),
    )


def _first_point(snapshot: DriftSnapshot) -> DriftPoint | None:
    """The inspection with which the present drift began, or the oldest that is remembered."""
    start_index = snapshot.state.start_index
    return None if start_index is None else snapshot.steps[max(start_index - snapshot.first, 0)]


def _spans(snapshot: DriftSnapshot) -> Sequence[tuple[int, int]]:
    """(first, last) of each drift among the steps that are remembered, from 1."""
    last = len(snapshot.steps)
    spans = (
        (one.start_index - snapshot.first + 1, last if one.end_index is None else one.end_index - snapshot.first + 1)
        for one in snapshot.episodes
    )
    return [(max(begin, 1), end) for begin, end in spans if end >= 1]


def _curve(snapshot: DriftSnapshot) -> Markup:
    evidence = np.array([step.evidence for step in snapshot.steps])
    return Markup(evidence_chart(evidence, snapshot.alert_at, _spans(snapshot)))  # noqa: S704 (numbers only)


def _panels(snapshot: DriftSnapshot) -> list[Panel]:
    """Those that changed first."""
    spans = _spans(snapshot)
    findings = {finding.group: finding for finding in snapshot.state.findings}
    panels = []
    for group in GROUPS:
        values = np.array([step.levels[group] for step in snapshot.steps])
        finding = findings.get(group)
        panels.append(
            Panel(
                group,
                Markup(deviation_panel(values, spans)),  # noqa: S704 (numbers only)
                "" if finding is None else finding.description,
                finding is not None and finding.corrected,
            )
        )
    return sorted(panels, key=lambda panel: not panel.description)
