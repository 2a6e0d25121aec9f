"""What a report shows of single images: mistakes, and one part of each kind under every shift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shiftproof.calibration import Calibration
from shiftproof.data import LabelledImage, LabelledSet, load_mask, read_image
from shiftproof.detector import Detector
from shiftproof.errors import DataError
from shiftproof.report.evaluation import ConditionScores, Picture, ShiftExample
from shiftproof.report.heatmap import overlay
from shiftproof.report.page import THUMBNAIL, thumbnail
from shiftproof.results import Inspection
from shiftproof.shifts import Condition

_LONGEST = 360  # pixels of a picture's longer side: five stand side by side
_TYPICAL_SEVERITY = 3


def picture(
    item: LabelledImage,
    image: NDArray[np.uint8],
    result: Inspection,
    mask: NDArray[np.bool_] | None,
    calibration: Calibration,
    longest: int = THUMBNAIL,
) -> Picture:
    """An image beside its heatmap, as small as the page shows them.

    Args:
        item: what it is called.
        image: uint8 [H, W, 3].
        result: its result.
        mask: bool [H, W], its defect, or None where the set has no masks.
        calibration: has the colour scale.
        longest: limit for the longer side in pixels.
    """
    heat = overlay(image, result.anomaly_map, calibration.map_low, calibration.map_high, mask)
    share = None if mask is None else float(mask.mean())
    return Picture(
        item.name, item.defect_type, result.score, thumbnail(image, longest), thumbnail(heat, longest), share
    )


def typical_conditions(conditions: Sequence[Condition]) -> list[Condition]:
    """Clean and one severity of each shift: the third, or the middle one of those evaluated (of two the higher).

    >>> from shiftproof.shifts import parse_conditions
    >>> [condition.name for condition in typical_conditions(parse_conditions("clean,jpeg:1-5,scale:1-2"))]
    ['clean', 'jpeg-3', 'scale-2']
    """
    severities: dict[str | None, list[Condition]] = {}
    for condition in conditions:
        severities.setdefault(condition.shift, []).append(condition)
    selected = []
    for held in severities.values():
        ordered = sorted(held, key=lambda condition: condition.severity)
        third = [condition for condition in ordered if condition.severity == _TYPICAL_SEVERITY]
        selected.append(third[0] if third else ordered[len(ordered) // 2])
    return selected


def median_image(held: ConditionScores, *, defective: bool) -> int | None:
    """Which image of the set has the median score of its kind, of two in the middle the lower; None if there is none.

    A rule that is known before anything is result, and that shows neither the best nor the worst.
    """
    ours = held.defective == defective
    if not ours.any():
        return None
    order = np.argsort(held.scores[ours], kind="stable")
    return int(held.images[ours][order[(order.size - 1) // 2]])


def examples(
    detector: Detector,
    test_set: LabelledSet,
    scores: Mapping[str, ConditionScores],
    conditions: Sequence[Condition],
    seed: int,
) -> list[ShiftExample]:
    """The median defective image and the median good one under each shift; nothing where there is no shift.

    They are read again once the scores are known, so that no picture had to be kept meanwhile.

    Args:
        detector: what has scored them.
        test_set: where they are from.
        scores: by condition; the median is the first one's.
        conditions: that were evaluated.
        seed: of the run; the draws are those that were scored.
    """
    found: list[ShiftExample] = []
    if not any(condition.shift for condition in conditions):
        return found
    for defective in (True, False):
        index = median_image(next(iter(scores.values())), defective=defective)
        if index is not None:
            item = test_set.images[index]
            # Not every shift can be had of every image.
            recorded = {
                condition: scores[condition.name].scores[place[0]]
                for condition in typical_conditions(conditions)
                if (place := np.flatnonzero(scores[condition.name].images == index)).size
            }
            pictures = _under_each(detector, item, test_set.has_masks, recorded, seed)
            if pictures:
                found.append(ShiftExample(item.name, item.defect_type, defective, pictures))
    return found


def _under_each(
    detector: Detector, item: LabelledImage, has_masks: bool, recorded: Mapping[Condition, float], seed: int
) -> dict[str, Picture]:
    """The image under each condition, with the score that was recorded: another batch may differ in the last digits."""
    try:
        image = read_image(item.path, bits=detector.bits)
        mask = load_mask(item, (image.shape[0], image.shape[1])) if has_masks else None
    except DataError:
        return {}  # it has gone since it was scored; its scores stand
    pictures = {}
    for condition, score in recorded.items():
        shifted = condition.apply(image, mask, seed=seed, image_name=item.name)
        (result,) = detector.stream([shifted.image])
        result = replace(result, score=float(score))
        pictures[condition.name] = picture(item, shifted.image, result, shifted.mask, detector.calibration, _LONGEST)
    return pictures
