"""Which models there are, what their thresholds are worth, and what reviews have measured of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from shiftproof.report.page import model_card
from shiftproof.service.api.describe import FAILURES
from shiftproof.service.api.given import StationOf, in_utc
from shiftproof.service.line import Line
from shiftproof.service.store import calibrating, reviewing

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models", summary="The models that are served")
def models(station: StationOf) -> dict[str, Any]:
    """By name."""
    return {"models": [_brief(line) for line in station.lines.values()]}


@router.get("/models/{name}", responses={**FAILURES}, summary="A model's card")
def model(station: StationOf, name: str) -> dict[str, Any]:
    """What it is, the threshold in use with its bound, and all that it has had."""
    line = station.line(name)
    with station.database.reading() as session:
        calibrations = calibrating.listed(session, name)
    return {
        **_brief(line),
        "card": dict(model_card(line.version.detector.manifest)),
        "calibrations": [one.to_json() for one in calibrations],
        "problem": station.reloaders[name].problem,
    }


@router.get("/models/{name}/rates", responses={**FAILURES}, summary="False alarms and escapes, from reviews")
def rates(
    station: StationOf,
    name: str,
    version: Annotated[str | None, Query(max_length=64)] = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, Any]:
    """Shares among reviewed parts, each with its 95 % interval after Clopper and Pearson."""
    station.line(name)
    with station.database.reading() as session:
        found = reviewing.rates(session, name, version=version, since=in_utc(since), until=in_utc(until))
    return {"model": name, **found.to_json()}


def _brief(line: Line) -> dict[str, Any]:
    version = line.version
    manifest = version.detector.manifest
    height, width = version.detector.image_size
    return {
        "name": version.name,
        "version": version.version,
        "method": manifest.get("method"),
        "backbone": manifest.get("config", {}).get("backbone"),
        "image_size": {"height": height, "width": width},
        "backend": version.detector.backend,
        "calibration": version.calibrated.to_json(),
        "waiting": line.waiting,
    }
