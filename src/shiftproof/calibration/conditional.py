"""Shift-conditional thresholds: unusual images get a threshold for their conditions.

The fixed threshold holds for good images that are like the calibration images. When light, focus or noise drift, the scores of
good images drift too: all of them exceed the threshold, or no defect reaches it. Image statistics measure such drift without
a label (:mod:`shiftproof.drift.statistics`). After the training each calibration image is shifted in many ways, and the
statistics and the score of every version are kept. The fixed threshold judges every usual image. For an unusual image, each
calibration image is represented by the version with the *nearest* statistics. The threshold is placed among their scores by
the certified rule.

This is conformal prediction conditional on image statistics (Vovk, 2012; localized: Guan, Biometrika 110, 2023). It would be
exact if the score of a good image depended on its drift through the statistics alone, and if the versions contained all
statistics. Neither is quite true. How far off it is has to be measured on families of shifts that were left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from shiftproof.calibration.conformal import Calibration
from shiftproof.data import read_image, resize_image
from shiftproof.drift import STATISTICS, Reference, measure
from shiftproof.errors import DataError, ModelError, unknown
from shiftproof.shifts import PAPER_SHIFTS, SEVERITIES, SHIFTS, ShiftNotApplicable, apply_shift, image_seed

CONDITIONAL = "conditional"  # key of model.json
CONDITIONAL_FILE = "conditional.safetensors"  # file in a model folder
PRODUCTION = tuple(name for name in SHIFTS if name != "rotation_gray")  # whose gray corners no camera makes
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "blind": tuple(name for name in PRODUCTION if name not in PAPER_SHIFTS),  # nothing of what the papers test by
    "production": PRODUCTION,
}
"""The shifts that are applied to calibration images."""
MOST_IMAGES = 128  # calibration images that are shifted; more of them would certify more, and take longer
Scorer = Callable[[int, NDArray[np.uint8]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class ConditionalCalibration:
    """Statistics and scores of calibration images, unchanged and shifted."""

    trained: NDArray[np.float64]  # [N, 18]: statistics of training images, which define the scale
    statistics: NDArray[
        np.float64
    ]  # [M, V, 18]: of each version of each calibration image; the first is the image as it is
    scores: NDArray[np.float64]  # [M, V]: their image scores
    fixed: Calibration  # judges usual images
    reference: Reference = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shape = self.statistics.shape
        if len(shape) != 3 or shape[:2] != self.scores.shape or 0 in shape or not np.isfinite(self.scores).all():
            raise DataError(
                f"statistics of shape {shape} and scores of shape {self.scores.shape}: expected [images, versions, "
                f"{len(STATISTICS)}] and [images, versions], finite: train the model again"
            )
        object.__setattr__(self, "reference", Reference(self.trained, self.statistics[:, 0]))

    @classmethod
    def measure(
        cls,
        images: Sequence[Path],
        size: tuple[int, int],
        score: Scorer,
        fixed: Calibration,
        trained: NDArray[np.float64],
        *,
        families: Sequence[str],
        seed: int,
        bits: int | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> ConditionalCalibration:
        """Shift calibration images at their own size, at every severity, measure them and score them.

        Args:
            images: files of calibration images; :data:`MOST_IMAGES` of them at most are read.
            size: (height, width) of the model.
            score: from the index of an image and versions of it, uint8 [B, height, width, 3], to image scores, float64 [B].
            fixed: judges usual images.
            trained: statistics of training images, [N, 18].
            families: names of shifts.
            seed: of what is random in the shifts, and of which images are taken of very many.
            bits: of the values in 16-bit files whose tags say nothing else.
            on_progress: receives (images done, images in all).

        Raises:
            ImageError: a file that can no longer be read.
        """
        rng = np.random.default_rng(seed)
        selected = np.sort(rng.permutation(len(images))[:MOST_IMAGES]).tolist()
        statistics, scores = [], []
        for done, index in enumerate(selected, start=1):
            path = images[index]
            image = read_image(path, bits=bits)
            versions = [resize_image(image, size)]
            for family in families:
                versions += [_shifted(image, family, severity, size, seed, path.name) for severity in SEVERITIES]
            statistics.append([measure(version) for version in versions])
            scores.append(score(index, np.stack(versions)))
            on_progress(done, len(selected))
        return cls(trained, np.array(statistics), np.array(scores, dtype=np.float64), fixed)

    def unusual(self, statistics: NDArray[np.float64]) -> bool:
        """Whether statistics, float64 [18], are farther from the training images than those of every calibration image."""
        return self.reference.distance(statistics) > self.reference.distances[-1]

    def at(self, statistics: NDArray[np.float64]) -> Calibration:
        """Return the calibration for an image.

        Args:
            statistics: of the image at the model's size, float64 [18], from :func:`shiftproof.drift.measure`.

        Returns:
            the fixed calibration for a usual image; else one whose threshold, bound and p-values come from the versions of
            the calibration images with the nearest statistics.
        """
        if not self.unusual(statistics):
            return self.fixed
        nearest = np.square(self._positions - self.reference.standardize(statistics)).sum(axis=-1).argmin(axis=1)
        return Calibration.from_scores(
            self.scores[np.arange(len(nearest)), nearest],
            target=self.fixed.target,
            confidence=self.fixed.confidence,
            rule="certified",  # the expected rule raised far more false alarms than asked for under unknown shifts
            map_low=self.fixed.map_low,
            map_high=self.fixed.map_high,
        )

    def for_image(self, pixels: NDArray[np.uint8]) -> Calibration:
        """Return the calibration for an image uint8 [h, w, 3] of the model's size."""
        return self.at(measure(pixels))

    @cached_property
    def _positions(self) -> NDArray[np.float64]:
        """The statistics in sigma of the good images, [M, V, 18]."""
        return self.reference.standardize(self.statistics)

    def to_bytes(self) -> bytes:
        """Return a safetensors file; the fixed calibration is in the manifest."""
        tensors = {"trained": self.trained, "statistics": self.statistics, "scores": self.scores}
        return safetensors.numpy.save({name: np.ascontiguousarray(each) for name, each in tensors.items()})

    def describe(self, protocol: str) -> dict[str, Any]:
        """Return the entry for ``model.json``."""
        return {
            "file": CONDITIONAL_FILE,
            "statistics": [statistic.name for statistic in STATISTICS],
            "protocol": protocol,
            "families": list(FAMILIES[protocol]),
            "images": self.scores.shape[0],
            "versions": self.scores.shape[1],
        }


