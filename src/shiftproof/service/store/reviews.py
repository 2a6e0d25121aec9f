"""Reviews, and the rates of error that they let one measure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from shiftproof.calibration import false_alarm_bound
from shiftproof.service.store.records import VERDICTS, InspectionRecord, Review
from shiftproof.service.store.tables import InspectionRow, ReviewRow

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """A share with its interval after Clopper and Pearson (1934)."""

    count: int
    of: int
    rate: float | None  # count / of; None where there is nothing to divide by
    low: float  # with 95 % confidence the true rate lies between this
    high: float  # and this


@dataclass(frozen=True)
class Rates:
    """How often reviewed verdicts were wrong."""

    false_alarms: Rate  # of reviewed good parts: called defective
    missed_defects: Rate  # of reviewed defective parts: called good
    reviewed: dict[str, Rate]  # by verdict: how many of all were reviewed
    remark: str  # what the rates do not say; empty where there is nothing to add

    def to_json(self) -> dict[str, Any]:
        """As clients get it."""
        return {**asdict(self), "confidence": CONFIDENCE}


def review(
    session: Session, number: int, truth: str, time: datetime, *, operator: str | None = None, note: str | None = None
) -> tuple[InspectionRecord, Review] | None:
    """Write down what a part truly is; None where there is no such inspection. An earlier review stays on record.

    Args:
        session: that writes.
        number: id of the inspection.
        truth: "good" or "defective".
        time: of the review.
        operator: who says so.
        note: in their words.
    """
    row = session.get(InspectionRow, number, with_for_update=True)
    if row is None:
        return None
    row.truth = truth
    said = ReviewRow(inspection=number, time=time, truth=truth, operator=operator, note=note)
    session.add(said)
    session.flush()
    return InspectionRecord.of(row), Review.of(said)


def rates(
    session: Session,
    model: str,
    *,
    version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    current: tuple[str, float] | None = None,
) -> Rates:
    """Measure false alarms and missed defects of a model from its reviews.

    Args:
        session: that reads.
        model: name.
        version: of the model; None for all.
        since: only inspections at that time or later.
        until: only inspections before that time.
        current: version and threshold in use; its inspections are judged by that threshold, whatever it was then.
    """
    row = InspectionRow
    given: ColumnElement[str] = row.verdict.expression
    if current is not None:
        now = case((row.score > current[1], VERDICTS[1]), else_=VERDICTS[0])
        given = case((row.version == current[0], now), else_=row.verdict)
    judged = given.label("judged")
    statement = select(judged, row.truth, func.count()).where(row.model == model).group_by(judged, row.truth)
    if version is not None:
        statement = statement.where(row.version == version)
    if since is not None:
        statement = statement.where(row.time >= since)
    if until is not None:
        statement = statement.where(row.time < until)
    counts = {(verdict, truth): count for verdict, truth, count in session.execute(statement)}

    def held(verdict: str, truth: str | None) -> int:
        return counts.get((verdict, truth), 0)

    good, defective = (sum(held(verdict, truth) for verdict in VERDICTS) for truth in VERDICTS)
    reviewed = {}
    for verdict in VERDICTS:
        known = sum(held(verdict, truth) for truth in VERDICTS)
        reviewed[verdict] = rate(known, known + held(verdict, None))
    return Rates(
        false_alarms=rate(held("defective", "good"), good),
        missed_defects=rate(held("good", "defective"), defective),
        reviewed=reviewed,
        remark=_remark(reviewed),
    )


def rate(count: int, of: int) -> Rate:
    """A share and its two-sided interval: it holds with 95 % confidence for every true rate.

    >>> found = rate(2, 100)
    >>> found.rate, round(found.low, 5), round(found.high, 5)
    (0.02, 0.00243, 0.07038)
    >>> rate(0, 0)
    Rate(count=0, of=0, rate=None, low=0.0, high=1.0)
    """
    if of == 0:
        return Rate(count, of, None, 0.0, 1.0)
    each_side = (1 + CONFIDENCE) / 2
    low = 1 - false_alarm_bound(of, of - count, each_side)
    return Rate(count, of, count / of, low, false_alarm_bound(of, count, each_side))


def _remark(reviewed: dict[str, Rate]) -> str:
    """A note where reviews cover the two verdicts unequally: reviews of alarms alone cannot find missed defects."""
    good, defective = (reviewed[verdict] for verdict in VERDICTS)
    if good.high < defective.low or defective.high < good.low:
        return (
            f"{defective.count} of {defective.of} defective verdicts were reviewed, and {good.count} of {good.of} good ones: "
            "the rates hold for the reviewed parts, not for the line; review a random sample of both"
        )
    return ""
