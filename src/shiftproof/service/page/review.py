"""What reviews have measured, and which inspection to review next."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup

from shiftproof.charts.svg import Axis, svg
from shiftproof.report.page import percent
from shiftproof.service.api.dependencies import StationDependency
from shiftproof.service.api.history import Cursor
from shiftproof.service.page.filters import OPEN, HistoryFiltersParam
from shiftproof.service.page.rendering import address, render
from shiftproof.service.store import history, reviews
from shiftproof.service.store.reviews import Rate

router = APIRouter()
_FEW = 20  # reviews below which a rate is hardly known


@router.get("/review")
def measured(
    request: Request,
    station: StationDependency,
    model: str = "",
    all_versions: Annotated[str, Query(alias="all")] = "",
    done: str = "",
    reviewed: Annotated[Cursor, Query()] = None,
) -> HTMLResponse:
    """A model's false alarms and missed defects; `done` after the last one of a queue."""
    name = model if model in station.queues else next(iter(station.queues))
    version = station.queues[name].version
    with station.database.reading() as session:
        rates = reviews.rates(
            session,
            name,
            version=None if all_versions else version.version,
            current=(version.version, version.calibration.threshold),
        )
        last_reviewed = history.find(session, reviewed) if reviewed else None
    bound = version.calibration.bound
    highest = max(rates.false_alarms.high, bound, rates.missed_defects.high)
    return render(
        request,
        "review.html.j2",
        model=name,
        version=version,
        rates=rates,
        all_versions=bool(all_versions),
        charts={
            "false_alarms": interval(rates.false_alarms, highest, "good", bound),
            "missed_defects": interval(rates.missed_defects, highest, "defective"),
        },
        explanation={
            name: explain(rate)
            for name, rate in (("false_alarms", rates.false_alarms), ("missed_defects", rates.missed_defects))
        },
        done=bool(done) or reviewed is not None,
        reviewed=last_reviewed,
    )


@router.get("/review/next")
def next_one(
    station: StationDependency, filters: HistoryFiltersParam, reviewed: Annotated[Cursor, Query()] = None
) -> RedirectResponse:
    """An inspection that nobody has reviewed: the newest one, or any."""
    filters = replace(filters, review=OPEN, queue=filters.queue or "newest")
    with station.database.reading() as session:
        if filters.queue == "sample":
            number = history.sample(session, filters.filter(), np.random.default_rng())
        else:
            number = next((one.id for one in history.search(session, filters.filter(), 1).items), None)
    if number is None:
        return RedirectResponse(address("/review", model=filters.model, done=True, reviewed=reviewed), 303)
    return RedirectResponse(filters.link(f"/inspections/{number}", reviewed=reviewed), 303)


def interval(rate: Rate, highest: float, kind: str, promised: float | None = None) -> Markup:
    """Draw a rate in its interval.

    Args:
        rate: of errors.
        highest: rate at the end of the axis.
        kind: "good" or "defective", for the colour.
        promised: what the threshold promises at most.
    """
    width, left, right, middle = 520, 8, 8, 34
    axis = Axis(0, min(1.0, 1.08 * highest) or 1.0, left, width - right)
    start, stop = axis.at(rate.low), axis.at(rate.high)
    parts = [
        f'<line class="rule" x1="{left}" x2="{width - right}" y1="{middle + 18}" y2="{middle + 18}"/>',
        f'<rect class="{kind} span" x="{start:.1f}" y="{middle - 7}" width="{max(stop - start, 2):.1f}" height="14" rx="7"/>',
    ]
    for tick in axis.ticks():
        x = axis.at(tick)
        anchor = "start" if tick == 0 else "end" if x > width - 24 else "middle"
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{middle + 18}" y2="{middle + 22}"/>')
        parts.append(
            f'<text class="axis" x="{x:.1f}" y="{middle + 36}" text-anchor="{anchor}">{100 * tick:.3g} %</text>'
        )
    if promised is not None:
        x = axis.at(promised)
        parts.append(f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="16" y2="{middle + 18}"/>')
        anchor = "start" if x < 90 else "end" if x > width - 90 else "middle"
        parts.append(
            f'<text class="threshold-label" x="{x:.1f}" y="11" text-anchor="{anchor}">guaranteed at most</text>'
        )
    if rate.rate is not None:
        parts.append(f'<circle class="{kind} rim" cx="{axis.at(rate.rate):.1f}" cy="{middle}" r="7"/>')
    known = "not known" if rate.rate is None else f"{100 * rate.rate:.2g} %"
    title = f"Rate {known}; with 95 % confidence between {100 * rate.low:.2g} and {100 * rate.high:.2g} %"
    return Markup(svg(width, middle + 40, title, parts))  # noqa: S704 (numbers and fixed words only)


def explain(rate: Rate) -> str:
    """What is known of a rate, and when that is little.

    >>> explain(reviews.rate(0, 0))
    'Not known: no such part has been reviewed.'
    """
    if not rate.of:
        return "Not known: no such part has been reviewed."
    between = f"With 95 % confidence the true rate is between {percent(rate.low)} and {percent(rate.high)}."
    return f"Few reviews: the interval is wide. {between}" if rate.of < _FEW else between
