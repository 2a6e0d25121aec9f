"""What has been inspected: adding to it and looking it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from sqlalchemy import ColumnElement, func, insert, select
from sqlalchemy.orm import Session

from shiftproof.service.store.records import InspectionRecord, Review
from shiftproof.service.store.tables import InspectionRow, ReviewRow

_DRAWN = 256  # ids in one query


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

    items: list[InspectionRecord]
    next: int | None  # `before` of the next page; None at the end


def add(session: Session, inspections: Sequence[InspectionRecord]) -> list[InspectionRecord]:
    """Write inspections, and say which ids they got, in their order."""
    if not inspections:
        return []
    statement = insert(InspectionRow).returning(InspectionRow.id, sort_by_parameter_order=True)
    ids = session.scalars(statement, [item.columns() for item in inspections])
    return [replace(item, id=number) for item, number in zip(inspections, ids, strict=True)]


def search(session: Session, wanted: Filter, limit: int) -> Page:
    """The newest inspections that pass the filter, at most ``limit`` of them."""
    row = InspectionRow
    statement = select(row).where(*_conditions(wanted)).order_by(row.id.desc()).limit(limit + 1)
    found = [InspectionRecord.of(one) for one in session.scalars(statement)]
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)


def neighbours(session: Session, wanted: Filter, number: int) -> tuple[int | None, int | None]:
    """The ids next to that of an inspection, of those that pass the filter: the next newer one, and the next older one."""
    ids = select(InspectionRow.id).where(*_conditions(wanted)).limit(1)
    newer = session.scalar(ids.where(InspectionRow.id > number).order_by(InspectionRow.id))
    older = session.scalar(ids.where(InspectionRow.id < number).order_by(InspectionRow.id.desc()))
    return newer, older


def sample(session: Session, wanted: Filter, random: np.random.Generator) -> int | None:
    """The id of one inspection that passes the filter, any of them as likely as another; None where none does.

    Ids are drawn until one passes, which takes one query while many do; where few are left, all of them are looked at.
    """
    ids = select(InspectionRow.id).where(*_conditions(wanted))
    low, high = session.execute(select(func.min(InspectionRow.id), func.max(InspectionRow.id))).one()
    if low is None:
        return None
    drawn = random.integers(low, high, _DRAWN, endpoint=True).tolist()
    passing = set(session.scalars(ids.where(InspectionRow.id.in_(drawn))))
    first = next((number for number in drawn if number in passing), None)
    if first is not None:
        return first
    left = session.scalars(ids).all()
    return left[int(random.integers(len(left)))] if left else None


def find(session: Session, number: int) -> InspectionRecord | None:
    """The inspection of that id."""
    row = session.get(InspectionRow, number)
    return None if row is None else InspectionRecord.of(row)


def of_key(session: Session, key: str) -> dict[int, InspectionRecord]:
    """What a request of that Idempotency-Key has led to so far, by position of the file in it."""
    rows = session.scalars(select(InspectionRow).where(InspectionRow.key == key))
    return {row.position: InspectionRecord.of(row) for row in rows}


def reviews(session: Session, number: int) -> list[Review]:
    """All reviews of an inspection, the first one first."""
    rows = session.scalars(select(ReviewRow).where(ReviewRow.inspection == number).order_by(ReviewRow.id))
    return [Review.of(row) for row in rows]


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    row = InspectionRow
    conditions = [
        column == value
        for column, value in (
            (row.model, wanted.model),
            (row.verdict, wanted.verdict),
            (row.station, wanted.station),
            (row.truth, wanted.truth),
        )
        if value is not None
    ]
    if wanted.since is not None:
        conditions.append(row.time >= wanted.since)
    if wanted.until is not None:
        conditions.append(row.time < wanted.until)
    if wanted.reviewed is not None:
        conditions.append(row.truth.is_not(None) if wanted.reviewed else row.truth.is_(None))
    if wanted.before is not None:
        conditions.append(row.id < wanted.before)
    if wanted.after is not None:
        conditions.append(row.id > wanted.after)
    return conditions
