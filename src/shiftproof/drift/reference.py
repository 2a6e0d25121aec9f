"""What good images look like as a whole: the reference that a stream of images is compared with, kept in the model folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from shiftproof.data import decode_images
from shiftproof.drift.statistics import GROUPS, RESOLUTIONS, STATISTICS, measure
from shiftproof.errors import DataError, ModelError
from shiftproof.model_io import save_reference

REFERENCE = "drift.safetensors"  # file in a model folder
DRIFT = "drift"  # key of model.json
MOST = 2048  # good images that a reference keeps
FLOOR = 4  # resolutions: sigma is never less than this, or the rounding of 8 bits would count as a drift
LIMIT = 8.0  # sigma: what lies further off tells no more of how statistics go together
CORRECTED = (
    "light",
    "contrast",
    "colour",
    "sharpness",
    "noise",
)  # groups that image correction corrects, within its limits


@dataclass(frozen=True)
class Reference:
    """Statistics of good images; everything else follows from them."""

    trained: NDArray[np.float64]  # [N, 18], N >= 1: of images that give the center and sigma of each statistic
    calibration: NDArray[np.float64]  # [M, 18], M >= 1: of others, that say how far from there good images come to lie

    def __post_init__(self) -> None:
        for values in (self.trained, self.calibration):
            if (
                values.ndim != 2
                or values.shape[1] != len(STATISTICS)
                or not len(values)
                or not np.isfinite(values).all()
            ):
                raise DataError(
                    f"statistics of good images of shape {values.shape}: expected one image at least, {len(STATISTICS)} "
                    "finite numbers each; measure them with shiftproof.drift.measure"
                )

    @classmethod
    def from_images(cls, trained: Iterable[NDArray[np.uint8]], calibration: Iterable[NDArray[np.uint8]]) -> Reference:
        """Measure images uint8 [H, W, 3] of the model's size; the two must not overlap. DataError where one is empty."""
        few = (np.array([measure(image) for image in images]) for images in (trained, calibration))
        return cls(*(values.reshape(len(values), -1) for values in few))

    @property
    def good(self) -> NDArray[np.float64]:
        """Statistics of all good images, [N + M, 18]."""
        return np.concatenate([self.trained, self.calibration])

    @cached_property
    def center(self) -> NDArray[np.float64]:
        """Median of each statistic, [18]."""
        return np.asarray(np.median(self.trained, axis=0))

    @cached_property
    def sigma(self) -> NDArray[np.float64]:
        """Robust standard deviation of each, [18]: 1.4826 times the median absolute deviation, never below a floor."""
        deviation = 1.4826 * np.median(np.abs(self.trained - self.center), axis=0)
        return np.asarray(np.maximum(deviation, FLOOR * RESOLUTIONS))

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """Shift measures of the calibration images, ascending, [M]."""
        return np.sort([self.distance(values) for values in self.calibration])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the statistics: a monitor's state belongs to one reference."""
        return hashlib.sha256(self.trained.tobytes() + self.calibration.tobytes()).hexdigest()

    def standardize(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far statistics [..., 18] lie from good images', signed, in sigma."""
        return np.asarray((statistics - self.center) / self.sigma)

    def distance(self, statistics: NDArray[np.float64]) -> float:
        """The shift measure of one image: a regularised Mahalanobis distance over the root of the number of statistics.

        About 1 for a good image. The correlations are shrunk towards none by C / (C + N), C statistics of N images.
        """
        deviation = self.standardize(statistics)
        return float(np.sqrt(deviation @ self._precision @ deviation / len(STATISTICS)))

    def p_value(self, distance: float) -> float:
        """Share of calibration images, and this one, that lie as far off: conformal, in [1 / (M + 1), 1]."""
        reached = len(self.distances) - np.searchsorted(self.distances, distance, side="left")
        return float((1 + reached) / (len(self.distances) + 1))

    def by_group(self, statistics: NDArray[np.float64]) -> dict[str, float]:
        """For each group, the signed deviation in sigma of the statistic of it that lies furthest off."""
        return furthest(self.standardize(statistics))

    @cached_property
    def _precision(self) -> NDArray[np.float64]:
        deviations = self.standardize(self.trained).clip(-LIMIT, LIMIT)
        count, size = deviations.shape
        weight = size / (size + count)
        moments = (1 - weight) * (deviations.T @ deviations) / count + weight * np.eye(size)
        return np.asarray(np.linalg.inv(moments))

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        tensors = {"calibration": self.calibration, "trained": self.trained}
        return safetensors.numpy.save({name: np.ascontiguousarray(each) for name, each in tensors.items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> Reference:
        """The reference that :meth:`to_bytes` wrote; DataError where it is damaged, or of other statistics."""
        try:
            tensors = safetensors.numpy.load(content)
            return cls(tensors["trained"], tensors["calibration"])
        except (KeyError, safetensors.SafetensorError) as error:
            raise DataError(f"no reference of good images ({error}): make it again from good images") from error


def furthest(deviations: NDArray[np.float64]) -> dict[str, float]:
    """For each group, of its deviations (float64 [18], in sigma) the one that is furthest from 0."""
    found: dict[str, float] = dict.fromkeys(GROUPS, 0.0)
    for statistic, value in zip(STATISTICS, deviations.tolist(), strict=True):
        if abs(value) > abs(found[statistic.group]):
            found[statistic.group] = value
    return found


def make_reference(
    trained: NDArray[np.uint8], calibration: NDArray[np.uint8], random: np.random.Generator
) -> tuple[Reference, dict[str, Any]]:
    """The reference from images uint8 [N, H, W, 3] of the model's size, and what ``model.json`` says of it.

    Of very many images, :data:`MOST` are drawn.
    """
    share = MOST / max(len(trained) + len(calibration), MOST)
    reference = Reference.from_images(_drawn(trained, share, random), _drawn(calibration, share, random))
    return reference, describe(reference)


def _drawn(images: NDArray[np.uint8], share: float, random: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """A share of the images, one at least, in their order."""
    for index in np.sort(random.permutation(len(images))[: max(1, round(share * len(images)))]):
        yield images[index]


def describe(reference: Reference) -> dict[str, Any]:
    """What ``model.json`` says of a reference: its file, what is in it, and of how many images."""
    return {
        "file": REFERENCE,
        "statistics": [statistic.name for statistic in STATISTICS],
        "images": len(reference.trained) + len(reference.calibration),
    }


def reference_of_files(
    paths: list[Path],
    size: tuple[int, int],
    *,
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Reference:
    """A reference from files of good images: half of them, drawn by the seed, stand for the calibration ones.

    Args:
        paths: two at least.
        size: (height, width) of the model.
        seed: of the draw.
        on_progress: is told (images done, images in all).

    Raises:
        DataError: fewer than two images that can be read.
    """
    images = decode_images(paths, size, on_progress=on_progress).pixels
    if len(images) < 2:
        raise DataError(f"{len(images)} good image for a reference: expected 2 at least, better 60; add images")
    order = np.random.default_rng([seed, 3]).permutation(len(images))
    half = len(order) // 2
    return make_reference(images[np.sort(order[half:])], images[np.sort(order[:half])], np.random.default_rng(seed))[0]


def write_reference(folder: str | Path, reference: Reference) -> None:
    """Put a reference into a model folder, in place of the one that it may hold; ModelError where that cannot be written."""
    save_reference(Path(folder), DRIFT, REFERENCE, reference.to_bytes(), describe(reference))


def load_reference(folder: str | Path, manifest: Mapping[str, Any]) -> Reference:
    """The reference in a model folder, which :func:`~shiftproof.model_io.load_manifest` has checked.

    Raises:
        ModelError: the model has none, or one of other statistics than this version measures.
    """
    about = manifest.get(DRIFT)
    fix = "train it again, or give good images: shiftproof drift MODEL DIR --reference GOOD_IMAGES"
    if about is None:
        raise ModelError(f"{folder} holds no reference for drift (it is from before there was one): {fix}")
    if about.get("statistics") != [statistic.name for statistic in STATISTICS]:
        raise ModelError(
            f"{folder} holds a reference of other statistics than this version of shiftproof measures: {fix}"
        )
    path = Path(folder) / REFERENCE
    try:
        return Reference.from_bytes(path.read_bytes())
    except (OSError, DataError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy the model folder again, or train it again") from error


def corrected_groups(manifest: Mapping[str, Any], *, correction: bool = True) -> tuple[str, ...]:
    """Return the groups whose drift the image correction of a model corrects, within limits.

    Args:
        manifest: content of ``model.json``.
        correction: False where the model is used without.
    """
    kind = manifest.get("config", {}).get("method", {}).get("correction", "none")
    return CORRECTED if correction and kind in ("image", "both") else ()
