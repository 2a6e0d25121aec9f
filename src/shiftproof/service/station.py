"""The station: its models, its memory, and what it does with what it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from shiftproof.errors import ImageError, ImageFormatError, ImageSizeError, ShiftproofError, UsageError
from shiftproof.loading import open_detector
from shiftproof.locking import file_lock
from shiftproof.service.batch_queue import BatchQueue, RequestInfo
from shiftproof.service.drift_tracker import DriftTracker
from shiftproof.service.errors import RequestError
from shiftproof.service.images import DecodedImage, Upload, decode, draw_heatmap
from shiftproof.service.inspection_writer import InspectionWriter
from shiftproof.service.model_versions import Loader, ModelVersion, model_names, open_version
from shiftproof.service.reload import Reloader
from shiftproof.service.settings import Settings
from shiftproof.service.store import Database, Files, InspectionRecord, history
from shiftproof.service.telemetry import Telemetry
from shiftproof.service.uploads import Budget

LOG = logging.getLogger("shiftproof.service")
_MOST_KINDS = 50  # of images, other than those trained on, that the log names
_PAUSE = 0.01  # seconds between two looks at whether all is finished


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be inspected."""

    file: str | None  # as the client calls it
    status: int  # of HTTP, were it alone: 413 too many pixels, 415 no known format, 422 damaged
    error: str  # one line

    def to_json(self) -> dict[str, Any]:
        """As clients get it."""
        return {"file": self.file, "status": self.status, "error": self.error}


