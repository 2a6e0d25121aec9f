"""Show or move the threshold of a finished model; no training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.calibration import Calibration, images_expected, images_needed
from shiftproof.data import good_images
from shiftproof.detector import Detector
from shiftproof.errors import DataError, UsageError
from shiftproof.loading import CALIBRATION, CALIBRATION_WITHOUT_CORRECTION
from shiftproof.model_io import load_manifest, update_manifest
from shiftproof.results import FailedInspection

HISTORY = "threshold_history"  # key of model.json: the former thresholds, oldest first


@dataclass(frozen=True)
class Moved:
    """A threshold before and after."""

    former: Calibration
    current: Calibration
    remarks: Sequence[str]  # what to know before relying on it


def read_threshold(model: Path) -> tuple[Calibration, list[dict[str, Any]]]:
    """Return the calibration of a model and the former thresholds, oldest first."""
    manifest = load_manifest(model)
    return Calibration.from_json(manifest[CALIBRATION]), list(manifest.get(HISTORY, []))


def move_threshold(
    model: Path,
    *,
    target: float | None = None,
    rule: str | None = None,
    value: float | None = None,
    further: Sequence[float] = (),
    source: str = "",
) -> Moved:
    """Move the threshold of a model and keep the former one in the history.

    Args:
        model: the folder.
        target: another wanted false-alarm rate.
        rule: "expected" or "certified".
        value: the threshold itself, instead of target and rule.
        further: scores of further calibration images.
        source: where those are from, for the history.

    Raises:
        UsageError: a value together with a target or a rule; a target that the images at hand cannot give.
        ModelError: no such model, or it cannot be written.
    """
    manifest = load_manifest(model)
    former = Calibration.from_json(manifest[CALIBRATION])
    current = former.with_scores(further) if further else former
    if not (target is rule is value is None):
        current = current.moved(target=target, rule=rule, value=value)
        _refuse_unreachable(current, target)
    changes: dict[str, Any] = {CALIBRATION: current.to_json()}
    if CALIBRATION_WITHOUT_CORRECTION in manifest and value is None and not further:
        bare = Calibration.from_json(manifest[CALIBRATION_WITHOUT_CORRECTION])
        changes[CALIBRATION_WITHOUT_CORRECTION] = bare.moved(target=target, rule=rule).to_json()
    entry = _entry(former, source)
    update_manifest(model, {**changes, HISTORY: [*manifest.get(HISTORY, []), entry]})
    return Moved(former, current, _remarks(current, manifest))


def score_further(
    detector: Detector,
    data: Path,
    *,
    force: bool = False,
    warn: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """Return the scores of further good calibration images.

    Args:
        detector: of the model.
        data: a folder of good images.
        force: accept images whose scores are far from those of the calibration images.
        warn: receives a line on each image that cannot be read.
        on_progress: receives (images done, images in all).

    Raises:
        DataError: none can be read, or their scores are far off, as those of another product are.
    """
    paths = good_images(data)
    scores = []
    for done, result in enumerate(detector.predict(paths), start=1):
        if isinstance(result, FailedInspection):
            warn(str(result.error))
        else:
            scores.append(result.score)
        on_progress(done, len(paths))
    if not scores:
        raise DataError(f"{data} contains no readable image: expected good images to calibrate with")
    known = detector.calibration.scores
    middle = float(np.median(scores))
    if not known[0] <= middle <= known[-1] and not force:
        raise DataError(
            f"the {len(scores)} images of {data} have a median score of {middle:.4g}; the calibration images have "
            f"{known[0]:.4g} to {known[-1]:.4g}: are they good, and of this product under usual conditions? "
            "Add --force if they are"
        )
    return scores


def _refuse_unreachable(calibration: Calibration, target: float | None) -> None:
    """Refuse a rate that was asked for and that no threshold on these images can give."""
    if target is None or calibration.rule == "value":
        return
    certified = calibration.rule == "certified"
    needed = images_needed(target, calibration.confidence) if certified else images_expected(target)
    count = len(calibration.scores)
    if count < needed:
        raise UsageError(
            f"false-alarm rate {target:g} takes {needed} calibration images by the rule {calibration.rule}, and the model "
            f"has {count}: add images with --calibration DIR, or ask for {1 / (count + 1):.2g} or more by --rule expected"
        )


def _entry(former: Calibration, source: str) -> dict[str, Any]:
    return {
        "replaced": datetime.now(UTC).isoformat(timespec="seconds"),
        "threshold": former.threshold,
        "rule": former.rule,
        "target": former.target,
        "expected": former.expected,
        "bound": former.bound,
        "images": len(former.scores),
        **({"added": source} if source else {}),
    }


def _remarks(current: Calibration, manifest: Mapping[str, Any]) -> list[str]:
    remarks = []
    low, high = current.scores[0], current.scores[-1]
    if not low <= current.threshold <= high:
        side = "below the lowest" if current.threshold < low else "above the highest"
        remarks.append(
            f"threshold {current.threshold:.4g} is {side} of {len(current.scores)} good scores "
            f"({low:.4g} to {high:.4g})"
        )
    if manifest.get("exports"):
        remarks.append("exported graphs keep the former threshold and p-values for other programs: export again")
    return remarks
