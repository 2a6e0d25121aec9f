"""What has been inspected, and what operators say of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from shiftproof.service.api.describe import FAILURES, INSPECTION, PAGE, PICTURE
from shiftproof.service.api.given import LARGEST_ID, StationOf, in_utc, plain
from shiftproof.service.pictures import draw_image, media_type
from shiftproof.service.refusal import Refusal
from shiftproof.service.station import Station
from shiftproof.service.store import Filter, Inspection, Review, history, inspection_json, reviewing

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


class Said(BaseModel):
    """A review: what the part truly is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"verdict": "good", "operator": "Ida"}]})
    verdict: Verdict = Field(description="What the part truly is.")
    operator: str | None = Field(default=None, max_length=100, description="Who says so.")
    note: str | None = Field(default=None, max_length=2000, description="In their words.")


@router.get("/inspections", responses={200: PAGE, **FAILURES}, summary="The history, the newest first")
def search(
    station: StationOf,
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
        model=plain(model),
        verdict=verdict,
        station=plain(source),
        since=in_utc(since),
        until=in_utc(until),
        reviewed=reviewed,
        truth=review,
        before=before,
        after=after,
    )
    with station.database.reading() as session:
        page = history.search(session, wanted, limit)
    return {"items": [inspection_json(one) for one in page.items], "next": page.next}


@router.get("/inspections/{number}", responses={200: INSPECTION, **FAILURES}, summary="One inspection")
def one(station: StationOf, number: Id) -> dict[str, Any]:
    """With all its reviews, the first one first, and whether its image is still kept."""
    seen = _find(station, number)
    with station.database.reading() as session:
        said = history.reviews(session, number)
    return {
        **inspection_json(seen),
        "reviews": [review.to_json() for review in said],
        "image_kept": station.files.read(seen.image) is not None,
    }


@router.get(
    "/inspections/{number}/image", response_class=Response, responses={200: PICTURE, **FAILURES}, summary="Its image"
)
def image(station: StationOf, number: Id, longest: Longest = None) -> Response:
    """The file as it was sent; with `longest`, a PNG of limited size."""
    seen = _find(station, number)
    data, kind = station.image(seen), "image/png"
    if longest is None:
        kind = media_type(data)
    else:
        data = draw_image(data, longest=longest, max_pixels=seen.width * seen.height)
    return Response(data, media_type=kind, headers=_PICTURE_HEADERS)


@router.get(
    "/inspections/{number}/heatmap",
    response_class=Response,
    responses={200: PICTURE, **FAILURES},
    summary="Its heatmap",
)
async def heatmap(station: StationOf, number: Id, longest: Longest = None) -> Response:
    """A PNG of the image's size, or of limited size with `longest`."""
    seen = await asyncio.to_thread(_find, station, number)
    return Response(await station.heatmap(seen, longest), media_type="image/png", headers=_PICTURE_HEADERS)


@router.post("/inspections/{number}/review", responses={**FAILURES}, summary="Confirm or overrule its verdict")
def review(station: StationOf, number: Id, said: Said) -> dict[str, Any]:
    """The latest review holds; earlier ones stay on record."""
    seen, written = write_review(station, number, said.verdict, said.operator, said.note)
    return {"inspection": inspection_json(seen), "review": written.to_json()}


def write_review(
    station: Station, number: int, verdict: Verdict, operator: str | None, note: str | None
) -> tuple[Inspection, Review]:
    """Write down what a part truly is.

    Raises:
        Refusal: 404, there is no such inspection.
    """
    with station.database.writing() as session:
        found = reviewing.review(
            session, number, verdict, datetime.now(UTC), operator=plain(operator), note=plain(note)
        )
    if found is None:
        raise _missing(number)
    station.telemetry.reviews.labels(found[0].model, verdict).inc()
    return found


def _find(station: Station, number: int) -> Inspection:
    with station.database.reading() as session:
        found = history.find(session, number)
    if found is None:
        raise _missing(number)
    return found


def _missing(number: int) -> Refusal:
    return Refusal(404, f"no inspection {number}")
