"""One model's line: images wait their turn, go through the networks together, and leave when they are committed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from shiftproof.data import decode_image, resize_image
from shiftproof.detector import Detector
from shiftproof.regions import find_regions
from shiftproof.service.errors import RequestError
from shiftproof.service.images import DecodedImage, keep_map
from shiftproof.service.inspection_writer import InspectionWriter
from shiftproof.service.model_versions import ModelVersion
from shiftproof.service.shift import measured
from shiftproof.service.store import InspectionRecord
from shiftproof.service.store.files import IMAGE, MAP, Content
from shiftproof.service.telemetry import Telemetry

LOG = logging.getLogger("shiftproof.service")
_SMOOTHING = 0.2  # weight of the newest batch in the rate
_LONGEST_RETRY = 60  # seconds


@dataclass(frozen=True)
class RequestInfo:
    """What a request says of all its images."""

    time: datetime  # of its acceptance
    station: str | None = None  # as the client calls itself
    key: str | None = None  # Idempotency-Key


@dataclass(eq=False)
class _PendingImage:
    """An image in the queue."""

    image: DecodedImage
    request_info: RequestInfo
    position: int  # in its request
    accepted: float  # time.perf_counter()
    answer: asyncio.Future[InspectionRecord] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class BatchQueue:
    """A queue with a bound, a thread for the networks, and their present version.

    Args:
        version: to begin with; it may be replaced at any time, and the next batch goes through the new one.
        ledger: commits what was found.
        pool: threads for the rest.
        telemetry: is told how it goes.
        bound: images that may be accepted and not yet answered.
        batch: images that go through the networks at once, at most.
        wait: seconds that an image waits for others to join it.
    """

    def __init__(
        self,
        version: ModelVersion,
        writer: InspectionWriter,
        pool: Executor,
        telemetry: Telemetry,
        *,
        capacity: int,
        batch: int,
        wait: float,
    ):
        self.version = version
        self.capacity = capacity
        self.waiting = 0  # images accepted and not yet answered
        self.rate = 0.0  # images in a second, smoothed; 0 until the first batch
        self._writer, self._pool, self._telemetry = writer, pool, telemetry
        self._batch, self._wait = batch, wait
        self._queue: deque[_PendingImage] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, f"shiftproof-{version.name}")
        self._finishing: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Hold places for that many images until they are answered.

        Raises:
            RequestError: 429 when not all of them find one, with the time after which some will; 413 when they never could.
        """
        name = self.version.name
        if count > self.capacity:
            raise RequestError(
                413, f"{count} images in one request, and the queue holds {self.capacity}: send fewer at once"
            )
        if self.waiting + count > self.capacity:
            self._telemetry.rejected.labels(name).inc(count)
            raise RequestError(
                429,
                f"{self.waiting} images wait for {name} and its queue holds {self.capacity}: send it again in a moment",
                {"Retry-After": str(self.retry_after(count))},
            )
        self._change_waiting(count)
        try:
            yield
        finally:
            self._change_waiting(-count)

    def retry_after(self, count: int) -> int:
        """Seconds until that many places will be free, at the measured rate."""
        surplus = self.waiting + count - self.capacity
        return min(max(math.ceil(surplus / self.rate) if self.rate else 1, 1), _LONGEST_RETRY)

    def submit(self, image: DecodedImage, request_info: RequestInfo, position: int) -> asyncio.Future[InspectionRecord]:
        """Send an image through, after those before it; done once it is committed."""
        waiting = _PendingImage(image, request_info, position, time.perf_counter())
        self._queue.append(waiting)
        self._arrived.set()
        return waiting.answer

    async def scores(self, version: ModelVersion, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """The scores of images of the model's size, between two batches; nothing is written down."""

        def score() -> NDArray[np.float64]:
            return version.detector.maps_and_scores(np.stack(pixels))[1]

        return await asyncio.get_running_loop().run_in_executor(self._thread, score)

    async def run(self) -> None:
        """Inspect what comes, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if len(self._queue) < self._batch and self._wait:
                await asyncio.sleep(self._wait)
            batch = [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]
            if not self._queue:
                self._arrived.clear()
            if not batch:
                continue
            started = time.perf_counter()
            try:
                found = await loop.run_in_executor(self._thread, _infer, self.version, batch)
            except Exception:
                LOG.exception("%s failed on %d images", self.version.name, len(batch))
                _fail(batch, RequestError(500, "the model failed on this image; the station's log says why"))
                continue
            self._measure(batch, started)
            task = loop.create_task(self._finish(batch, *found))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    def close(self) -> None:
        """Wait for the batch in the networks."""
        self._thread.shutdown(wait=True)

    def _change_waiting(self, count: int) -> None:
        self.waiting += count
        self._telemetry.waiting.labels(self.version.name).set(self.waiting)

    def _measure(self, batch: Sequence[_PendingImage], started: float) -> None:
        seconds, name = time.perf_counter() - started, self.version.name
        rate = len(batch) / seconds
        self.rate = rate if not self.rate else self.rate + _SMOOTHING * (rate - self.rate)
        self._telemetry.batch.labels(name).observe(len(batch))
        self._telemetry.seconds.labels(name, "inference").observe(seconds)
        for one in batch:
            self._telemetry.seconds.labels(name, "queue").observe(started - one.accepted)

    async def _finish(
        self,
        batch: Sequence[_PendingImage],
        version: ModelVersion,
        maps: NDArray[np.float32],
        scores: NDArray[np.float64],
    ) -> None:
        try:
            loop = asyncio.get_running_loop()
            judged, contents = await loop.run_in_executor(self._pool, _judge_all, version, batch, maps, scores)
            for one, failed in zip(batch, judged, strict=True):
                if isinstance(failed, RequestError):
                    LOG.warning("%s: %s", version.name, failed)
                    _fail([one], failed)
            inspected = {
                one: record for one, record in zip(batch, judged, strict=True) if isinstance(record, InspectionRecord)
            }
            committed = await self._writer.commit(list(inspected.values()), contents)
        except RequestError as refusal:
            _fail(batch, refusal)
            return
        except Exception:
            LOG.exception("%s: cannot finish %d images", version.name, len(batch))
            _fail(batch, RequestError(500, "the inspection could not be finished; the station's log says why"))
            return
        for one, inspection in zip(inspected, committed, strict=True):
            self._telemetry.inspections.labels(version.name, inspection.verdict).inc()
            self._telemetry.seconds.labels(version.name, "total").observe(time.perf_counter() - one.accepted)
            if not one.answer.done():
                one.answer.set_result(inspection)


def _infer(
    version: ModelVersion, batch: Sequence[_PendingImage]
) -> tuple[ModelVersion, NDArray[np.float32], NDArray[np.float64]]:
    pixels = np.stack([_fit_to_model(one.image, version.detector) for one in batch])
    return version, *version.detector.maps_and_scores(pixels)


def _fit_to_model(image: DecodedImage, detector: Detector) -> NDArray[np.uint8]:
    """The pixels for the networks; an image that came before a version of another size is resized anew."""
    if image.pixels.shape[:2] == detector.image_size:
        return image.pixels
    most = image.size[0] * image.size[1]
    pixels = decode_image(image.upload.data, "the image", max_pixels=most, bits=detector.bits)
    return resize_image(pixels, detector.image_size)


def _judge_all(
    version: ModelVersion, batch: Sequence[_PendingImage], maps: NDArray[np.float32], scores: NDArray[np.float64]
) -> tuple[list[InspectionRecord | RequestError], list[Content]]:
    judged: list[InspectionRecord | RequestError] = []
    contents = []
    for one, anomaly_map, score in zip(batch, maps, scores, strict=True):
        if not np.isfinite(score):
            judged.append(
                RequestError(500, f"the model's score of this image is {score}; expected a number: train it again")
            )
            continue
        kept = Content.of(MAP, keep_map(anomaly_map, version.calibration))
        contents += [Content(one.image.sha256, IMAGE, one.image.upload.data), kept]
        judged.append(_judge(version, one, anomaly_map, float(score), kept.sha256))
    return judged, contents


def _judge(
    version: ModelVersion, one: _PendingImage, anomaly_map: NDArray[np.float32], score: float, kept_map: str
) -> InspectionRecord:
    image = one.image
    verdict = version.detector.judge(score, _fit_to_model(image, version.detector))
    regions = find_regions(anomaly_map, verdict.threshold, image.size) if verdict.defective else []
    return InspectionRecord(
        time=one.request_info.time,
        model=version.name,
        version=version.version,
        calibration=version.calibrated.id,
        backend=version.detector.backend.name,
        station=one.request_info.station,
        file=image.upload.name,
        image=image.sha256,
        map=kept_map,
        bytes=len(image.upload.data),
        width=image.size[1],
        height=image.size[0],
        score=verdict.score,
        p_value=verdict.p_value,
        threshold=verdict.threshold,
        verdict=verdict.verdict,
        regions=[region.to_json() for region in regions],
        latency_ms=(time.perf_counter() - one.accepted) * 1000,
        shift=None if version.reference is None else measured(version.reference, image.pixels),
        key=one.request_info.key,
        position=one.position,
    )


def _fail(batch: Sequence[_PendingImage], error: Exception) -> None:
    for one in batch:
        if not one.answer.done():
            one.answer.set_exception(error)
