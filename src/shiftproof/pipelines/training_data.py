"""The images of a training: which are trained on, which calibrate, and what they look like as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.calibration import split_calibration
from shiftproof.config import TrainConfig
from shiftproof.data import (
    DecodedImages,
    ImageProfile,
    calibration_images,
    decode_images,
    good_images,
    said_of_folders,
    said_of_passed_over,
)
from shiftproof.drift.reference import Reference, make_reference
from shiftproof.errors import DataError, UsageError
from shiftproof.reporter import Reporter


@dataclass(frozen=True)
class Selection:
    """Paths of good images, split into training and calibration."""

    data: Path
    train: list[Path]
    calibration: list[Path]
    calibration_from: str  # where the calibration images come from, in words
    cross_fit: bool = False  # the calibration images are the training images: each is scored as if it were none


@dataclass(frozen=True)
class TrainingImages:
    """Decoded good images, and the drift reference that is made of them."""

    name: str  # of the data set
    good: DecodedImages  # the images to train on
    calibration: DecodedImages
    calibration_from: str
    cross_fit: bool
    reference: Reference
    drift: Mapping[str, Any]  # facts on the reference for ``model.json``

    def facts(self, textures_fingerprint: str | None) -> dict[str, Any]:
        """Return the facts on the data for ``model.json``."""
        return {
            "name": self.name,
            "train_images": len(self.good.pixels),
            "calibration_images": len(self.calibration.pixels),
            "calibration_from": self.calibration_from,
            "fingerprint": self.good.fingerprint,
            "calibration_fingerprint": self.calibration.fingerprint,
            "textures_fingerprint": textures_fingerprint,  # None: textures were generated, or none were needed
            "unreadable": [str(path) for path, _ in (*self.good.failures, *self.calibration.failures)],
        }


def select_images(data: Path, layout: str, calibration: Path | None, seed: int, cross_fit: bool = False) -> Selection:
    """Select the images to train on and those to calibrate with.

    Args:
        data: the data set.
        layout: of ``data``, or "auto".
        calibration: folder of more good images.
        seed: of the split.
        cross_fit: whether the method can calibrate with its training images, so that no split is needed.

    Raises:
        DataError: too few images.
        UsageError: calibration images that are training images as well.
    """
    paths = good_images(data, layout)
    if calibration is not None:
        further = good_images(calibration)
        _refuse_shared(paths, further)
        return Selection(data, paths, further, str(calibration))
    if own := calibration_images(data, layout):
        return Selection(data, paths, own, "the data set's own validation images")
    if len(paths) < 3:
        raise DataError(
            f"{data} holds {len(paths)} good image{'s'[: len(paths) != 1]}: expected 3 at least, "
            "two to train on and one to place the threshold; add images"
        )
    if cross_fit:
        return Selection(data, paths, paths, "all good images, each scored without itself", cross_fit=True)
    train, rest = split_calibration(len(paths), seed)
    return Selection(data, [paths[i] for i in train], [paths[i] for i in rest], "a random part of the good images")


def report_selection(selection: Selection, calibration_is_data: bool, reporter: Reporter) -> None:
    """Report how many images are from which folder, and which files were passed over."""
    further = selection.calibration if calibration_is_data and not selection.cross_fit else []
    reporter.info(said_of_folders(selection.data, [*selection.train, *further]))
    if passed_over := said_of_passed_over(selection.data):
        reporter.warning(f"{selection.data}: {passed_over}")


def prepare_data(
    selection: Selection, config: TrainConfig, bits: int | None, scratch: Path, reporter: Reporter
) -> TrainingImages:
    """Decode the selected images, report what is wrong with them, and make the drift reference.

    Args:
        selection: paths.
        config: image size and seed.
        bits: of the values in 16-bit files whose tags do not say it.
        scratch: folder for decoded pixels that do not fit into memory.
        reporter: receives progress and warnings.

    Raises:
        DataError: fewer than two readable images to train on.
    """
    good = _decode(selection.train, config, scratch, "decoding", reporter, bits)
    _judge_kind(selection.data, good.profile, reporter)
    calibration = good
    if selection.cross_fit:
        _warn_of_repeats(good, reporter)
    else:
        calibration = _decode(selection.calibration, config, scratch, "decoding calibration images", reporter, bits)
        _warn_of_copies(good, calibration, reporter)
    if len(good.pixels) < 2:
        raise DataError(f"{selection.data} holds 1 readable good image to train on: expected 2 at least; add images")
    # The reference does not depend on the networks, so that training images can be part of it.
    first, second = good.pixels, calibration.pixels
    if selection.cross_fit:
        first, second = (good.pixels[part] for part in split_calibration(len(good.pixels), config.seed))
    reference, drift = make_reference(first, second, np.random.default_rng([config.seed, 3]))
    name, cross_fit = selection.data.resolve().name, selection.cross_fit
    return TrainingImages(name, good, calibration, selection.calibration_from, cross_fit, reference, drift)


def _refuse_shared(train: list[Path], calibration: list[Path]) -> None:
    shared = {path.resolve() for path in train} & {path.resolve() for path in calibration}
    if shared:
        raise UsageError(
            f"{len(shared)} calibration images are training images as well, e.g. {min(shared)}: "
            "a threshold needs good images that the model has not seen"
        )


def _warn_of_copies(good: DecodedImages, calibration: DecodedImages, reporter: Reporter) -> None:
    """Warn of calibration images that are copies of training images: the threshold would be too low."""
    trained = dict(zip(good.digests, good.paths, strict=True))
    pairs = zip(calibration.digests, calibration.paths, strict=True)
    copies = [(path, trained[digest]) for digest, path in pairs if digest in trained]
    if copies:
        reporter.warning(
            f"{len(copies)} of {len(calibration.paths)} calibration images are copies of training images, e.g. "
            f"{copies[0][0]} of {copies[0][1]}: the threshold may be too low; remove copies, or give other images with "
            "--calibration"
        )


def _warn_of_repeats(good: DecodedImages, reporter: Reporter) -> None:
    """Warn of good images that are copies of one another: each would be scored with its copy in the memory bank."""
    first: dict[str, Path] = {}
    pairs = zip(good.digests, good.paths, strict=True)
    copies = [(path, first[digest]) for digest, path in pairs if first.setdefault(digest, path) != path]
    if copies:
        reporter.warning(
            f"{len(copies)} of {len(good.paths)} good images are copies of others, e.g. {copies[0][0]} of "
            f"{copies[0][1]}: the threshold may be too low; remove copies, or give other images with --calibration"
        )


def _judge_kind(data: Path, profile: ImageProfile, reporter: Reporter) -> None:
    """Report what looks wrong about the kind of images; refuse those from which nothing can be learned."""
    if profile.constant == profile.images:
        raise DataError(f"{data}: every image is of one color, so nothing can be learned; look at one of them")
    for line in profile.remarks():
        reporter.warning(line)


def _decode(
    paths: list[Path], config: TrainConfig, scratch: Path, phase: str, reporter: Reporter, bits: int | None
) -> DecodedImages:
    on_progress = reporter.counter(phase)
    images = decode_images(paths, config.image_size, scratch=scratch, bits=bits, on_progress=on_progress)
    for _, reason in images.failures:
        reporter.warning(f"left out: {reason}")
    return images
