"""Two models on the same images: which verdicts change, and how they look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.data import find_images, labelled_images, recognise_layout, write_image
from shiftproof.detector import Detector
from shiftproof.errors import DataError, ImageError
from shiftproof.pipelines.inputs import naming
from shiftproof.pipelines.outputs import Table, clear_outputs
from shiftproof.pipelines.predict import fitting_name
from shiftproof.report.heatmap import overlay
from shiftproof.report.page import thumbnail
from shiftproof.results import FailedInspection, Inspection

COLUMNS = (
    *("path", "label", "changed", "verdict_a", "verdict_b", "score_a", "score_b", "p_value_a", "p_value_b"),
    *("threshold_a", "threshold_b", "error"),
)
CHANGED = "changed"
"""Folder of pictures: the image, model A's heatmap and model B's, side by side."""


@dataclass(frozen=True)
class Errors:
    """Of one model, on labelled images."""

    false_alarms: int
    missed: int


@dataclass(frozen=True)
class Comparison:
    """What came of it."""

    images: int
    to_defective: int
    """Good for model A, defective for model B."""
    to_good: int
    good: int
    """Images that are labelled good."""
    defective: int
    """Images that are labelled defective; with ``good``, 0 where nothing is labelled."""
    errors: tuple[Errors, Errors]
    """Of both models, on labelled images."""
    failures: list[str]
    """One line for each image that could not be read, or whose pictures could not be written."""


def compare(
    models: tuple[Detector, Detector],
    data: Path,
    out: Path,
    *,
    layout: str = "auto",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Inspect images by two models; write ``comparison.csv`` and pictures of the images whose verdicts differ.

    Args:
        models: A, such as the one in use, and B.
        data: a labelled data set, or a folder of images.
        out: folder to write to.
        layout: of ``data``.
        on_progress: receives (images done, images in all).

    Raises:
        DataError: nothing to read, or ``out`` cannot be written.
    """
    labels = _labels(data, layout)
    paths = list(labels)
    name_of = naming({path.parent for path in paths})
    changes = {(False, True): 0, (True, False): 0}
    wrong = {(model, label): 0 for model in (0, 1) for label in (False, True)}
    failures: list[str] = []
    clear_outputs(out, ["comparison.csv"])
    with Table(out / "comparison.csv", COLUMNS) as table:
        for done, (path, image, found) in enumerate(_inspections(models, paths), start=1):
            label = labels[path]
            row = {"path": str(path), "label": "" if label is None else ("defective" if label else "good")}
            if image is None or isinstance(found, ImageError):
                failures.append(str(found))
                table.write({**row, "error": str(found)})
            else:
                a, b = found
                changed = a.defective != b.defective
                table.write({**row, "changed": "yes" if changed else "no", **_cells(a, "a"), **_cells(b, "b")})
                for model, inspection in enumerate(found):
                    if label is not None and inspection.defective != label:
                        wrong[model, label] += 1
                if changed:
                    changes[a.defective, b.defective] += 1
                    try:
                        write_image(out / CHANGED / fitting_name(f"{name_of(path)}.png"), _picture(image, found))
                    except DataError as error:
                        failures.append(str(error))
            on_progress(done, len(paths))
    errors = tuple(Errors(wrong[model, False], wrong[model, True]) for model in (0, 1))
    return Comparison(
        images=len(paths),
        to_defective=changes[False, True],
        to_good=changes[True, False],
        good=sum(label is False for label in labels.values()),
        defective=sum(label is True for label in labels.values()),
        errors=(errors[0], errors[1]),
        failures=failures,
    )


def _labels(data: Path, layout: str) -> dict[Path, bool | None]:
    """Each image, and whether it is defective; None where nothing says."""
    try:
        return {item.path: item.defective for item in labelled_images(data, layout).images}
    except DataError:
        if recognise_layout(data, layout) not in ("folder", "all-good"):
            raise
        return dict.fromkeys(find_images(data))


def _inspections(
    models: tuple[Detector, Detector], paths: list[Path]
) -> Iterator[tuple[Path, NDArray[np.uint8] | None, tuple[Inspection, Inspection] | ImageError]]:
    for path, a, b in zip(paths, *(model.predict(paths) for model in models), strict=True):
        if isinstance(a, FailedInspection):
            yield path, None, a.error
        elif isinstance(b, FailedInspection):
            yield path, None, b.error
        else:
            yield path, a.image, (a, b)


def _cells(inspection: Inspection, model: str) -> dict[str, str]:
    return {
        f"verdict_{model}": inspection.verdict,
        f"score_{model}": repr(inspection.score),
        f"p_value_{model}": repr(inspection.p_value),
        f"threshold_{model}": repr(inspection.threshold),
    }


def _picture(image: NDArray[np.uint8], found: tuple[Inspection, Inspection]) -> NDArray[np.uint8]:
    heats = [overlay(image, inspection.anomaly_map, *inspection.map_range) for inspection in found]
    return np.concatenate([thumbnail(picture) for picture in (image, *heats)], axis=1)
