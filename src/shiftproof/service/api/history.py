"""What has been inspected, and what operators say of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from shiftproof.service.api.dependencies import LARGEST_ID, StationDependency, printable_text, to_utc
from shiftproof.service.api.openapi import FAILURES, INSPECTION, PAGE, PICTURE
from shiftproof.service.errors import RequestError
from shiftproof.service.images import draw_image, media_type
from shiftproof.service.station import Station
from shiftproof.service.store import Filter, InspectionRecord, Review, history, inspection_json, reviews

router = APIRouter(prefix="/v1", tags=["inspections"])
Verdict = Literal["good", "defective"]
Id = Annotated[int, Path(ge=1, le=LARGEST_ID, description="Of the inspection.")]
Cursor = Annotated[int | None, Query(ge=0, le=LARGEST_ID)]
Longest = Annotated[int | None, Query(ge=16, le=8192, description="Limit for the longer side, in pixels.")]
# A picture that a client sent is shown as nothing but a picture, whatever its bytes say, and by no other site.
_PICTURE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, max-age=86400, immutable",
}


class ReviewRequest(BaseModel):
    """A review: what the part truly is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"verdict": "good", "operator": "Ida"}]})
    verdict: Verdict = Field(description="What the part truly is.")
    operator: str | None = Field(default=None, max_length=100, description="Who says so.")
    note: str | None = Field(default=None, max_length=2000, description="In their words.")


@router.get("/inspections", responses={200: PAGE, **FAILURES}, summary="The history, the newest first")
def search(
    station: StationDependency,
    model: Annotated[str | None, Query(max_length=255, description="Name of the model.")] = None,
    verdict: Verdict | None = None,
    source: Annotated[str | None, Query(alias="station", max_length=100)] = None,
    since: datetime | None = None,
    until: datetime | None = None,
    reviewed: bool | None = None,
    review: Annotated[Verdict | None, Query(description="What the latest review says.")] = None,
    before: Cursor = None,
    after: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """Times without a zone are UTC. `before` is the cursor: `next` of the page before. `after` asks for what is new."""
    wanted = Filter(
        model=printable_text(model),
        verdict=verdict,
        station=printable_text(source),
        since=to_utc(since),
        until=to_utc(until),
        reviewed=reviewed,
        truth=review,
        before=before,
        after=after,
    )
    with station.database.reading() as session:
        page = history.search(session, wanted, limit)
    return {"items": [inspection_json(one) for one in page.items], "next": page.next}


@router.get("/inspections/{number}", responses={200: INSPECTION, **FAILURES}, summary="One inspection")
def one(station: StationDependency, number: Id) -> dict[str, Any]:
    """With all its reviews, the first one first, and whether its image is still kept."""
    inspection = _find(station, number)
    with station.database.reading() as session:
        said = history.reviews(session, number)
    return {
        **inspection_json(inspection),
        "reviews": [review.to_json() for review in said],
        "image_kept": station.files.read(inspection.image) is not None,
    }


@router.get(
    "/inspections/{number}/image", response_class=Response, responses={200: PICTURE, **FAILURES}, summary="Its image"
)
def image(station: StationDependency, number: Id, longest: Longest = None) -> Response:
    """The file as it was sent; with `longest`, a PNG of limited size."""
    inspection = _find(station, number)
    data, kind = station.image(inspection), "image/png"
    if longest is None:
        kind = media_type(data)
    else:
        data = draw_image(data, longest=longest, max_pixels=inspection.width * inspection.height)
    return Response(data, media_type=kind, headers=_PICTURE_HEADERS)


@router.get(
    "/inspections/{number}/heatmap",
    response_class=Response,
    responses={200: PICTURE, **FAILURES},
    summary="Its heatmap",
)
async def heatmap(station: StationDependency, number: Id, longest: Longest = None) -> Response:
    """A PNG of the image's size, or of limited size with `longest`."""
    inspection = await asyncio.to_thread(_find, station, number)
    return Response(await station.heatmap(inspection, longest), media_type="image/png", headers=_PICTURE_HEADERS)


@router.post("/inspections/{number}/review", responses={**FAILURES}, summary="Confirm or overrule its verdict")
def review(station: StationDependency, number: Id, said: ReviewRequest) -> dict[str, Any]:
    """The latest review holds; earlier ones stay on record."""
    inspection, written = write_review(station, number, said.verdict, said.operator, said.note)
    return {"inspection": inspection_json(inspection), "review": written.to_json()}


def write_review(
    station: Station, number: int, verdict: Verdict, operator: str | None, note: str | None
) -> tuple[InspectionRecord, Review]:
    """Write down what a part truly is.

    Raises:
        RequestError: 404, there is no such inspection.
    """
    with station.database.writing() as session:
        found = reviews.review(
            session, number, verdict, datetime.now(UTC), operator=printable_text(operator), note=printable_text(note)
        )
    if found is None:
        raise _missing(number)
    station.telemetry.reviews.labels(found[0].model, verdict).inc()
    return found


def _find(station: Station, number: int) -> InspectionRecord:
    with station.database.reading() as session:
        found = history.find(session, number)
    if found is None:
        raise _missing(number)
    return found


def _missing(number: int) -> RequestError:
    return RequestError(404, f"no inspection {number}")
