"""A model's card, and its threshold: placed anew, or an earlier one used again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from shiftproof.calibration import images_needed
from shiftproof.report.page import model_card
from shiftproof.service import recalibrate as recalibrating
from shiftproof.service.api.given import LARGEST_ID, StationOf
from shiftproof.service.api.history import Cursor
from shiftproof.service.page.curve import score_curve
from shiftproof.service.page.looks import address, render
from shiftproof.service.refusal import Refusal
from shiftproof.service.station import Station
from shiftproof.service.store import calibrating

router = APIRouter()


@router.get("/models")
def listed(request: Request, station: StationOf) -> HTMLResponse:
    """The models that are served."""
    return render(request, "models.html.j2", lines=list(station.lines.values()))


@router.get("/models/{name}")
def card(request: Request, station: StationOf, name: str, former: Annotated[Cursor, Query()] = None) -> HTMLResponse:
    """What it is, its threshold, and all that it has had; `former` is the one that was in use until just now."""
    return _card(request, station, name, former=former)


@router.post("/models/{name}/recalibrate")
async def recalibrate(
    request: Request, station: StationOf, name: str, target: Annotated[float | None, Form(ge=0.01, le=50)] = None
) -> RedirectResponse:
    """A new threshold from reviewed good images; `target` in per cent."""
    found = await recalibrating.recalibrate(station, name, target=None if target is None else target / 100)
    return RedirectResponse(address(f"/models/{name}", former=found.former.id), 303)


@router.post("/models/{name}/calibrations/{number}")
def go_back(station: StationOf, name: str, number: int) -> RedirectResponse:
    """Use an earlier threshold again."""
    if not 0 < number <= LARGEST_ID:
        raise Refusal(404, f"{name} has no calibration {number}")
    found = recalibrating.go_back(station, name, number)
    return RedirectResponse(address(f"/models/{name}", former=found.former.id), 303)


def _card(request: Request, station: Station, name: str, *, former: int | None) -> HTMLResponse:
    line = station.line(name)
    version = line.version
    with station.database.reading() as session:
        calibrations = calibrating.listed(session, name)
        reviewed = calibrating.reviewed_good(session, name)
    target, confidence = version.calibration.target, version.calibration.confidence
    return render(
        request,
        "model.html.j2",
        line=line,
        version=version,
        manifest=version.detector.manifest,
        card=[(term, value) for term, value in model_card(version.detector.manifest)],
        curve=score_curve(version.calibration),
        calibrations=calibrations[::-1],
        former=next((one for one in calibrations if one.id == former), None),
        reviewed=len(reviewed),
        needed=images_needed(target, confidence),
        problem=station.problems.get(name),
    )
