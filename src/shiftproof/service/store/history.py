"""What has been inspected: adding to it and looking it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from shiftproof.service.store.records import Inspection, Review
from shiftproof.service.store.tables import InspectionRow, ReviewRow


@dataclass(frozen=True)
class Filter:
    """Which inspections are wanted; None wants all."""

    model: str | None = None  # name
    verdict: str | None = None  # "good" or "defective"
    station: str | None = None
    since: datetime | None = None  # at that time or later, with a zone
    until: datetime | None = None  # before that time
    reviewed: bool | None = None
    truth: str | None = None  # of the latest review: "good" or "defective"
    before: int | None = None  # ids below this one: the cursor to older ones
    after: int | None = None  # ids above this one: what is new


@dataclass(frozen=True)
class Page:
    """Some of the history, the newest first."""

    items: list[Inspection]
    next: int | None  # `before` of the next page; None at the end


def add(session: Session, seen: Sequence[Inspection]) -> list[Inspection]:
    """Write inspections, and say which ids they got, in their order."""
    if not seen:
        return []
    statement = insert(InspectionRow).returning(InspectionRow.id, sort_by_parameter_order=True)
    ids = session.scalars(statement, [one.columns() for one in seen])
    return [replace(one, id=number) for one, number in zip(seen, ids, strict=True)]


def search(session: Session, wanted: Filter, limit: int) -> Page:
    """The newest inspections that pass the filter, at most ``limit`` of them."""
    row = InspectionRow
    statement = select(row).order_by(row.id.desc()).limit(limit + 1)
    for column, value in (
        (row.model, wanted.model),
        (row.verdict, wanted.verdict),
        (row.station, wanted.station),
        (row.truth, wanted.truth),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.since is not None:
        statement = statement.where(row.time >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(row.time < wanted.until)
    if wanted.reviewed is not None:
        statement = statement.where(row.truth.is_not(None) if wanted.reviewed else row.truth.is_(None))
    if wanted.before is not None:
        statement = statement.where(row.id < wanted.before)
    if wanted.after is not None:
        statement = statement.where(row.id > wanted.after)
    found = [Inspection.of(one) for one in session.scalars(statement)]
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


def find(session: Session, number: int) -> Inspection | None:
    """The inspection of that id."""
    row = session.get(InspectionRow, number)
    return None if row is None else Inspection.of(row)


def of_key(session: Session, key: str) -> dict[int, Inspection]:
    """What a request of that Idempotency-Key has led to so far, by position of the file in it."""
    rows = session.scalars(select(InspectionRow).where(InspectionRow.key == key))
    return {row.position: Inspection.of(row) for row in rows}


def reviews(session: Session, number: int) -> list[Review]:
    """All reviews of an inspection, the first one first."""
    rows = session.scalars(select(ReviewRow).where(ReviewRow.inspection == number).order_by(ReviewRow.id))
    return [Review.of(row) for row in rows]
