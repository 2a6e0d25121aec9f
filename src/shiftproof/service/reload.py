"""A model folder that changes is loaded beside the version that is served, and takes its place between two batches."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from shiftproof.errors import ModelError, ShiftproofError
from shiftproof.service.batch_queue import BatchQueue
from shiftproof.service.model_versions import ModelVersion, fingerprint
from shiftproof.service.telemetry import Telemetry

LOG = logging.getLogger("shiftproof.service")


class Reloader:
    """Looks at one model's folder; a new version that cannot be loaded leaves the old one serving, and says so.

    Args:
        line: whose version is replaced.
        folder: of the model.
        load: from name and folder to a version.
        telemetry: is told which version is served.
        seconds: between two looks.
    """

    def __init__(
        self,
        queue: BatchQueue,
        folder: Path,
        load: Callable[[str, Path], ModelVersion],
        telemetry: Telemetry,
        seconds: float,
    ):
        self.problem: str | None = None  # why the newest version is not served; None while it is
        self._queue, self._folder, self._load = queue, folder, load
        self._telemetry, self._seconds = telemetry, seconds
        self._looked_at = _look(folder)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            await self.look()

    async def look(self) -> None:
        """Look once, and load what has changed; half a copy is refused, and looked at again when it has changed."""
        before = self._queue.version
        current = await asyncio.to_thread(_look, self._folder)
        if current == self._looked_at:
            return
        self._looked_at = current
        name = before.name
        try:
            if isinstance(current, str):
                raise ModelError(current)
            version = await asyncio.to_thread(self._load, name, self._folder)
        except ShiftproofError as error:
            problem = " ".join(str(error).split())
            if problem != self.problem:
                LOG.warning("%s stays at version %s: %s", name, before.version, problem)
            self.problem = problem
            self._telemetry.reload_failed.labels(name).set(1)
            return
        self.problem = None
        self._telemetry.reload_failed.labels(name).set(0)
        if version.version != before.version:
            self._queue.version = version
            self._telemetry.model.labels(name, before.version, before.detector.backend.name).set(0)
            LOG.info("%s is served at version %s, after %s", name, version.version, before.version)


def _look(folder: Path) -> tuple[tuple[str, int, int], ...] | str:
    try:
        return fingerprint(folder)
    except ModelError as error:
        return str(error)
