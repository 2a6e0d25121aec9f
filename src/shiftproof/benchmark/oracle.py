"""The papers' selection, for comparison with their tables alone: the moment of the training that the test set likes best.

Nothing else in the package looks at a test image before the training is over.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.data import labelled_images
from shiftproof.detector import Detector
from shiftproof.errors import DataError
from shiftproof.loading import load
from shiftproof.metrics import image_metrics
from shiftproof.model_io import write_json_atomic
from shiftproof.pipelines.train import Snapshot
from shiftproof.results import Inspection

HISTORY = "oracle.json"


class Oracle:
    """Looks at a training every so often and keeps the model with the highest image AUROC on the test set; of equals the first.

    A method that trains in parts is looked at in the last of them: before, something that it infers with is untrained. A run
    that was killed looks again at what came after its last checkpoint, and sees the same.

    Args:
        folder: where the best model and what was seen are kept.
        data: the category that is tested on.
        layout: of it.
        every: epochs between two looks if ``in_epochs``, else steps.
        in_epochs: whether the schedule counts epochs.
    """

    def __init__(self, folder: Path, data: Path, layout: str, every: int, in_epochs: bool):
        self.folder, self.data, self.layout, self.every, self.in_epochs = folder, data, layout, every, in_epochs
        self._looks: dict[int, float] = {}
        with suppress(FileNotFoundError):
            text = (folder / HISTORY).read_text(encoding="utf-8")
            self._looks = {look["step"]: look["auroc"] for look in json.loads(text)}

    @property
    def looks(self) -> list[dict[str, Any]]:
        """Every look so far: ``step`` and ``auroc``."""
        return [{"step": step, "auroc": auroc} for step, auroc in sorted(self._looks.items())]

    @property
    def best(self) -> Path:
        """Folder of the best model so far."""
        return self.folder / "best"

    def __call__(self, snapshot: Snapshot) -> None:
        """After each step of the training: look, if it is time to."""
        interval = self.every * (snapshot.epoch if self.in_epochs else 1)
        since = snapshot.step - snapshot.begin
        if since < 1 or (since % interval and snapshot.step < snapshot.steps):
            return
        look = self.folder / "look"
        snapshot.write(look)
        auroc = image_auroc(load(look), self.data, self.layout)
        if auroc > max((seen for step, seen in self._looks.items() if step < snapshot.step), default=-1.0):
            shutil.rmtree(self.best, ignore_errors=True)
            look.rename(self.best)
        else:
            shutil.rmtree(look)
        self._looks[snapshot.step] = auroc
        write_json_atomic(self.folder / HISTORY, self.looks)


def image_auroc(detector: Detector, data: Path, layout: str) -> float:
    """Image AUROC on the labelled images, clean; what cannot be read is left out.

    Raises:
        DataError: good or defective images are missing: there is nothing to select by.
    """
    items = labelled_images(data, layout).images
    judged = [
        (item.defective, result.score)
        for item, result in zip(items, detector.predict(item.path for item in items), strict=True)
        if isinstance(result, Inspection)
    ]
    labels, scores = np.array([one[0] for one in judged], bool), np.array([one[1] for one in judged], np.float64)
    auroc = image_metrics(labels, scores)["auroc"]
    if auroc is None:
        raise DataError(
            f"{data}: the oracle selects by image AUROC, which needs good and defective test images; use --protocol blind"
        )
    return auroc
