"""A new threshold from images that operators have called good, with the same bound as one from training.

What these images look like is from then on what drift is measured from: a line that was recalibrated under a new lamp is
not told for ever that it is darker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from shiftproof.calibration import Calibration, images_needed
from shiftproof.drift import MOST, Reference, measure
from shiftproof.errors import ImageError
from shiftproof.service.batch_queue import BatchQueue
from shiftproof.service.errors import RequestError
from shiftproof.service.images import DecodedImage, Upload, decode
from shiftproof.service.model_versions import ModelVersion, reference_of
from shiftproof.service.station import Station
from shiftproof.service.store import calibrations, reviews
from shiftproof.service.store.calibrations import StoredCalibration

_ACCEPT = "review whether the parts called good are good, or accept it by accept_missed_defects"
_AT_ONCE = 8  # images between which inspections get their turn


@dataclass(frozen=True)
class RecalibrationResult:
    """What came of it."""

    calibration: StoredCalibration  # in use from now on
    former: StoredCalibration  # in use until now; kept
    remark: str  # what to know before one relies on it; empty where there is nothing


async def recalibrate(
    station: Station,
    name: str,
    *,
    target: float | None = None,
    since: datetime | None = None,
    accept_missed: bool = False,
) -> RecalibrationResult:
    """Score a model's reviewed good images again, and place its threshold by them.

    Args:
        station: that serves the model.
        name: of the model.
        target: wanted false-alarm rate; None for that of the threshold in use.
        since: only images inspected at that time or later, such as after a camera was moved.
        accept_missed: use it although parts that were reviewed as defective would pass.

    Raises:
        RequestError: 404 no such model; 409 too few images to certify the target, or reviewed defects would pass.
    """
    queue = station.queue(name)
    version = queue.version
    former = version.calibrated
    wanted = former.calibration.target if target is None else target
    needed = images_needed(wanted, former.calibration.confidence)
    images = await asyncio.to_thread(_reviewed_good, station, name, since)
    scores: list[float] = []
    statistics: list[NDArray[np.float64]] = []
    if len(images) >= needed:  # else nothing is read in vain
        for start in range(0, len(images), _AT_ONCE):
            pixels = await _pixels(station, version, [sha256 for sha256, _ in images[start : start + _AT_ONCE]])
            if pixels:
                scores += (await queue.scores(version, pixels)).tolist()
                statistics += await asyncio.to_thread(_measure_all, pixels)
    found = len(scores) or len(images)
    if len(scores) < needed:
        raise RequestError(
            409,
            f"{found} images of {name} that are kept were reviewed as good; "
            f"{needed} certify {100 * wanted:g} % false alarms: review more, or ask for a higher target",
        )
    placed = Calibration.from_scores(
        scores,
        target=wanted,
        confidence=former.calibration.confidence,
        rule="certified",  # which is what the number of images above is for
        map_low=former.calibration.map_low,
    )
    missed = await _missed_defects(station, queue, version, since, (former.calibration, placed))
    if missed.new > missed.former and not accept_missed:
        raise RequestError(409, f"{missed.sentence(former.calibration.threshold, placed.threshold)}; {_ACCEPT}")
    reference = _reference(np.array(statistics))
    new = await asyncio.to_thread(_write, station, version, placed, calibrations.REVIEWS, reference)
    if queue.version.version == version.version:  # else it is used when this version comes back
        queue.version = queue.version.with_calibration(new, reference)
    told = missed.sentence(former.calibration.threshold, placed.threshold) if missed.new else ""
    return RecalibrationResult(new, former, ". ".join(filter(None, (told, _remark(images, former)))))


@dataclass(frozen=True)
class _Missed:
    """Parts reviewed as defective that two thresholds let pass."""

    former: int
    new: int
    of: int

    def sentence(self, former: float, new: float) -> str:
        return (
            f"{self.new} of {self.of} reviewed defects would pass at the new threshold {new:.4g} "
            f"({self.former} of them at the former {former:.4g})"
        )


async def _missed_defects(
    station: Station,
    queue: BatchQueue,
    version: ModelVersion,
    since: datetime | None,
    thresholds: tuple[Calibration, Calibration],
) -> _Missed:
    """Count them by stored scores of this version, and by new scores of images that another version has judged."""

    def read() -> list[float | str]:
        with station.database.reading() as session:
            return calibrations.reviewed_defective(session, version.name, version.version, since=since)

    found = await asyncio.to_thread(read)
    scores = [each for each in found if isinstance(each, float)]
    hashes = [each for each in found if isinstance(each, str)]
    for start in range(0, len(hashes), _AT_ONCE):
        pixels = await _pixels(station, version, hashes[start : start + _AT_ONCE])
        if pixels:
            scores += (await queue.scores(version, pixels)).tolist()
    former, new = (sum(not each.is_defective(score) for score in scores) for each in thresholds)
    return _Missed(former, new, len(scores))


def go_back(station: Station, name: str, number: int) -> RecalibrationResult:
    """Use an earlier threshold of the version that is served again, as a new entry in the list.

    Raises:
        RequestError: 404 no such model, or it never had that threshold.
    """
    queue = station.queue(name)
    with station.database.reading() as session:
        earlier = calibrations.find(session, number)
        if earlier is None or (earlier.model, earlier.version) != (name, queue.version.version):
            raise RequestError(
                404, f"{name} {queue.version.version} has no calibration {number}; its card lists those it has"
            )
        reference = reference_of(session, earlier)
    new = _write(station, queue.version, earlier.calibration, earlier.source, reference)
    former, queue.version = queue.version.calibrated, queue.version.with_calibration(new, reference)
    return RecalibrationResult(new, former, "")


def _reviewed_good(station: Station, name: str, since: datetime | None) -> Sequence[tuple[str, int]]:
    with station.database.reading() as session:
        return calibrations.reviewed_good(session, name, since=since)


def _write(
    station: Station, version: ModelVersion, calibration: Calibration, source: str, reference: Reference | None
) -> StoredCalibration:
    kept = None if reference is None else reference.to_bytes()
    with station.database.writing() as session:
        return calibrations.add(session, version.name, version.version, calibration, source, datetime.now(UTC), kept)


def _measure_all(pixels: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float64]]:
    return [measure(each) for each in pixels]


def _reference(statistics: NDArray[np.float64]) -> Reference | None:
    """Every other image says where good images lie, the rest how far from there; None of a single one."""
    if len(statistics) < 2:
        return None
    chosen = statistics[-MOST:]
    return Reference(chosen[::2], chosen[1::2])


async def _pixels(station: Station, version: ModelVersion, hashes: Sequence[str]) -> list[NDArray[np.uint8]]:
    """The images that are still there, at the model's size."""
    loop = asyncio.get_running_loop()

    def read(sha256: str) -> DecodedImage | None:
        data = station.files.read(sha256)
        if data is None:
            return None
        try:
            limit, detector = station.settings.limits.pixels, version.detector
            return decode(Upload(None, data), detector.image_size, limit, detector.bits)
        except ImageError:  # the limit on pixels is lower than it was
            return None

    read_all = await asyncio.gather(*(loop.run_in_executor(station.pool, read, sha256) for sha256 in hashes))
    return [one.pixels for one in read_all if one is not None]


def _remark(images: Sequence[tuple[str, int]], former: StoredCalibration) -> str:
    """Alarms alone, reviewed as good, would place the threshold above where good parts of the line lie."""
    alarms = sum(called > 0 for _, called in images)
    if reviews.rate(alarms, len(images)).low <= former.calibration.bound:
        return ""
    return (
        f"{alarms} of the {len(images)} images had been called defective, more than the former bound of "
        f"{100 * former.calibration.bound:.2g} % allows: the line has drifted, or mostly alarms were reviewed. In that case "
        "the new threshold is too high: review a random sample of all verdicts, and recalibrate again"
    )
