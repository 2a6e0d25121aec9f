"""Whether a line's images still look like the good ones: evidence over time, what changed, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from shiftproof.calibration import images_needed
from shiftproof.drift import DRIFT, GROUPS, STEADY
from shiftproof.report.drift import deviation_panel, evidence_chart
from shiftproof.service.api.given import StationOf
from shiftproof.service.following import Followed, Step
from shiftproof.service.page.looks import render
from shiftproof.service.store import calibrating

router = APIRouter()
_MARKS = {"steady": "good", "watch": "watch", "drift": "defective"}


@dataclass(frozen=True)
class Panel:
    """One group of statistics."""

    group: str
    chart: Markup
    word: str  # what changed in it; empty where nothing did
    matched: bool  # whether matching puts it right, within its limits


@router.get("/drift")
def drift(request: Request, station: StationOf, model: str = "") -> HTMLResponse:
    """Of one model's present version."""
    name = model if model in station.lines else next(iter(station.lines))
    version = station.lines[name].version
    followed = station.followers[name].followed
    with station.database.reading() as session:
        reviewed = len(calibrating.reviewed_good(session, name))
    return render(
        request,
        "drift.html.j2",
        model=name,
        version=version,
        followed=followed,
        mark="good" if followed is None else _MARKS[followed.state.status],
        curve=Markup() if followed is None else _curve(followed),
        panels=[] if followed is None else _panels(followed),
        began=None if followed is None else _began(followed),
        steady=followed is not None and followed.state.status == STEADY,
        found=followed is not None and followed.state.status == DRIFT,
        reviewed=reviewed,
        needed=images_needed(version.calibration.target, version.calibration.confidence),
    )


def _began(followed: Followed) -> Step | None:
    """The inspection with which the present drift began, or the oldest that is remembered."""
    since = followed.state.since
    return None if since is None else followed.steps[max(since - followed.first, 0)]


def _spans(followed: Followed) -> Sequence[tuple[int, int]]:
    """(first, last) of each drift among the steps that are remembered, from 1."""
    last = len(followed.steps)
    spans = (
        (one.began - followed.first + 1, last if one.ended is None else one.ended - followed.first + 1)
        for one in followed.episodes
    )
    return [(max(begin, 1), end) for begin, end in spans if end >= 1]


def _curve(followed: Followed) -> Markup:
    evidence = np.array([step.evidence for step in followed.steps])
    return Markup(evidence_chart(evidence, followed.alert_at, _spans(followed)))  # noqa: S704 (numbers only)


def _panels(followed: Followed) -> list[Panel]:
    """Those that changed first."""
    spans = _spans(followed)
    findings = {finding.group: finding for finding in followed.state.findings}
    panels = []
    for group in GROUPS:
        values = np.array([step.levels[group] for step in followed.steps])
        finding = findings.get(group)
        panels.append(
            Panel(
                group,
                Markup(deviation_panel(values, spans)),  # noqa: S704 (numbers only)
                "" if finding is None else finding.word,
                finding is not None and finding.matched,
            )
        )
    return sorted(panels, key=lambda panel: not panel.word)