class Station:
    """Everything behind the addresses. Opening loads the models and the database; ``start`` begins to work.

    Args:
        settings: what it was told.
        load: from a model folder to a detector; :func:`shiftproof.load` if not given.

    Raises:
        ShiftproofError: a model, the database or the data folder cannot be used.
    """

    def __init__(self, settings: Settings, load: Loader | None = None):
        self.settings = settings
        self._load: Loader = load or partial(open_detector, options=settings.options)
        self.telemetry = Telemetry()
        self._kinds: set[tuple[str, str, str]] = set()
        self.budget = Budget(settings.limits.waiting_bytes)
        names = model_names(settings.models)
        with contextlib.ExitStack() as cleanup:
            cleanup.enter_context(_lock(settings.data))
            self.database = Database(settings.database or f"sqlite:///{settings.data.resolve() / 'station.sqlite'}")
            cleanup.callback(self.database.close)
            self.files = Files(settings.data / "files")
            self._opened = {name: self._open(name, folder) for name, folder in names.items()}
            self._held = cleanup.pop_all()  # the lock and the database
        self._folders = names
        self.queues: dict[str, BatchQueue] = {}  # by the model's name, once started
        self.reloaders: dict[str, Reloader] = {}  # by the model's name, once started
        self.drift_trackers: dict[str, DriftTracker] = {}  # by the model's name, once started
        self.pool = ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 2)), "shiftproof-pool")
        self._tasks: list[asyncio.Task[None]] = []
        self._keys: set[str] = set()  # Idempotency-Keys of requests that are being answered

    async def start(self) -> None:
        """Begin to take images."""
        settings, loop = self.settings, asyncio.get_running_loop()
        self.writer = InspectionWriter(self.database, self.files, settings.retention_bytes, self.telemetry)
        self._tasks.append(loop.create_task(self.writer.run()))
        for name, version in self._opened.items():
            queue = BatchQueue(
                version,
                self.writer,
                self.pool,
                self.telemetry,
                capacity=settings.queue,
                batch=settings.batch,
                wait=settings.batch_wait,
            )
            reloader = Reloader(queue, self._folders[name], self._open, self.telemetry, settings.reload_seconds)
            drift_tracker = DriftTracker(queue, self.database, self.telemetry, settings.reload_seconds)
            self.queues[name], self.reloaders[name], self.drift_trackers[name] = queue, reloader, drift_tracker
            self._tasks += [loop.create_task(one.run()) for one in (queue, reloader, drift_tracker)]

    async def stop(self) -> None:
        """Finish what was accepted; nothing new comes any more."""
        while any(queue.waiting for queue in self.queues.values()):
            await asyncio.sleep(_PAUSE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for queue in self.queues.values():
            queue.close()
        self.writer.close()
        self.close()

    def close(self) -> None:
        """Let go of threads, database and data folder."""
        self.pool.shutdown(wait=True)
        self._held.close()

    def queue(self, name: str) -> BatchQueue:
        """The line of a model.

        Raises:
            RequestError: 404, there is no such model.
        """
        if name not in self.queues:
            raise RequestError(404, f"no model {name!r}; there are: {', '.join(self.queues)}")
        return self.queues[name]

    @property
    def problems(self) -> dict[str, str]:
        """By model: why its newest version is not served."""
        return {name: one.problem for name, one in self.reloaders.items() if one.problem}

    async def inspect(
        self, name: str, uploads: Sequence[Upload], *, station: str | None = None, key: str | None = None
    ) -> list[InspectionRecord | Unreadable]:
        """Inspect files; what is returned is committed.

        Args:
            name: of the model.
            uploads: the files.
            station: as the client calls itself.
            key: its Idempotency-Key: what was committed under it before is returned, not inspected again.

        Returns:
            One inspection for each file, in their order, or why it could not be made.

        Raises:
            RequestError: 404 no such model; 409 and 422 misuse of the key; 413 and 429 no room; 5xx faults of ours.
        """
        queue = self.queue(name)
        with self._only(key), queue.reserve(len(uploads)):
            earlier = await asyncio.to_thread(self._earlier, key, name, uploads) if key else {}
            request_info = RequestInfo(datetime.now(UTC), station, key)
            # All are decoded at once, and sent in their order as they are ready.
            new = {at: self._decode(queue, upload) for at, upload in enumerate(uploads) if at not in earlier}
            sent: list[asyncio.Future[InspectionRecord] | InspectionRecord | Unreadable] = []
            for position, upload in enumerate(uploads):
                if position in earlier:
                    sent.append(earlier[position])
                    continue
                try:
                    sent.append(queue.submit(await new[position], request_info, position))
                except ImageError as error:
                    self.telemetry.unreadable.labels(name).inc()
                    sent.append(Unreadable(upload.name, _status(error), str(error)))
            waiting = [one for one in sent if isinstance(one, asyncio.Future)]
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        for one in answers:
            if isinstance(one, BaseException):
                raise one
        return [one.result() if isinstance(one, asyncio.Future) else one for one in sent]

    def _decode(self, queue: BatchQueue, upload: Upload) -> asyncio.Future[DecodedImage]:
        return asyncio.get_running_loop().run_in_executor(self.pool, self._decoded, queue, upload)

    def _decoded(self, queue: BatchQueue, upload: Upload) -> DecodedImage:
        """Decode a file; the first image of each other kind than those trained on is a warning in the log."""
        detector = queue.version.detector
        decoded = decode(upload, detector.image_size, self.settings.limits.pixels, detector.bits)
        note = "" if detector.profile is None else detector.profile.difference(decoded.info)
        kind = (queue.version.name, queue.version.version, note)
        if note and kind not in self._kinds and len(self._kinds) < _MOST_KINDS:
            self._kinds.add(kind)
            LOG.warning("%s: an image of another kind than those trained on: %s", queue.version.name, note)
        return decoded

    async def heatmap(self, inspection: InspectionRecord, longest: int | None = None) -> bytes:
        """A heatmap as PNG.

        Raises:
            RequestError: 410, its files are no longer kept.
        """
        return await asyncio.get_running_loop().run_in_executor(self.pool, self._heatmap, inspection, longest)

    def image(self, inspection: InspectionRecord) -> bytes:
        """The file that was inspected.

        Raises:
            RequestError: 410, it is no longer kept.
        """
        return self._read(inspection.image, inspection.id)

    def _heatmap(self, inspection: InspectionRecord, longest: int | None) -> bytes:
        image, kept_map = self._read(inspection.image, inspection.id), self._read(inspection.map, inspection.id)
        return draw_heatmap(image, kept_map, longest=longest, max_pixels=inspection.width * inspection.height)

    def _read(self, sha256: str, number: int) -> bytes:
        data = self.files.read(sha256)
        if data is None:
            raise RequestError(410, f"the files of inspection {number} are no longer kept; its row is")
        return data

    def _earlier(self, key: str, name: str, uploads: Sequence[Upload]) -> dict[int, InspectionRecord]:
        """What was committed under a key, by position; a refusal where it was for other images or another model."""
        with self.database.reading() as session:
            found = history.of_key(session, key)
        for position, inspection in found.items():
            data = uploads[position].data if position < len(uploads) else b""
            if (inspection.model, inspection.image) != (name, hashlib.sha256(data).hexdigest()):
                raise RequestError(422, f"Idempotency-Key {key!r} was used for another image or model: use a new one")
        return found

    @contextlib.contextmanager
    def _only(self, key: str | None) -> Any:
        """One request at a time under a key."""
        if key in self._keys:
            raise RequestError(
                409, f"a request with Idempotency-Key {key!r} is being answered: send it again in a moment"
            )
        if key is None:
            yield
            return
        self._keys.add(key)
        try:
            yield
        finally:
            self._keys.discard(key)

    def _open(self, name: str, folder: Path) -> ModelVersion:
        version = open_version(name, folder, self.database, self._load)
        self.telemetry.model.labels(name, version.version, version.detector.backend.name).set(1)
        return version


def _status(error: ImageError) -> int:
    if isinstance(error, ImageSizeError):
        return 413
    return 415 if isinstance(error, ImageFormatError) else 422


@contextlib.contextmanager
def _lock(data: Path) -> Iterator[None]:
    """Lock the data folder: two programs that remove files of one folder would remove each other's.

    Raises:
        ShiftproofError: the folder cannot be written, or another station uses it.
    """
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(file_lock(data / ".lock"))
        except OSError as error:
            place, reason = error.filename or data, error.strerror
            raise ShiftproofError(f"cannot write {place}: {reason}; choose another --data-dir") from error
        if not held:
            raise UsageError(f"{data} is in use by another station: stop it, or choose another --data-dir")
        yield
