"""The tables, as the newest migration leaves them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Identity = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows only of an INTEGER key


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, always with its zone: UTC. SQLite keeps none, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC; a time without a zone would be a guess, and is refused."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"time {value} has no zone; expected one such as UTC")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """In UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Of all tables."""

    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: JSON(), list[dict[str, Any]]: JSON()}  # noqa: RUF012


class CalibrationRow(Base):
    """A threshold that a version of a model has had, and what it is worth; the last one is in use."""

    __tablename__ = "calibrations"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    model: Mapped[str] = mapped_column(String(255))  # name
    version: Mapped[str] = mapped_column(String(64))  # of the model
    created: Mapped[datetime]
    source: Mapped[str] = mapped_column(String(16))  # "training" or "reviews"
    threshold: Mapped[float]
    bound: Mapped[float]  # of its false-alarm rate, with the confidence in `content`
    images: Mapped[int]  # good ones that it rests on
    content: Mapped[dict[str, Any]]  # Calibration.to_json()
    reference: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)  # Reference.to_bytes(); often none

    __table_args__ = (Index("ix_calibrations_model_version", "model", "version", "id"),)


class InspectionRow(Base):
    """One image, seen once by one version of a model."""

    __tablename__ = "inspections"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    time: Mapped[datetime]  # when it was accepted
    model: Mapped[str] = mapped_column(String(255))  # name
    version: Mapped[str] = mapped_column(String(64))  # of the model
    calibration: Mapped[int] = mapped_column(ForeignKey("calibrations.id"))
    backend: Mapped[str] = mapped_column(String(32))
    station: Mapped[str | None] = mapped_column(String(100))  # as the client calls itself
    file: Mapped[str | None] = mapped_column(String(255))  # as the client calls the image; never a path here
    image: Mapped[str] = mapped_column(String(64))  # SHA-256 of the file's bytes
    map: Mapped[str] = mapped_column(String(64))  # SHA-256 of the map's PNG
    bytes: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int]  # of the image, in pixels
    height: Mapped[int]
    score: Mapped[float]
    p_value: Mapped[float]
    threshold: Mapped[float]
    verdict: Mapped[str] = mapped_column(String(16))  # "good" or "defective"
    regions: Mapped[list[dict[str, Any]]]
    latency_ms: Mapped[float]  # from acceptance to the networks' answer
    shift: Mapped[dict[str, Any] | None]  # measures of how far the image lies from the training set
    truth: Mapped[str | None] = mapped_column(String(16))  # of the latest review: "good" or "defective"
    key: Mapped[str | None] = mapped_column(String(200))  # Idempotency-Key of the request
    position: Mapped[int]  # of the file in the request

    __table_args__ = (
        Index("ix_inspections_key_position", "key", "position", unique=True),
        Index("ix_inspections_model", "model", "id"),
        Index("ix_inspections_time", "time"),
        Index("ix_inspections_truth", "model", "truth", "id"),
        Index("ix_inspections_image", "image"),
        Index("ix_inspections_map", "map"),
    )


class ReviewRow(Base):
    """What an operator says of an inspection; the latest one holds."""

    __tablename__ = "reviews"

    id: Mapped[int] = mapped_column(Identity, primary_key=True)
    inspection: Mapped[int] = mapped_column(ForeignKey("inspections.id"), index=True)
    time: Mapped[datetime]
    truth: Mapped[str] = mapped_column(String(16))  # "good" or "defective"
    operator: Mapped[str | None] = mapped_column(String(100))
    note: Mapped[str | None] = mapped_column(String(2000))


class FileRow(Base):
    """A file in the data folder, under the hash of its content."""

    __tablename__ = "files"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))  # "image" or "map"
    bytes: Mapped[int] = mapped_column(BigInteger)
    stored: Mapped[datetime]  # when it came last
    kept: Mapped[bool]  # False: removed to stay within the limit

    __table_args__ = (Index("ix_files_kept_stored", "kept", "stored"),)
