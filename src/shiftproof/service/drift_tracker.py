"""Follows each model's inspections for drift, from the rows themselves: after a restart it is where it was."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from shiftproof.drift import DRIFT, DriftState, Monitor, Reference, corrected_groups
from shiftproof.service.batch_queue import BatchQueue
from shiftproof.service.model_versions import ModelVersion
from shiftproof.service.store import Database
from shiftproof.service.store.tables import InspectionRow
from shiftproof.service.telemetry import Telemetry

LOG = logging.getLogger("shiftproof.service")
MOST = 2000
"""Inspections that are gone through at a start, and remembered."""
_AT_ONCE = 200


@dataclass(frozen=True)
class DriftPoint:
    """What is remembered of one inspection."""

    id: int
    time: datetime
    evidence: float  # for a drift, as a power of ten
    levels: Mapping[str, float]  # group -> deviation of this image in sigma


@dataclass
class DriftEpisode:
    """A drift, by the numbers of its images among those that were followed, from 1."""

    start_index: int
    alert_index: int
    end_index: int | None = None


@dataclass(frozen=True)
class DriftSnapshot:
    """What is known at a moment."""

    state: DriftState
    steps: Sequence[DriftPoint]  # the oldest first
    episodes: Sequence[DriftEpisode]
    first: int  # number of the first step
    alert_at: float  # evidence at which an alert is raised


class DriftTracker:
    """Looks for drift among what a line has inspected with its present version and threshold.

    Args:
        line: whose inspections are followed.
        database: that holds them.
        telemetry: is told the evidence.
        seconds: between two looks.
    """

    def __init__(self, queue: BatchQueue, database: Database, telemetry: Telemetry, seconds: float):
        self._queue, self._database, self._telemetry, self._seconds = queue, database, telemetry, seconds
        self._lock = threading.Lock()
        self._begun: tuple[str, int] | None = None  # version and calibration that are followed
        self._monitor: Monitor | None = None
        self._last = 0  # id of the newest inspection that was followed
        self._known = 0  # id of the newest one when following began: alerts up to there were given before
        self._state: DriftState | None = None
        self._steps: deque[DriftPoint] = deque(maxlen=MOST)
        self._episodes: list[DriftEpisode] = []

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                more = await asyncio.to_thread(self.look)
            except DBAPIError as error:
                LOG.warning("cannot look for drift: %s", " ".join(str(error.orig).split())[:200])
                more = False
            await asyncio.sleep(0 if more else self._seconds)

    def look(self) -> bool:
        """Go on with what is new, a little at a time; whether there is more."""
        with self._lock:
            version = self._queue.version
            if version.reference is None:
                self._begun = self._state = self._monitor = None
                return False
            with self._database.reading() as session:
                monitor = self._monitor
                if monitor is None or self._begun != (version.version, version.calibrated.id):
                    monitor = self._begin(session, version, version.reference)
                rows = session.execute(
                    _rows(version)
                    .add_columns(InspectionRow.time, InspectionRow.shift, InspectionRow.p_value, InspectionRow.verdict)
                    .where(InspectionRow.id > self._last)
                    .order_by(InspectionRow.id)
                    .limit(_AT_ONCE)
                ).all()
            for number, time, shift, p_value, verdict in rows:
                self._last = number
                if shift is not None:  # as it is where the reference came later than the inspection
                    self._follow(monitor, number, time, shift, p_value, verdict == "defective")
            return len(rows) == _AT_ONCE

    @property
    def found(self) -> bool:
        """Whether there is a drift now."""
        state = self._state
        return state is not None and state.status == DRIFT

    @property
    def snapshot(self) -> DriftSnapshot | None:
        """What is known now; None where the model has no reference, or before its first inspection."""
        with self._lock:
            if self._state is None or self._monitor is None:
                return None
            alert_at = float(-np.log10(self._monitor.alpha))
            first = self._state.images - len(self._steps) + 1
            return DriftSnapshot(self._state, list(self._steps), list(self._episodes), first, alert_at)

    def _begin(self, session: Session, version: ModelVersion, reference: Reference) -> Monitor:
        bound, corrected = version.calibration.bound, corrected_groups(version.detector.manifest)
        monitor = self._monitor = Monitor(reference, corrected=corrected, bound=bound)
        self._begun, self._state, self._episodes = (version.version, version.calibrated.id), None, []
        self._steps.clear()
        newest = _rows(version).order_by(InspectionRow.id.desc()).offset(MOST).limit(1)
        self._last = session.scalar(newest) or 0
        self._known = session.scalar(_rows(version).order_by(InspectionRow.id.desc()).limit(1)) or 0
        return monitor

    def _follow(
        self, monitor: Monitor, number: int, time: datetime, shift: Mapping[str, Any], p_value: float, defective: bool
    ) -> None:
        state = self._state = monitor.update(
            np.asarray(shift["statistics"], np.float64), p_value=p_value, defective=defective
        )
        self._steps.append(DriftPoint(number, time, state.evidence, state.levels))
        name = self._queue.version.name
        self._telemetry.drift.labels(name).set(state.evidence)
        if state.alert:
            self._episodes.append(DriftEpisode(state.start_index or state.images, state.images))
            if number > self._known:
                LOG.warning("%s: drift found at inspection %d: %s", name, number, state.sentence)
        elif state.ended and self._episodes:
            self._episodes[-1].end_index = state.images
            if number > self._known:
                LOG.info("%s: the drift is over by inspection %d", name, number)
        elif state.status == DRIFT and state.start_index and self._episodes:
            self._episodes[-1].start_index = state.start_index


def _rows(version: ModelVersion) -> Any:
    """Ids of what a version has inspected since its threshold was placed, as drift is measured from there."""
    return select(InspectionRow.id).where(
        InspectionRow.model == version.name,
        InspectionRow.version == version.version,
        InspectionRow.calibration == version.calibrated.id,
    )