def families_of(protocol: str) -> tuple[str, ...]:
    """Return the shifts of a protocol; UsageError for an unknown name."""
    if protocol not in FAMILIES:
        raise unknown("conditional calibration", protocol, ("none", *FAMILIES))
    return FAMILIES[protocol]


def load_conditional(folder: Path, manifest: Mapping[str, Any], fixed: Calibration) -> ConditionalCalibration:
    """Read the conditional calibration of a model folder, which :func:`~shiftproof.model_io.load_manifest` has checked.

    Raises:
        ModelError: there is none, or its statistics are not those of this version.
    """
    record = manifest.get(CONDITIONAL)
    fix = "train it with --conditional blind, or --conditional production"
    if record is None:
        raise ModelError(
            f"{folder} has no shift-conditional threshold: {fix}; or leave --threshold-mode conditional out"
        )
    if record.get("statistics") != [statistic.name for statistic in STATISTICS]:
        raise ModelError(
            f"{folder} was calibrated with other image statistics than those of this version of shiftproof: {fix}"
        )
    path = folder / CONDITIONAL_FILE
    try:
        tensors = safetensors.numpy.load(path.read_bytes())
        return ConditionalCalibration(tensors["trained"], tensors["statistics"], tensors["scores"], fixed)
    except (OSError, KeyError, DataError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy the model folder again, or train it again") from error


def _shifted(
    image: NDArray[np.uint8], family: str, severity: int, size: tuple[int, int], seed: int, name: str
) -> NDArray[np.uint8]:
    """A version of an image at the model's size; where the shift cannot be had of it (color of gray), the image as it is."""
    with suppress(ShiftNotApplicable):
        image = apply_shift(family, image, None, severity, image_seed(seed, f"{family}-{severity}", name)).image
    return resize_image(image, size)
