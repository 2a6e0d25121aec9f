"""A version of a model that is loaded and served: its backend, its threshold, and how it is told from others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from shiftproof.calibration import Calibration
from shiftproof.detector import Detector
from shiftproof.drift import Reference, load_reference
from shiftproof.drift.reference import DRIFT
from shiftproof.errors import DataError, ModelError, UsageError
from shiftproof.model_io import MANIFEST, manifest_sha256
from shiftproof.service.store import Database, calibrations
from shiftproof.service.store.calibrations import StoredCalibration

LOG = logging.getLogger("shiftproof.service")
_DIGITS = 12  # of a version's hash that are shown

Loader = Callable[[Path], Detector]


@dataclass(frozen=True)
class ModelVersion:
    """A model as it is served."""

    name: str  # of the model
    version: str  # start of the manifest's SHA-256
    detector: Detector  # judges by the threshold in use
    calibrated: StoredCalibration  # the threshold in use
    reference: Reference | None = None  # what good images look like: the calibration's, or else the model's
    own_reference: Reference | None = None  # the model's; None where it has none

    @property
    def calibration(self) -> Calibration:
        """In use; not always the one that the model's folder holds."""
        return self.calibrated.calibration

    def with_calibration(self, calibrated: StoredCalibration, reference: Reference | None) -> ModelVersion:
        """The same model with another threshold, and what its good images looked like if they were not the model's."""
        detector = self.detector.with_calibration(calibrated.calibration)
        return replace(self, detector=detector, calibrated=calibrated, reference=reference or self.own_reference)


def open_version(name: str, folder: Path, database: Database, load: Loader) -> ModelVersion:
    """Load a model folder, with the threshold that the database holds for it, or else its own; it has run once then.

    Raises:
        ModelError, BackendError: as of :func:`shiftproof.load`.
    """
    detector = load(folder)
    version = manifest_sha256(detector.manifest)[:_DIGITS]
    # The first image would wait for what is compiled on first use: for one image, and for several at once.
    for count in (1, 2):
        detector.maps_and_scores(np.zeros((count, *detector.image_size, 3), np.uint8))
    with database.writing() as session:
        calibrated = calibrations.latest(session, name, version) or calibrations.add(
            session, name, version, detector.calibration, calibrations.TRAINING, datetime.now(UTC)
        )
        renewed = reference_of(session, calibrated)
    own = _reference(folder, detector.manifest)
    return ModelVersion(
        name, version, detector.with_calibration(calibrated.calibration), calibrated, renewed or own, own
    )


def reference_of(session: Session, calibrated: StoredCalibration) -> Reference | None:
    """What a calibration's good images looked like, where they were not the model's; None otherwise, or where it is damaged."""
    content = calibrations.reference_of(session, calibrated.id)
    try:
        return None if content is None else Reference.from_bytes(content)
    except DataError as error:
        LOG.warning("drift is watched by the model's own reference: %s", error)
        return None


def _reference(folder: Path, manifest: Mapping[str, Any]) -> Reference | None:
    """Of a model that has one; one that is damaged is no reason not to inspect."""
    if DRIFT not in manifest:
        return None
    try:
        return load_reference(folder, manifest)
    except ModelError as error:
        LOG.warning("drift is not watched: %s", error)
        return None


def model_names(folders: tuple[Path, ...]) -> dict[str, Path]:
    """The models by name.

    Raises:
        UsageError: no model, two of one name, or a name that does not fit into an address.

    >>> model_names((Path("models/screw"), Path("old/screw")))
    Traceback (most recent call last):
    shiftproof.errors.UsageError: models/screw and old/screw are both called 'screw': rename one of the folders
    """
    if not folders:
        raise UsageError("no model given: name one or more model folders")
    found: dict[str, Path] = {}
    for folder in folders:
        name = folder.resolve().name
        if not name.isprintable() or not name or "/" in name or len(name) > 100:
            raise UsageError(f"the folder's name {name!r} cannot be a model's: expected 1 to 100 printable characters")
        if name in found:
            raise UsageError(f"{found[name]} and {folder} are both called {name!r}: rename one of the folders")
        found[name] = folder
    return found


def fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file of a model folder does: names, sizes and times.

    Raises:
        ModelError: the folder cannot be looked at.
    """
    try:
        return tuple(
            sorted(
                (str(path.relative_to(folder)), status.st_size, status.st_mtime_ns)
                for path in folder.rglob("*")
                if (status := path.stat()) and path.is_file()
            )
        )
    except OSError as error:
        raise ModelError(f"cannot look at {folder / MANIFEST}: {error.strerror}; put the model back") from error
