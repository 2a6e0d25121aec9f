"""A threshold for an image that does not look like those which the frozen one was placed with.

The frozen threshold holds for good images that are like the held-out ones. Once light, focus or noise have drifted, the scores
of good images drift along, and it is either passed by all of them or out of reach for every defect. What has drifted can be
measured on the image itself, without a label (:mod:`shiftproof.drift.statistics`). So each held-out image is shifted in many
ways once, and the look and the score of every version are kept. An image that looks as usual is judged by the frozen
threshold. For any other one, each held-out image stands in its *nearest* look: as many scores as there are held-out images,
of good parts that look like this one, and the threshold is placed among them by the rule of the frozen one.

This is conformal prediction conditional on the look (Vovk, 2012; localised: Guan, Biometrika 110, 2023). It would hold exactly
if the score of a good image depended on its drift through its look alone and every look were among the versions. Neither is
quite so, and how far off it is has to be measured: on families of shifts that were left out.
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
"""The shifts that held-out images are brought under."""
MOST_IMAGES = 128  # held-out images that are shifted; more of them would certify more, and take longer
Scorer = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


@dataclass(frozen=True)
class ConditionalCalibration:
    """Looks and scores of held-out good images, as they are and shifted."""

    trained: NDArray[np.float64]  # [N, 18]: statistics of training images, which say how looks are measured
    looks: NDArray[np.float64]  # [M, V, 18]: of each version of each held-out image; the first is the image as it is
    scores: NDArray[np.float64]  # [M, V]: their image scores
    frozen: Calibration
    reference: Reference = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        shape = self.looks.shape
        if len(shape) != 3 or shape[:2] != self.scores.shape or 0 in shape or not np.isfinite(self.scores).all():
            raise DataError(
                f"looks of shape {shape} and scores of shape {self.scores.shape}: expected [images, versions, "
                f"{len(STATISTICS)}] and [images, versions], finite: train the model again"
            )
        object.__setattr__(self, "reference", Reference(self.trained, self.looks[:, 0]))

    @classmethod
    def measure(
        cls,
        images: Sequence[Path],
        size: tuple[int, int],
        score: Scorer,
        frozen: Calibration,
        trained: NDArray[np.float64],
        *,
        families: Sequence[str],
        seed: int,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> ConditionalCalibration:
        """Shift held-out images at their own size, at every severity, measure them and score them.

        Args:
            images: files of held-out good images; :data:`MOST_IMAGES` of them at most are read.
            size: (height, width) of the model.
            score: from uint8 [B, height, width, 3] to image scores, float64 [B].
            frozen: what images that look as usual are judged by.
            trained: statistics of training images, [N, 18].
            families: names of shifts.
            seed: of what is random in the shifts, and of which images are taken of very many.
            on_progress: is told (images done, images in all).

        Raises:
            ImageError: a file that can no longer be read.
        """
        random = np.random.default_rng(seed)
        chosen = [images[i] for i in np.sort(random.permutation(len(images))[:MOST_IMAGES])]
        looks, scores = [], []
        for done, path in enumerate(chosen, start=1):
            image = read_image(path)
            versions = [resize_image(image, size)]
            for family in families:
                versions += [_shifted(image, family, severity, size, seed, path.name) for severity in SEVERITIES]
            looks.append([measure(version) for version in versions])
            scores.append(score(np.stack(versions)))
            on_progress(done, len(chosen))
        return cls(trained, np.array(looks), np.array(scores, dtype=np.float64), frozen)

    def unusual(self, statistics: NDArray[np.float64]) -> bool:
        """Whether an image of these statistics, float64 [18], looks less like the training images than every held-out one."""
        return self.reference.distance(statistics) > self.reference.distances[-1]

    def at(self, statistics: NDArray[np.float64]) -> Calibration:
        """What an image is judged by.

        Args:
            statistics: of the image at the model's size, float64 [18], from :func:`shiftproof.drift.measure`.

        Returns:
            the frozen calibration where the image looks as usual; else one whose threshold, bound and p-values come
            from the held-out images in their nearest looks. The bound holds among images for which these stand.
        """
        if not self.unusual(statistics):
            return self.frozen
        nearest = np.square(self._positions - self.reference.standardize(statistics)).sum(axis=-1).argmin(axis=1)
        return Calibration.from_scores(
            self.scores[np.arange(len(nearest)), nearest],
            target=self.frozen.target,
            confidence=self.frozen.confidence,
            map_low=self.frozen.map_low,
            map_high=self.frozen.map_high,
        )

    def for_image(self, pixels: NDArray[np.uint8]) -> Calibration:
        """The same of an image uint8 [h, w, 3] of the model's size."""
        return self.at(measure(pixels))

    @cached_property
    def _positions(self) -> NDArray[np.float64]:
        """Where the looks lie, in spreads of the good images, [M, V, 18]."""
        return self.reference.standardize(self.looks)

    def to_bytes(self) -> bytes:
        """As a safetensors file; the frozen calibration is in the manifest."""
        tensors = {"trained": self.trained, "looks": self.looks, "scores": self.scores}
        return safetensors.numpy.save({name: np.ascontiguousarray(each) for name, each in tensors.items()})

    def describe(self, protocol: str) -> dict[str, Any]:
        """What ``model.json`` says of it."""
        return {
            "file": CONDITIONAL_FILE,
            "statistics": [statistic.name for statistic in STATISTICS],
            "protocol": protocol,
            "families": list(FAMILIES[protocol]),
            "images": self.scores.shape[0],
            "versions": self.scores.shape[1],
        }


def families_of(protocol: str) -> tuple[str, ...]:
    """The shifts of a protocol, by its name; UsageError where there is none of that name."""
    if protocol not in FAMILIES:
        raise unknown("conditional calibration", protocol, ("none", *FAMILIES))
    return FAMILIES[protocol]


def load_conditional(folder: Path, manifest: Mapping[str, Any], frozen: Calibration) -> ConditionalCalibration:
    """The conditional calibration in a model folder, which :func:`~shiftproof.model_io.load_manifest` has checked.

    Raises:
        ModelError: the model has none, or one of other statistics than this version measures.
    """
    about = manifest.get(CONDITIONAL)
    mend = "train it with --conditional blind, or --conditional production"
    if about is None:
        raise ModelError(
            f"{folder} holds no threshold for drifted images: {mend}; or leave --threshold conditional out"
        )
    if about.get("statistics") != [statistic.name for statistic in STATISTICS]:
        raise ModelError(f"{folder} knows looks by other statistics than this version of shiftproof measures: {mend}")
    path = folder / CONDITIONAL_FILE
    try:
        tensors = safetensors.numpy.load(path.read_bytes())
        return ConditionalCalibration(tensors["trained"], tensors["looks"], tensors["scores"], frozen)
    except (OSError, KeyError, DataError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy the model folder again, or train it again") from error


def _shifted(
    image: NDArray[np.uint8], family: str, severity: int, size: tuple[int, int], seed: int, name: str
) -> NDArray[np.uint8]:
    """A version of an image at the model's size; where the shift cannot be had of it (colour of gray), the image as it is."""
    with suppress(ShiftNotApplicable):
        image = apply_shift(family, image, None, severity, image_seed(seed, f"{family}-{severity}", name)).image
    return resize_image(image, size)
