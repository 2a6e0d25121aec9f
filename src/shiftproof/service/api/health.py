"""For those who run the station: is it alive, can it work, how is it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shiftproof.service.api.dependencies import StationDependency

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the program answers")
async def healthy() -> dict[str, str]:
    """It does."""
    return {"status": "ok"}


@router.get(
    "/readyz", summary="Whether images can be inspected and written down", responses={503: {"description": "Not."}}
)
def ready(station: StationDependency, request: Request) -> JSONResponse:
    """Models and problems are told to those who show the token."""
    try:
        with station.database.reading() as session:
            session.execute(text("SELECT 1"))
        reached = bool(station.queues)
    except DBAPIError:
        reached = False
    said: dict[str, Any] = {"status": "ready" if reached else "not ready"}
    if request.scope.get("shiftproof_known"):
        said["database"] = reached
        said["models"] = {name: queue.version.version for name, queue in station.queues.items()}
        said["problems"] = station.problems
    return JSONResponse(said, 200 if reached else 503)


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
def metrics(station: StationDependency) -> Response:
    """In its text format."""
    return Response(station.telemetry.text(), media_type=CONTENT_TYPE_LATEST)
