"""A model's card, and its threshold: placed anew, or an earlier one used again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from shiftproof.calibration import images_needed
from shiftproof.report.page import model_card
from shiftproof.service import recalibration
from shiftproof.service.api.dependencies import LARGEST_ID, StationDependency
from shiftproof.service.api.history import Cursor
from shiftproof.service.errors import RequestError
from shiftproof.service.page.rendering import address, render
from shiftproof.service.page.score_chart import score_curve
from shiftproof.service.station import Station
from shiftproof.service.store import calibrations

router = APIRouter()


@router.get("/models")
def listed(request: Request, station: StationDependency) -> HTMLResponse:
    """The models that are served."""
    return render(request, "models.html.j2", queues=list(station.queues.values()))


@router.get("/models/{name}")
def card(
    request: Request, station: StationDependency, name: str, former: Annotated[Cursor, Query()] = None
) -> HTMLResponse:
    """What it is, its threshold, and all that it has had; `former` is the one that was in use until just now."""
    return _card(request, station, name, former=former)


@router.post("/models/{name}/recalibrate")
async def recalibrate(
    request: Request,
    station: StationDependency,
    name: str,
    target: Annotated[float | None, Form(ge=0.01, le=50)] = None,
    accept_missed_defects: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """A new threshold from reviewed good images; `target` in per cent."""
    found = await recalibration.recalibrate(
        station, name, target=None if target is None else target / 100, accept_missed=accept_missed_defects
    )
    return RedirectResponse(address(f"/models/{name}", former=found.former.id), 303)


@router.post("/models/{name}/calibrations/{number}")
def go_back(station: StationDependency, name: str, number: int) -> RedirectResponse:
    """Use an earlier threshold again."""
    if not 0 < number <= LARGEST_ID:
        raise RequestError(404, f"{name} has no calibration {number}")
    found = recalibration.go_back(station, name, number)
    return RedirectResponse(address(f"/models/{name}", former=found.former.id), 303)


def _card(request: Request, station: Station, name: str, *, former: int | None) -> HTMLResponse:
    queue = station.queue(name)
    version = queue.version
    with station.database.reading() as session:
        past_calibrations = calibrations.listed(session, name)
        reviewed = calibrations.reviewed_good(session, name)
    target, confidence = version.calibration.target, version.calibration.confidence
    return render(
        request,
        "model.html.j2",
        queue=queue,
        version=version,
        manifest=version.detector.manifest,
        card=[(term, value) for term, value in model_card(version.detector.manifest)],
        curve=score_curve(version.calibration),
        calibrations=past_calibrations[::-1],
        former=next((one for one in past_calibrations if one.id == former), None),
        reviewed=len(reviewed),
        needed=images_needed(target, confidence),
        problem=station.problems.get(name),
    )
