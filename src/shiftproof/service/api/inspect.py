"""``POST /v1/models/{name}/inspect``."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse

from shiftproof.service.api.dependencies import StationDependency, printable_text
from shiftproof.service.api.openapi import FAILURES, INSPECT_BODY, INSPECTED
from shiftproof.service.errors import RequestError
from shiftproof.service.station import Station, Unreadable
from shiftproof.service.store import InspectionRecord, inspection_json
from shiftproof.service.uploads import read_uploads

router = APIRouter(prefix="/v1", tags=["inspections"])
_LONGEST_HEATMAP = 1024  # pixels of a heatmap's longer side in an answer; /v1/inspections/{id}/heatmap has all of them


@router.post(
    "/models/{name}/inspect",
    responses={200: INSPECTED, **FAILURES},
    openapi_extra={"requestBody": INSPECT_BODY},
    summary="Inspect one or many images",
)
async def inspect(
    request: Request,
    station: StationDependency,
    name: Annotated[str, Path(description="Of the model: its folder's name.")],
    heatmap: Annotated[bool, Query(description="Add a heatmap to each result, a PNG in base64.")] = False,
    source: Annotated[
        str | None, Query(alias="station", max_length=100, description="Where the image was taken, for the history.")
    ] = None,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=200,
            description="Of your choice, new for each request: a repeated request gets the same answer and no new rows.",
        ),
    ] = None,
) -> JSONResponse:
    """The answer comes once every inspection in it is committed. In an answer to several files, one that cannot be read is an
    entry with `error`; alone it is a 413, 415 or 422. A full queue is a 429 with Retry-After: nothing was inspected.
    """
    found = await receive(request, station, name, source=source, key=key)
    if len(found) == 1 and isinstance(found[0], Unreadable):
        raise RequestError(found[0].status, found[0].error)
    results: list[dict[str, Any]] = []
    for one in found:
        result = one.to_json() if isinstance(one, Unreadable) else inspection_json(one)
        if heatmap and not isinstance(one, Unreadable):
            result["heatmap"] = base64.b64encode(await station.heatmap(one, _LONGEST_HEATMAP)).decode("ascii")
        results.append(result)
    return JSONResponse({"model": name, "results": results})


async def receive(
    request: Request, station: Station, name: str, *, source: str | None, key: str | None
) -> list[InspectionRecord | Unreadable]:
    """Read the files of a request and inspect them.

    Raises:
        RequestError: as of :func:`read_uploads` and :meth:`Station.inspect`.
    """
    queue = station.queue(name)
    if queue.waiting >= queue.capacity:
        with queue.reserve(1):  # says 429 before the body is read
            pass
    uploads = await read_uploads(request, station.settings.limits, station.budget)
    try:
        return await station.inspect(name, uploads, station=printable_text(source), key=printable_text(key))
    finally:
        station.budget.left += sum(len(upload.data) for upload in uploads)
