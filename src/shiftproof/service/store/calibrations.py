"""The thresholds that a model has had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from shiftproof.calibration import Calibration
from shiftproof.service.store.records import format_time
from shiftproof.service.store.tables import CalibrationRow, FileRow, InspectionRow

TRAINING, REVIEWS = "training", "reviews"


@dataclass(frozen=True)
class StoredCalibration:
    """A threshold that a version of a model has, or has had."""

    id: int
    model: str  # name
    version: str  # of the model
    created: datetime
    source: str  # "training" or "reviews"
    calibration: Calibration

    def to_json(self) -> dict[str, Any]:
        """As clients get it: without the scores, which are many."""
        held = self.calibration
        return {
            "id": self.id,
            "version": self.version,
            "created": format_time(self.created),
            "source": self.source,
            "threshold": held.threshold,
            "bound": held.bound,
            "confidence": held.confidence,
            "target": held.target,
            "images": len(held.scores),
            "sentence": held.sentence(),
        }


def add(
    session: Session,
    model: str,
    version: str,
    calibration: Calibration,
    source: str,
    time: datetime,
    reference: bytes | None = None,
) -> StoredCalibration:
    """Write a calibration down; from now on it is the model's latest.

    Args:
        session: that is written in.
        model: its name.
        version: of the model.
        calibration: the threshold.
        source: :data:`TRAINING` or :data:`REVIEWS`.
        time: now.
        reference: what its good images looked like, as bytes; None where that is the model's own reference.
    """
    row = CalibrationRow(
        model=model,
        version=version,
        created=time,
        source=source,
        threshold=calibration.threshold,
        bound=calibration.bound,
        images=len(calibration.scores),
        content=calibration.to_json(),
        reference=reference,
    )
    session.add(row)
    session.flush()
    return _calibrated(row)


def listed(session: Session, model: str, version: str | None = None) -> list[StoredCalibration]:
    """All calibrations of a model, or of one version of it, the first one first."""
    statement = select(CalibrationRow).where(CalibrationRow.model == model).order_by(CalibrationRow.id)
    if version is not None:
        statement = statement.where(CalibrationRow.version == version)
    return [_calibrated(row) for row in session.scalars(statement)]


def latest(session: Session, model: str, version: str) -> StoredCalibration | None:
    """The calibration in use."""
    return next(reversed(listed(session, model, version)), None)


def find(session: Session, number: int) -> StoredCalibration | None:
    """The calibration of that id."""
    row = session.get(CalibrationRow, number)
    return None if row is None else _calibrated(row)


def reference_of(session: Session, number: int) -> bytes | None:
    """What the good images of a calibration looked like; None where that is the model's own reference."""
    return session.scalar(select(CalibrationRow.reference).where(CalibrationRow.id == number))


def reviewed_good(session: Session, model: str, *, since: datetime | None = None) -> Sequence[tuple[str, int]]:
    """Images of a model that are on disk and that reviews call good, each once.

    Returns:
        (SHA-256, how many of its inspections said "defective") for each, in the order of the hashes.
    """
    statement = (
        select(InspectionRow.image, InspectionRow.verdict)
        .join(FileRow, FileRow.sha256 == InspectionRow.image)
        .where(InspectionRow.model == model, InspectionRow.truth == "good", FileRow.kept)
        .order_by(InspectionRow.image)
    )
    if since is not None:
        statement = statement.where(InspectionRow.time >= since)
    found: dict[str, int] = {}
    for image, verdict in session.execute(statement):
        found[image] = found.get(image, 0) + (verdict == "defective")
    return list(found.items())


def reviewed_defective(
    session: Session, model: str, version: str, *, since: datetime | None = None
) -> list[float | str]:
    """Parts of a model that reviews call defective, each image once.

    Returns:
        the score where this version of the model has given one, else the SHA-256 of an image that is on disk.
    """
    statement = (
        select(InspectionRow.image, InspectionRow.score, InspectionRow.version, FileRow.kept)
        .outerjoin(FileRow, FileRow.sha256 == InspectionRow.image)
        .where(InspectionRow.model == model, InspectionRow.truth == "defective")
        .order_by(InspectionRow.id)
    )
    if since is not None:
        statement = statement.where(InspectionRow.time >= since)
    found: dict[str, float | str] = {}
    for image, score, by, kept in session.execute(statement):
        if by == version:
            found[image] = score
        elif kept:
            found.setdefault(image, image)
    return list(found.values())


def _calibrated(row: CalibrationRow) -> StoredCalibration:
    return StoredCalibration(
        row.id, row.model, row.version, row.created, row.source, Calibration.from_json(row.content)
    )
