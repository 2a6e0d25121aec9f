"""Which models there are, what their thresholds are worth, and what reviews have measured of them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from shiftproof.report.page import model_card
from shiftproof.service import recalibration
from shiftproof.service.api.dependencies import LARGEST_ID, StationDependency, to_utc
from shiftproof.service.api.openapi import FAILURES
from shiftproof.service.batch_queue import BatchQueue
from shiftproof.service.errors import RequestError
from shiftproof.service.store import calibrations, reviews

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models", summary="The models that are served")
def models(station: StationDependency) -> dict[str, Any]:
    """By name."""
    return {"models": [_brief(queue) for queue in station.queues.values()]}


@router.get("/models/{name}", responses={**FAILURES}, summary="A model's card")
def model(station: StationDependency, name: str) -> dict[str, Any]:
    """What it is, the threshold in use with its bound, and all that it has had."""
    queue = station.queue(name)
    with station.database.reading() as session:
        past_calibrations = calibrations.listed(session, name)
    return {
        **_brief(queue),
        "card": dict(model_card(queue.version.detector.manifest)),
        "calibrations": [one.to_json() for one in past_calibrations],
        "problem": station.reloaders[name].problem,
    }


@router.get(
    "/models/{name}/rates", responses={**FAILURES}, summary="Rates of false alarms and missed defects, from reviews"
)
def rates(
    station: StationDependency,
    name: str,
    version: Annotated[str | None, Query(max_length=64)] = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, Any]:
    """Shares among reviewed parts, each with its 95 % interval after Clopper and Pearson.

    The version in use is judged by the threshold in use, from stored scores; other versions by the verdicts they gave.
    """
    current = station.queue(name).version
    with station.database.reading() as session:
        found = reviews.rates(
            session,
            name,
            version=version,
            since=to_utc(since),
            until=to_utc(until),
            current=(current.version, current.calibration.threshold),
        )
    return {"model": name, **found.to_json()}


@router.get("/models/{name}/drift", responses={**FAILURES}, summary="Whether its images still look like the good ones")
def drift(station: StationDependency, name: str) -> dict[str, Any]:
    """After the latest inspection that was followed; null where the model has no reference, or nothing was inspected.

    `episodes` are drifts, by the numbers of images from 1 to `state.images`.
    """
    station.queue(name)
    snapshot = station.drift_trackers[name].snapshot
    return {
        "model": name,
        "state": None if snapshot is None else snapshot.state.to_json(),
        "episodes": [] if snapshot is None else [asdict(one) for one in snapshot.episodes],
    }


class RecalibrationRequest(BaseModel):
    """A new threshold."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"target": 0.01}]})
    target: float | None = Field(
        default=None, ge=1e-4, le=0.5, description="False-alarm rate; by default the one in use."
    )
    since: datetime | None = Field(default=None, description="Only images inspected at that time or later.")
    accept_missed_defects: bool = Field(
        default=False, description="Use it although parts that were reviewed as defective would pass."
    )
    calibration: int | None = Field(
        default=None, ge=1, le=LARGEST_ID, description="Go back to this one, instead of a new one."
    )


@router.post("/models/{name}/recalibrate", responses={**FAILURES}, summary="A new threshold from reviewed good images")
async def recalibrate(
    station: StationDependency, name: str, wanted: RecalibrationRequest | None = None
) -> dict[str, Any]:
    """Used from now on; the former one is kept, and `calibration` leads back to it."""
    wanted = wanted or RecalibrationRequest()
    if wanted.calibration is not None:
        if wanted.target is not None or wanted.since is not None:
            raise RequestError(
                422, "calibration goes back to an earlier threshold, target and since make a new one: give either"
            )
        found = await asyncio.to_thread(recalibration.go_back, station, name, wanted.calibration)
    else:
        found = await recalibration.recalibrate(
            station,
            name,
            target=wanted.target,
            since=to_utc(wanted.since),
            accept_missed=wanted.accept_missed_defects,
        )
    return {
        "model": name,
        "calibration": found.calibration.to_json(),
        "former": found.former.to_json(),
        "remark": found.remark,
    }


def _brief(queue: BatchQueue) -> dict[str, Any]:
    version = queue.version
    manifest = version.detector.manifest
    height, width = version.detector.image_size
    return {
        "name": version.name,
        "version": version.version,
        "method": manifest.get("method"),
        "backbone": manifest.get("config", {}).get("backbone"),
        "image_size": {"height": height, "width": width},
        "backend": version.detector.backend.name,
        "calibration": version.calibrated.to_json(),
        "waiting": queue.waiting,
    }
