"""A trained model, ready to look at images: the one object behind ``predict``, ``evaluate`` and the Python API."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shiftproof.calibration import Calibration
from shiftproof.data import in_order, read_image, resize_image
from shiftproof.errors import BackendError, ImageError, ModelError, unknown
from shiftproof.model_io import load_manifest
from shiftproof.runtime import AUTO, TORCH, Backend, choose_backend, open_graph

if TYPE_CHECKING:
    from shiftproof.calibration.conditional import ConditionalCalibration
    from shiftproof.methods import Method

CALIBRATION = "calibration"  # key of model.json
CALIBRATION_WITHOUT_CORRECTION = (
    "calibration_without_correction"  # key of model.json, where the model has shift correction
)
THRESHOLD_MODES = ("fixed", "conditional")
BATCH = 8  # images that go through the networks at once where many wait
Item = TypeVar("Item")


@dataclass(frozen=True)
class Inspection:
    """What the detector says of one image."""

    score: float  # image score: the highest value of the anomaly map, unrounded
    p_value: float  # share of calibration images (and this one) that score as high: conformal
    threshold: float  # fixed with the model; or, with threshold mode conditional, the one for the image's conditions
    defective: bool  # score > threshold
    anomaly_map: NDArray[np.float32]  # [H, W] of the image's own size
    mask: NDArray[np.bool_]  # [H, W]: where the map lies above the threshold; empty if and only if not defective
    latency_ms: float  # of resizing, networks and map, its share of the batch
    pixels: NDArray[np.uint8]  # [h, w, 3]: the image as the networks saw it

    @property
    def verdict(self) -> str:
        """In a word: "defective" or "good"."""
        return "defective" if self.defective else "good"


class Detector:
    """A backend with its calibration, and the record of how the model was made.

    Args:
        backend: computes maps and scores, in torch or from an exported graph.
        calibration: from calibration images.
        manifest: content of ``model.json``.
        conditional: judges images that are unusual; None: the calibration judges all of them.
    """

    def __init__(
        self,
        backend: Backend,
        calibration: Calibration,
        manifest: Mapping[str, Any],
        conditional: ConditionalCalibration | None = None,
    ):
        self.backend = backend
        self.calibration = calibration
        self.manifest = manifest
        self.conditional = conditional

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width that the networks see."""
        return self.backend.image_size

    @property
    def method(self) -> Method:
        """The networks; only torch has them as such.

        Raises:
            BackendError: another backend computes.
        """
        inspector = getattr(self.backend, "inspector", None)
        if inspector is None:
            raise BackendError(
                f"the networks are inside {self.backend.name}'s graph: shiftproof.load(model, backend='torch') has them"
            )
        method: Method = inspector.method
        return method

    def inspect(
        self, images: str | Path | NDArray[np.uint8] | Sequence[str | Path | NDArray[np.uint8]]
    ) -> Inspection | list[Inspection]:
        """Inspect one image or several.

        Args:
            images: a path, a uint8 array [H, W, 3] (RGB) or [H, W] (gray) of any size, or a sequence of these.

        Returns:
            an :class:`Inspection` for one image, a list of them for a sequence.

        Raises:
            ImageError: an image that cannot be read, or an array of another shape or type.
        """
        if isinstance(images, str | Path | np.ndarray):
            return next(self.stream([_as_image(images)]))
        return list(self.stream(_as_image(image) for image in images))

    def stream(self, images: Iterable[NDArray[np.uint8]], batch: int = BATCH) -> Iterator[Inspection]:
        """Inspect images uint8 [H, W, 3] as they come, in order; no more than a batch of them is held."""
        for held in batched(images, batch):
            started = time.perf_counter()
            resized = [resize_image(image, self.image_size) for image in held]
            maps, scores = self.maps_and_scores(np.stack(resized))
            each = (time.perf_counter() - started) * 1000 / len(held)
            for image, pixels, anomaly_map, score in zip(held, resized, maps, scores, strict=True):
                yield self._judge(image.shape[:2], pixels, anomaly_map, float(score), each)

    def stream_files(
        self, paths: Iterable[Path], batch: int = BATCH, threads: int | None = None
    ) -> Iterator[tuple[Path, NDArray[np.uint8] | None, Inspection | ImageError]]:
        """Inspect files; one that cannot be read gives its error and the rest go on.

        A pipeline: files are decoded and resized in threads (None: one for each processor), the networks see a batch
        while the one before is judged.

        Yields:
            (path, image, inspection), or (path, None, error), in the order of the paths.
        """
        files = in_order(self._decode, paths, workers=threads, ahead=2 * batch)
        for held, maps, scores, each in in_order(self._infer, batched(files, batch), workers=1, ahead=2):
            judged = iter(zip(maps, scores, strict=True))
            for file in held:
                if isinstance(file.image, ImageError):
                    yield file.path, None, file.image
                else:
                    anomaly_map, score = next(judged)
                    assert file.resized is not None
                    shape, latency_ms = file.image.shape[:2], file.latency_ms + each
                    yield (
                        file.path,
                        file.image,
                        self._judge(shape, file.resized, anomaly_map, float(score), latency_ms),
                    )

    def maps_and_scores(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The inference path on images of the model's size.

        Args:
            pixels: uint8 [B, H, W, 3].

        Returns:
            anomaly maps, float32 [B, H, W], and scores, float64 [B].
        """
        return self.backend.maps_and_scores(pixels)

    def evaluate(self, data: str | Path, out: str | Path, **options: Any) -> dict[str, Any]:
        """Evaluate on a labelled test set; see :func:`shiftproof.pipelines.evaluate`. Returns ``metrics.json``."""
        from shiftproof.pipelines import evaluate

        return evaluate(self, Path(data), Path(out), **options).metrics

    def _decode(self, path: Path) -> _File:
        try:
            image = read_image(path)
        except ImageError as error:
            return _File(path, error)
        started = time.perf_counter()
        resized = resize_image(image, self.image_size)
        return _File(path, image, resized, (time.perf_counter() - started) * 1000)

    def _infer(
        self, held: list[_File]
    ) -> tuple[list[_File], Iterable[NDArray[np.float32]], Iterable[np.float64], float]:
        readable = [file.resized for file in held if file.resized is not None]
        if not readable:
            return held, (), (), 0.0
        started = time.perf_counter()
        maps, scores = self.maps_and_scores(np.stack(readable))
        return held, maps, scores, (time.perf_counter() - started) * 1000 / len(readable)

    def _judge(
        self,
        shape: tuple[int, ...],
        pixels: NDArray[np.uint8],
        anomaly_map: NDArray[np.float32],
        score: float,
        latency_ms: float,
    ) -> Inspection:
        size = (shape[0], shape[1])
        calibration = self.calibration if self.conditional is None else self.conditional.for_image(pixels)
        return Inspection(
            score=score,
            p_value=calibration.p_value(score),
            threshold=calibration.threshold,
            defective=calibration.is_defective(score),
            anomaly_map=resize_map(anomaly_map, size),
            mask=_resize_mask(anomaly_map > calibration.threshold, size),
            latency_ms=latency_ms,
            pixels=pixels,
        )


@dataclass(frozen=True)
class _File:
    """A file on its way through the pipeline."""

    path: Path
    image: NDArray[np.uint8] | ImageError  # at its own size
    resized: NDArray[np.uint8] | None = None  # at the model's
    latency_ms: float = 0.0  # that resizing took


def load(
    model: str | Path,
    backend: str = AUTO,
    *,
    correction: bool | None = None,
    threads: int | None = None,
    threshold_mode: str = "fixed",
) -> Detector:
    """Load a model folder; every file is checked against its hash first.

    Args:
        model: the folder.
        backend: "torch", "auto" or a name of :data:`~shiftproof.runtime.BACKENDS`; auto is the fastest that the model is
            exported for and that is installed, else torch.
        correction: False leaves out the model's shift correction (in torch), with the threshold that calibration
            images have without it; True requires it; None is as the model was trained.
        threads: of the processor to compute with; None for the backend's own choice.
        threshold_mode: "fixed", or "conditional": unusual images get a threshold for their conditions.

    Raises:
        ModelError: missing, damaged, written by a newer version, or without what shift correction or a conditional threshold
            needs. BackendError: not exported, or not installed, or not able to leave shift correction out.
    """
    if threshold_mode not in THRESHOLD_MODES:
        raise unknown("threshold mode", threshold_mode, THRESHOLD_MODES)
    folder = Path(model)
    manifest = load_manifest(folder)
    name = backend_for(folder, manifest, backend, correction)
    leave_out = correction is False and CALIBRATION_WITHOUT_CORRECTION in manifest
    try:
        calibration = Calibration.from_json(manifest[CALIBRATION_WITHOUT_CORRECTION if leave_out else CALIBRATION])
        conditional = None
        if threshold_mode == "conditional":
            if leave_out:
                raise ModelError(
                    f"{folder} has a shift-conditional threshold for images with shift correction, and correction is left out: "
                    "take the fixed threshold, or train with --correction none --conditional blind"
                )
            from shiftproof.calibration.conditional import load_conditional

            conditional = load_conditional(folder, manifest, calibration)
        if name == TORCH:
            from shiftproof.torch_backend import open_torch

            detector = Detector(open_torch(folder, manifest, threads), calibration, manifest, conditional)
            if leave_out:
                detector.method.use_correction(False)
            return detector
        return Detector(open_graph(name, folder, manifest, threads), calibration, manifest, conditional)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{folder} does not fit this version of shiftproof ({type(error).__name__}: {str(error).splitlines()[0][:100]}); "
            f"it was written by {manifest.get('shiftproof')}: install that version, or train again"
        ) from error


def backend_for(folder: Path, manifest: Mapping[str, Any], backend: str = AUTO, correction: bool | None = None) -> str:
    """The name of the backend that :func:`load` takes; arguments and errors are those of :func:`load`."""
    has_correction = CALIBRATION_WITHOUT_CORRECTION in manifest
    if correction and not has_correction:
        raise ModelError(
            f"{folder} was trained without shift correction and has no statistics for it: train it with --correction both"
        )
    leave_out = has_correction and correction is False
    if leave_out and backend not in (AUTO, TORCH):
        raise BackendError(f"shift correction is inside {backend}'s graph: leave it out with --backend torch")
    return choose_backend(folder, manifest, TORCH if leave_out else backend)


def resize_map(anomaly_map: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Bring a map [h, w] to an image's (height, width), bilinearly."""
    if anomaly_map.shape == size:
        return anomaly_map.copy()  # a view would keep its whole batch
    return np.array(Image.fromarray(anomaly_map).resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _resize_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Bring a mask to an image's size; a smaller image keeps every region, however small."""
    if mask.shape == size:
        return mask
    shrinks = size[0] < mask.shape[0] or size[1] < mask.shape[1]
    image = Image.fromarray(mask.astype(np.float32))
    resized = image.resize((size[1], size[0]), Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one shorter.

    >>> list(batched(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    held: list[Item] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def _as_image(image: str | Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or (image.ndim == 3 and image.shape[2] != 3)
        or 0 in image.shape
    ):
        raise ImageError(
            f"an array of shape {image.shape} and type {image.dtype} is no image: "
            "expected uint8, [H, W, 3] in RGB order or [H, W]"
        )
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
