"""The history, and an inspection of it with its review."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from shiftproof.service.api.dependencies import StationDependency
from shiftproof.service.api.history import Cursor, Id, write_review
from shiftproof.service.page.detail import load_detail
from shiftproof.service.page.filters import HistoryFilters, HistoryFiltersParam
from shiftproof.service.page.rendering import address, render
from shiftproof.service.station import Station
from shiftproof.service.store import history

router = APIRouter()
_ROWS = 48


@router.get("/history")
def listed(
    request: Request,
    station: StationDependency,
    filters: HistoryFiltersParam,
    before: Annotated[Cursor, Query()] = None,
) -> HTMLResponse:
    """The newest first; `before` leads to older ones."""
    filters = filters.with_changes(queue="")
    with station.database.reading() as session:
        page = history.search(session, filters.filter(before=before), _ROWS)
    stations = sorted({one.station for one in page.items if one.station} | ({filters.station} - {""}))
    return render(request, "history.html.j2", filters=filters, page=page, before=before, stations=stations)


@router.get("/inspections/{number}")
def detail(
    request: Request,
    station: StationDependency,
    number: Id,
    filters: HistoryFiltersParam,
    reviewed: Annotated[Cursor, Query()] = None,
) -> HTMLResponse:
    """Between its neighbours in what was chosen; `reviewed` is the id of the inspection that was reviewed just now."""
    shown = load_detail(station, number)
    with station.database.reading() as session:
        newer, older = history.neighbours(session, filters.filter(), number)
        last_reviewed = history.find(session, reviewed) if reviewed else None
    links = {
        "newer": None if newer is None else filters.link(f"/inspections/{newer}"),
        "older": None if older is None else filters.link(f"/inspections/{older}"),
        "back": filters.link("/history", queue=""),
    }
    if filters.queue == "sample":
        links |= {"newer": None, "older": filters.link("/review/next")}
    return render(request, "inspection.html.j2", detail=shown, filters=filters, links=links, reviewed=last_reviewed)


@router.post("/inspections/{number}/review")
def review(
    station: StationDependency,
    number: Id,
    filters: HistoryFiltersParam,
    verdict: Annotated[Literal["good", "defective"], Form()],
    operator: Annotated[str, Form(max_length=100)] = "",
    note: Annotated[str, Form(max_length=2000)] = "",
) -> RedirectResponse:
    """Write it down, and lead on to the next one of the queue."""
    write_review(station, number, verdict, operator, note)
    return RedirectResponse(_next(station, number, filters), 303)


def _next(station: Station, number: int, filters: HistoryFilters) -> str:
    if filters.queue == "sample":
        return filters.link("/review/next", reviewed=number)
    if filters.queue == "newest":
        with station.database.reading() as session:
            _, older = history.neighbours(session, filters.filter(), number)
        if older is None:
            return address("/review", model=filters.model, reviewed=number)
        return filters.link(f"/inspections/{older}", reviewed=number)
    return filters.link(f"/inspections/{number}", reviewed=number)
