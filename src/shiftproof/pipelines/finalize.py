"""From a trained method to a model folder: fit statistics and scale, calibrate, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shiftproof.calibration import Calibration, outlying
from shiftproof.calibration.conditional import CONDITIONAL, CONDITIONAL_FILE, ConditionalCalibration, families_of
from shiftproof.config import TrainConfig, TrainOptions
from shiftproof.detector import BATCH
from shiftproof.drift.reference import DRIFT, REFERENCE
from shiftproof.loading import CALIBRATION, CALIBRATION_WITHOUT_CORRECTION
from shiftproof.methods import Inspector, Method, exact_inference
from shiftproof.methods.base import chunk_size
from shiftproof.model_io import environment, save_model
from shiftproof.pipelines.training_data import TrainingImages
from shiftproof.reporter import Reporter
from shiftproof.training import Record

PREPROCESSING = {"input": "uint8 RGB", "resize": "bilinear, antialiased", "normalization": "in the graph"}


@dataclass(frozen=True)
class Finalizer:
    """Makes a model folder of a trained method."""

    images: TrainingImages
    config: TrainConfig
    options: TrainOptions
    facts: Mapping[str, Any]  # what ``model.json`` says of method, config and teacher
    textures_fingerprint: str | None
    reporter: Reporter

    def __call__(self, method: Method, record: Record, folder: Path) -> None:
        """Fit what comes after the training, calibrate, and save; the method is changed in place."""
        with exact_inference():
            method.fit_statistics(self.images.good.pixels, np.random.default_rng([self.config.seed, 2]))
            method.fit_scale(self.images.calibration.pixels)
        files = {REFERENCE: self.images.reference.to_bytes()}
        calibrations: dict[str, Any] = self._calibrate(method, files)
        manifest = {
            **self.facts,
            "preprocessing": {**PREPROCESSING, "bits": self.options.bits},  # None: all 16 of 16-bit files
            **calibrations,
            DRIFT: self.images.drift,
            "images": self.images.good.profile.to_json(),
            "data": self.images.facts(self.textures_fingerprint),
            "training": {**asdict(record), "random_rotation": method.rotates},
            "environment": environment(),
            "seed": self.config.seed,
        }
        tensors = {key: value.cpu().numpy() for key, value in method.state_dict().items()}
        save_model(folder, manifest, tensors, files=files, overwrite=True)

    def _calibrate(self, method: Method, files: dict[str, bytes]) -> dict[str, Any]:
        """Return the calibrations for ``model.json``; the conditional one adds a file."""
        score = Scorer(method, self.images.cross_fit)
        calibration = self._place(score)
        facts: dict[str, Any] = {CALIBRATION: calibration.to_json()}
        if self.options.conditional != "none":
            conditional = self._conditional(score, calibration)
            files[CONDITIONAL_FILE] = conditional.to_bytes()
            facts[CONDITIONAL] = conditional.describe(self.options.conditional)
        if method.correction_enabled:
            method.use_correction(False)
            facts[CALIBRATION_WITHOUT_CORRECTION] = self._place(score, report=False).to_json()
        return facts

    def _place(self, score: Scorer, report: bool = True) -> Calibration:
        """Score the calibration images and place the threshold; name images that score far above the others."""
        scores, medians = score.all(self.images.calibration.pixels, self.reporter.counter("calibrating"))
        if report:
            for line in describe_outlying(scores.tolist(), self.images.calibration.paths):
                self.reporter.warning(line)
        target, rule = self.options.false_alarm_rate, self.options.rule
        low = float(np.median(medians))
        return Calibration.from_scores(scores.tolist(), target=target, rule=rule, map_low=low)

    def _conditional(self, score: Scorer, calibration: Calibration) -> ConditionalCalibration:
        """Calibrate with shifted calibration images as well."""
        return ConditionalCalibration.measure(
            self.images.calibration.paths,
            self.config.image_size,
            score,
            calibration,
            self.images.reference.trained,
            families=families_of(self.options.conditional),
            seed=self.config.seed,
            bits=self.options.bits,
            on_progress=self.reporter.counter("conditional thresholds"),
        )


@dataclass(frozen=True)
class Scorer:
    """Scores calibration images with a method: as they are, or each as if it had not been trained on."""

    method: Method
    cross_fit: bool

    def __call__(self, index: int, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return image scores, float64 [N], of versions uint8 [N, H, W, 3] of the calibration image with this index."""
        return self._infer(index, pixels)[0]

    def all(
        self, pixels: NDArray[np.uint8], on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return image scores and medians of the anomaly maps, float64 [N], of all calibration images."""
        step = 1 if self.cross_fit else BATCH
        parts = []
        for start in range(0, len(pixels), step):
            parts.append(self._infer(start, pixels[start : start + step]))
            on_progress(min(start + step, len(pixels)), len(pixels))
        scores, medians = zip(*parts, strict=True)
        return np.concatenate(scores), np.concatenate(medians)

    def _infer(self, index: int, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        with self._left_out(index):
            return infer(Inspector(self.method), pixels)

    @contextmanager
    def _left_out(self, index: int) -> Iterator[None]:
        if not self.cross_fit:
            yield
            return
        self.method.leave_out(index)
        try:
            yield
        finally:
            self.method.leave_out(None)


def describe_outlying(scores: Sequence[float], paths: Sequence[Path]) -> list[str]:
    """Return a line on each of the few calibration images that score far above all others."""
    found = outlying(scores)
    if not found:
        return []
    some = ", ".join(str(paths[i]) for i in found[:3]) + (", ..." if len(found) > 3 else "")
    verb = "scores" if len(found) == 1 else "score"
    return [
        f"{len(found)} of {len(scores)} good images {verb} far above the others: look at {some}; "
        "if one shows a defect, remove it and train again"
    ]


def infer(inspector: nn.Module, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return image scores and medians of the anomaly maps, float64 [N], of uint8 [N, H, W, 3]."""
    device = next(inspector.parameters()).device
    scores, medians = [], []
    with exact_inference():
        chunk = chunk_size(pixels)
        for start in range(0, len(pixels), chunk):
            batch = torch.from_numpy(np.ascontiguousarray(pixels[start : start + chunk])).to(device)
            maps, found = inspector(batch)
            scores.append(found.cpu().double().numpy())
            medians.append(maps.flatten(1).median(dim=1).values.cpu().double().numpy())
    return np.concatenate(scores), np.concatenate(medians)
