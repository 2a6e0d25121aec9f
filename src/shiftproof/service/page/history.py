"""The history, and an inspection of it with its review."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from shiftproof.service.api.dependencies import StationDependency
from shiftproof.service.api.history import Cursor, Id, write_review
from shiftproof.service.page.filters import HistoryFilters, HistoryFiltersParam
from shiftproof.service.page.detail import exhibit
from shiftproof.service.page.rendering import address, render
from shiftproof.service.station import Station
from shiftproof.service.store import history

router = APIRouter()
_ROWS = 48


@router.get("/history")
def listed(
    request: Request, station: StationDependency, chosen: HistoryFiltersParam, before: Annotated[Cursor, Query()] = None
) -> HTMLResponse:
    """The newest first; `before` leads to older ones."""
    chosen = chosen.but(queue="")
    with station.database.reading() as session:
        page = history.search(session, chosen.filter(before=before), _ROWS)
    stations = sorted({one.station for one in page.items if one.station} | ({chosen.station} - {""}))
    return render(request, "history.html.j2", chosen=chosen, page=page, before=before, stations=stations)


@router.get("/inspections/{number}")
def one(
    request: Request, station: StationDependency, number: Id, chosen: HistoryFiltersParam, said: Annotated[Cursor, Query()] = None
) -> HTMLResponse:
    """Between its neighbours in what was chosen; `said` is the inspection that was reviewed just now."""
    shown = exhibit(station, number)
    with station.database.reading() as session:
        newer, older = history.neighbours(session, chosen.filter(), number)
        reviewed = history.find(session, said) if said else None
    ways = {
        "newer": None if newer is None else chosen.link(f"/inspections/{newer}"),
        "older": None if older is None else chosen.link(f"/inspections/{older}"),
        "back": chosen.link("/history", queue=""),
    }
    if chosen.queue == "sample":
        ways |= {"newer": None, "older": chosen.link("/review/next")}
    return render(request, "inspection.html.j2", exhibit=shown, chosen=chosen, ways=ways, reviewed=reviewed)


@router.post("/inspections/{number}/review")
def review(
    station: StationDependency,
    number: Id,
    chosen: HistoryFiltersParam,
    verdict: Annotated[Literal["good", "defective"], Form()],
    operator: Annotated[str, Form(max_length=100)] = "",
    note: Annotated[str, Form(max_length=2000)] = "",
) -> RedirectResponse:
    """Write it down, and lead on to the next one of the queue."""
    write_review(station, number, verdict, operator, note)
    return RedirectResponse(_next(station, number, chosen), 303)


def _next(station: Station, number: int, chosen: HistoryFilters) -> str:
    if chosen.queue == "sample":
        return chosen.link("/review/next", said=number)
    if chosen.queue == "newest":
        with station.database.reading() as session:
            _, older = history.neighbours(session, chosen.filter(), number)
        if older is None:
            return address("/review", model=chosen.model, said=number)
        return chosen.link(f"/inspections/{older}", said=number)
    return chosen.link(f"/inspections/{number}", said=number)
