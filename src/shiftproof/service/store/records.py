"""Rows as plain values, which outlive their session."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from shiftproof.service.store.tables import InspectionRow, ReviewRow

VERDICTS = ("good", "defective")


@dataclass(frozen=True)
class InspectionRecord:
    """One image, seen once; the fields are the columns of :class:`InspectionRow`, where each is explained."""

    time: datetime
    model: str
    version: str
    calibration: int
    backend: str
    station: str | None
    file: str | None
    image: str
    map: str
    bytes: int
    width: int
    height: int
    score: float
    p_value: float
    threshold: float
    verdict: str
    regions: list[dict[str, Any]]
    latency_ms: float
    shift: dict[str, Any] | None = None
    truth: str | None = None
    key: str | None = None
    position: int = 0
    id: int = 0  # 0 until it is committed

    @classmethod
    def of(cls, row: InspectionRow) -> InspectionRecord:
        """What a row holds."""
        return cls(**{field.name: getattr(row, field.name) for field in fields(cls)})

    def columns(self) -> dict[str, Any]:
        """What a new row is to hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["id"]
        return values


@dataclass(frozen=True)
class Review:
    """What an operator said."""

    id: int
    time: datetime
    truth: str  # "good" or "defective"
    operator: str | None
    note: str | None

    @classmethod
    def of(cls, row: ReviewRow) -> Review:
        """What a row holds."""
        return cls(row.id, row.time, row.truth, row.operator, row.note)

    def to_json(self) -> dict[str, Any]:
        """As clients get it."""
        return {**asdict(self), "time": format_time(self.time)}


def format_time(time: datetime) -> str:
    """A time as clients get it: ISO 8601, UTC, microseconds.

    >>> format_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05.000000Z'
    """
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def inspection_json(inspection: InspectionRecord) -> dict[str, Any]:
    """An inspection as clients get it."""
    address = f"/v1/inspections/{inspection.id}"
    return {
        "id": inspection.id,
        "time": format_time(inspection.time),
        "model": inspection.model,
        "version": inspection.version,
        "calibration": inspection.calibration,
        "backend": inspection.backend,
        "station": inspection.station,
        "file": inspection.file,
        "image_sha256": inspection.image,
        "bytes": inspection.bytes,
        "width": inspection.width,
        "height": inspection.height,
        "verdict": inspection.verdict,
        "score": inspection.score,
        "p_value": inspection.p_value,
        "threshold": inspection.threshold,
        "regions": inspection.regions,
        "latency_ms": inspection.latency_ms,
        "shift": inspection.shift and {name: inspection.shift[name] for name in ("distance", "p_value", "levels")},
        "review": inspection.truth,
        "links": {"self": address, "image": f"{address}/image", "heatmap": f"{address}/heatmap"},
    }
