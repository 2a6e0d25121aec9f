"""One inspection with everything that its screen shows."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from shiftproof.service.page.curve import in_words, score_curve
from shiftproof.service.refusal import Refusal
from shiftproof.service.station import Station
from shiftproof.service.store import Inspection, Review, calibrating, history


@dataclass(frozen=True)
class Exhibit:
    """One inspection with everything that its screen shows."""

    seen: Inspection
    reviews: list[Review]  # the latest one first
    kept: bool  # whether its image is still there
    curve: Markup  # its score among those that its threshold rests on; empty where these are not known
    words: str  # what its p-value says


def exhibit(station: Station, number: int) -> Exhibit:
    """Look an inspection up.

    Raises:
        Refusal: 404, there is none.
    """
    with station.database.reading() as session:
        seen = history.find(session, number)
        if seen is None:
            raise Refusal(404, f"no inspection {number}")
        reviews = history.reviews(session, number)
        judged_by = calibrating.find(session, seen.calibration)
    calibration = None if judged_by is None else judged_by.calibration
    return Exhibit(
        seen,
        reviews[::-1],
        station.files.read(seen.image) is not None,
        Markup() if calibration is None else score_curve(calibration, seen.score),
        "" if calibration is None else in_words(seen.p_value, len(calibration.scores)),
    )
