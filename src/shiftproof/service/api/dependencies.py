"""What handlers are given: the station, and what a client said in a form that may be kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from shiftproof.service.errors import RequestError
from shiftproof.service.station import Station

LARGEST_ID = 2**63 - 1  # that the databases count to


async def _station(request: Request) -> Station:  # async: a plain function would be sent to a thread, for every request
    station: Station = request.app.state.station
    return station


StationDependency = Annotated[Station, Depends(_station)]


def printable_text(text: str | None) -> str | None:
    r"""Text that a database keeps and a page shows: without control characters; None where nothing is left.

    >>> printable_text("line\x00 2"), printable_text("\r\n") is None
    ('line 2', True)
    """
    kept = "".join(character for character in text or "" if character.isprintable())
    return kept.encode("utf-8", "replace").decode() or None


def to_utc(time: datetime | None) -> datetime | None:
    """A time; one without a zone is taken as UTC.

    >>> to_utc(datetime(2026, 1, 2)).isoformat()
    '2026-01-02T00:00:00+00:00'
    """
    if time is None:
        return None
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:  # the year 1 or 9999, in a zone that leads beyond
        raise RequestError(422, f"time {time}; expected one between the years 1 and 9999 in UTC") from error
