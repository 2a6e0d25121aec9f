"""A trained model that inspects images: the one object behind ``predict``, ``evaluate``, the station and the Python API."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shiftproof.calibration import Calibration
from shiftproof.data import ImageProfile, decode_image, find_images, in_order, read_decoded, read_image, resize_image
from shiftproof.errors import BackendError, ImageError
from shiftproof.results import FailedInspection, Inspection, Verdict
from shiftproof.runtime import Backend

if TYPE_CHECKING:
    from shiftproof.calibration.conditional import ConditionalCalibration
    from shiftproof.methods import Method

BATCH = 8  # images that the networks take at once where many wait
BATCH_BYTES = 128 * 1024**2  # of their pixels as decoded; a batch of large images is a smaller one
Item = TypeVar("Item")
ImageSource: TypeAlias = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""A path, the content of an image file, a Pillow image, or uint8 [H, W, 3] (RGB) or [H, W] (gray)."""


class Detector:
    """A backend with its calibration, and the record of how the model was made.

    Args:
        backend: computes maps and scores, in torch or from an exported graph.
        calibration: threshold and p-values, from calibration images.
        manifest: content of ``model.json``.
        conditional: judges unusual images; None: the calibration judges all images.
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

    def __repr__(self) -> str:
        height, width = self.image_size
        mode = "" if self.conditional is None else ", shift-conditional"
        return (
            f"Detector({self.manifest.get('method')}, {width}x{height}, {self.backend.name}, "
            f"threshold {self.calibration.threshold:.4g}{mode})"
        )

    @property
    def bits(self) -> int | None:
        """Return the bits of values in 16-bit files, where training was told; None: their tags say it, or all 16."""
        bits: int | None = self.manifest.get("preprocessing", {}).get("bits")
        return bits

    @cached_property
    def profile(self) -> ImageProfile | None:
        """Return the kind of images that were trained on; None for a model that does not say."""
        kept = self.manifest.get("images")
        return None if kept is None else ImageProfile.from_json(kept)

    @property
    def image_size(self) -> tuple[int, int]:
        """Return height and width of the networks' input."""
        return self.backend.image_size

    @property
    def method(self) -> Method:
        """Return the networks; only torch has them.

        Raises:
            BackendError: another backend computes.
        """
        method: Method | None = getattr(self.backend, "method", None)
        if method is None:
            raise BackendError(
                f"the networks are inside {self.backend.name}'s graph: shiftproof.load(model, backend='torch') has them"
            )
        return method

    def with_calibration(self, calibration: Calibration) -> Detector:
        """Return a detector with the same backend and another calibration; shift-conditional thresholds stay."""
        conditional = self.conditional and replace(self.conditional, fixed=calibration)
        return Detector(self.backend, calibration, self.manifest, conditional)

    @overload
    def inspect(self, images: ImageSource) -> Inspection: ...  # type: ignore[overload-overlap]  # str is a sequence
    @overload
    def inspect(self, images: Sequence[ImageSource]) -> list[Inspection]: ...
    def inspect(self, images: ImageSource | Sequence[ImageSource]) -> Inspection | list[Inspection]:
        """Inspect one image or several.

        Args:
            images: one :data:`ImageSource`, or a sequence of them.

        Returns:
            an :class:`Inspection` for one image, a list of them for a sequence.

        Raises:
            ImageError: an image that cannot be read, or an array of another shape or type.
        """
        if isinstance(images, str | Path | bytes | Image.Image | np.ndarray):
            return next(self._inspect_all([images], 1))
        return list(self._inspect_all(images, BATCH))

    def predict(
        self, source: str | Path | Iterable[str | Path], *, batch_size: int = BATCH, threads: int | None = None
    ) -> Iterator[Inspection | FailedInspection]:
        """Inspect files; a file that cannot be read gives a :class:`FailedInspection`, and the others go on.

        Threads decode and resize the files, and the networks take a batch while the one before is judged.

        Args:
            source: a folder, searched for images, a file, or paths of files.
            batch_size: images that the networks take at once.
            threads: for decoding; None: one for each processor.

        Yields:
            results in the order of the paths.

        Raises:
            DataError: the folder has no images.
        """
        paths = find_images(Path(source)) if isinstance(source, str | Path) else map(Path, source)
        files = in_order(self._decode, paths, workers=threads, ahead=2 * batch_size, cost=_bytes_of)
        batches = batched(files, batch_size, weight=_bytes_of)
        for batch in in_order(self._infer, batches, workers=1, ahead=2):
            yield from map(self._result, batch)

    def stream(self, images: Iterable[NDArray[np.uint8]], batch: int = BATCH) -> Iterator[Inspection]:
        """Inspect images uint8 [H, W, 3] as they come, in order; no more than a batch of them is in memory."""
        return self._inspect_all(images, batch)

    def judge(self, score: float, pixels: NDArray[np.uint8]) -> Verdict:
        """Decide about an image: the one place where a score becomes a verdict.

        Args:
            score: of the image.
            pixels: uint8 [h, w, 3], the image at the size of the networks, for shift-conditional thresholds.

        Raises:
            DataError: the score is NaN.
        """
        calibration = self.calibration if self.conditional is None else self.conditional.for_image(pixels)
        score = float(score)
        return Verdict(score, calibration.p_value(score), calibration.threshold, calibration.is_defective(score))

    def maps_and_scores(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Compute anomaly maps and scores of images that have the size of the networks.

        Args:
            pixels: uint8 [B, H, W, 3].

        Returns:
            anomaly maps, float32 [B, H, W], and scores, float64 [B].
        """
        return self.backend.maps_and_scores(pixels)

    def _inspect_all(self, images: Iterable[ImageSource], batch: int) -> Iterator[Inspection]:
        for items in batched(images, batch):
            decoded = [self._resized(_path_of(item), _as_image(item, self.bits)) for item in items]
            for file in self._infer(decoded):
                result = self._result(file)
                assert isinstance(result, Inspection)
                yield result

    def _decode(self, path: Path) -> _File:
        try:
            decoded = read_decoded(path, bits=self.bits)
        except ImageError as error:
            return _File(path, error=error)
        file = self._resized(path, decoded.pixels)
        file.note = "" if self.profile is None else self.profile.difference(decoded.info)
        return file

    def _resized(self, path: Path | None, image: NDArray[np.uint8]) -> _File:
        started = time.perf_counter()
        pixels = resize_image(image, self.image_size)
        return _File(path, image, pixels, (time.perf_counter() - started) * 1000)

    def _infer(self, batch: list[_File]) -> list[_File]:
        """Add maps and scores to the files that could be read."""
        pixels = [file.pixels for file in batch if file.pixels is not None]
        if not pixels:
            return batch
        started = time.perf_counter()
        computed = zip(*self.maps_and_scores(np.stack(pixels)), strict=True)
        share = (time.perf_counter() - started) * 1000 / len(pixels)
        for file in batch:
            if file.pixels is not None:
                file.anomaly_map, file.score = next(computed)
                file.latency_ms += share
        return batch

    def _result(self, file: _File) -> Inspection | FailedInspection:
        if file.error is not None:
            assert file.path is not None
            return FailedInspection(file.path, file.error)
        assert file.image is not None
        assert file.pixels is not None
        assert file.anomaly_map is not None
        verdict = self.judge(file.score, file.pixels)
        size = (file.image.shape[0], file.image.shape[1])
        return Inspection(
            verdict.score,
            verdict.p_value,
            verdict.threshold,
            verdict.defective,
            anomaly_map=resize_map(file.anomaly_map, size),
            mask=_resize_mask((file.anomaly_map > verdict.threshold) & verdict.defective, size),
            latency_ms=file.latency_ms,
            pixels=file.pixels,
            image=file.image,
            path=file.path,
            map_range=(self.calibration.map_low, self.calibration.map_high),
            note=file.note,
        )


@dataclass
class _File:
    """An image on its way from file to result."""

    path: Path | None
    image: NDArray[np.uint8] | None = None  # at its own size; None: it cannot be read
    pixels: NDArray[np.uint8] | None = None  # at the size of the networks
    latency_ms: float = 0.0
    anomaly_map: NDArray[np.float32] | None = None  # at the size of the networks
    score: float = 0.0
    error: ImageError | None = None
    note: str = ""  # how it differs in kind from those trained on


def _bytes_of(file: _File) -> int:
    return 0 if file.image is None else file.image.nbytes


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


def batched(
    items: Iterable[Item], size: int, weight: Callable[[Item], int] | None = None, most: int = BATCH_BYTES
) -> Iterator[list[Item]]:
    """Yield lists of ``size`` items, the last one shorter; with a ``weight``, a list ends where it weighs ``most``.

    >>> list(batched(range(5), 2))
    [[0, 1], [2, 3], [4]]
    >>> list(batched([1, 1, 5, 1], 4, weight=int, most=2))
    [[1, 1], [5], [1]]
    """
    batch: list[Item] = []
    total = 0
    for item in items:
        batch.append(item)
        total += 0 if weight is None else weight(item)
        if len(batch) == size or total >= most:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _path_of(source: ImageSource) -> Path | None:
    return Path(source) if isinstance(source, str | Path) else None


def _as_image(source: ImageSource, bits: int | None) -> NDArray[np.uint8]:
    """Return an image source as uint8 [H, W, 3]."""
    if isinstance(source, str | Path):
        return read_image(Path(source), bits=bits)
    if isinstance(source, bytes):
        return decode_image(source, "the image", bits=bits)
    if isinstance(source, Image.Image):
        return _from_pillow(source, bits)
    if (
        source.dtype != np.uint8
        or source.ndim not in (2, 3)
        or (source.ndim == 3 and source.shape[2] != 3)
        or 0 in source.shape
    ):
        raise ImageError(
            f"an array of shape {source.shape} and type {source.dtype} is no image: "
            "expected uint8, [H, W, 3] in RGB order or [H, W]"
        )
    return np.repeat(source[..., None], 3, axis=2) if source.ndim == 2 else source


def _from_pillow(image: Image.Image, bits: int | None) -> NDArray[np.uint8]:
    """Decode a Pillow image as its file would be: the same modes, transparency and orientation."""
    content = io.BytesIO()
    try:
        image.save(content, "PNG", compress_level=1, exif=image.getexif())
    except OSError as error:
        raise ImageError(
            f"a Pillow image of mode {image.mode} is not supported ({error}): convert it to RGB"
        ) from error
    return decode_image(content.getvalue(), "the Pillow image", bits=bits)
