"""One inspection with everything that its screen shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from shiftproof.drift.descriptions import size
from shiftproof.service.errors import RequestError
from shiftproof.service.page.score_chart import explain, score_curve
from shiftproof.service.station import Station
from shiftproof.service.store import InspectionRecord, Review, calibrations, history

_RARE = 0.03  # share of good images that lie as far off as a whole
_FAR = 4.0  # sigma: further than good images' statistics reach


@dataclass(frozen=True)
class InspectionDetail:
    """One inspection with everything that its screen shows."""

    inspection: InspectionRecord
    reviews: list[Review]  # the latest one first
    kept: bool  # whether its image is still there
    curve: Markup  # its score among those that its threshold rests on; empty where these are not known
    explanation: str  # what its p-value says
    unusual: str  # how the image as a whole differs from the good ones; empty where it does not


def load_detail(station: Station, number: int) -> InspectionDetail:
    """Look an inspection up.

    Raises:
        RequestError: 404, there is none.
    """
    with station.database.reading() as session:
        inspection = history.find(session, number)
        if inspection is None:
            raise RequestError(404, f"no inspection {number}")
        reviews = history.reviews(session, number)
        judged_by = calibrations.find(session, inspection.calibration)
    calibration = None if judged_by is None else judged_by.calibration
    return InspectionDetail(
        inspection,
        reviews[::-1],
        station.files.read(inspection.image) is not None,
        Markup() if calibration is None else score_curve(calibration, inspection.score),
        "" if calibration is None else explain(inspection.p_value, len(calibration.scores)),
        "" if inspection.shift is None else _unusual(inspection.shift),
    )


def _unusual(shift: Mapping[str, Any]) -> str:
    """The groups of statistics in which an image lies far off, the furthest first.

    >>> _unusual({"p_value": 0.01, "levels": {"light": -6.2, "noise": 1.0, "contrast": 30.0}})
    'contrast by more than 20 sigma, light by 6.2 sigma'
    """
    far = sorted(((abs(level), group) for group, level in shift["levels"].items() if abs(level) > _FAR), reverse=True)
    return ", ".join(f"{group} by {size(level)}" for level, group in far) if shift["p_value"] < _RARE else ""
