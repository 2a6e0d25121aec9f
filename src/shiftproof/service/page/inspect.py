"""The start page: images in, verdicts out, and what every station inspected last."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import HTMLResponse, Response

from shiftproof.service.api.dependencies import StationDependency
from shiftproof.service.api.history import Cursor, Id
from shiftproof.service.api.inspect import receive
from shiftproof.service.page.detail import load_detail
from shiftproof.service.page.rendering import palette_css, render
from shiftproof.service.station import Station
from shiftproof.service.store import Filter, InspectionRecord, history

router = APIRouter()
HERE = "browser"
"""What the station is called in the history for images that came through its page."""
_LATEST = 12
_AT_ONCE = 60


@router.get("/")
def start(request: Request, station: StationDependency, model: str = "") -> HTMLResponse:
    """With the model that was chosen, or the first one."""
    name = model if model in station.queues else next(iter(station.queues))
    return render(request, "inspect.html.j2", model=name, found=[], first=None, latest=_latest(station))


@router.post("/models/{name}/inspect")
async def inspect(
    request: Request,
    station: StationDependency,
    name: str,
    fragment: bool = False,
    key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)] = None,
) -> HTMLResponse:
    """The form of the start page; a script asks for the results alone."""
    found = await receive(request, station, name, source=HERE, key=key)
    if fragment:
        return render(request, "results.html.j2", found=found)
    inspection = next((one for one in found if isinstance(one, InspectionRecord)), None)
    first = None if inspection is None else load_detail(station, inspection.id)
    return render(request, "inspect.html.j2", model=name, found=found, first=first, latest=_latest(station))


@router.get("/live")
def live(request: Request, station: StationDependency, after: Annotated[Cursor, Query()] = None) -> HTMLResponse:
    """What is new in the list of the latest inspections."""
    with station.database.reading() as session:
        items = history.search(session, Filter(after=after), _AT_ONCE).items
    return render(request, "live.html.j2", latest=items)


@router.get("/inspections/{number}/detail")
def shown(request: Request, station: StationDependency, number: Id) -> HTMLResponse:
    """An inspection as a part of the start page."""
    return render(request, "detail.html.j2", detail=load_detail(station, number))


@router.get("/static/palette.css")
def palette() -> Response:
    """The colors that reports and pages share."""
    return palette_css()


def _latest(station: Station) -> list[InspectionRecord]:
    with station.database.reading() as session:
        return history.search(session, Filter(), _LATEST).items
