"""From a trained method to a model folder: fit statistics and scale, calibrate, save."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shiftproof.calibration import Calibration
from shiftproof.calibration.conditional import CONDITIONAL, CONDITIONAL_FILE, ConditionalCalibration, families_of
from shiftproof.config import TrainConfig, TrainOptions
from shiftproof.detector import BATCH, CALIBRATION, CALIBRATION_WITHOUT_CORRECTION
from shiftproof.drift.reference import DRIFT, REFERENCE
from shiftproof.methods import Inspector, Method, exact_inference
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
            "preprocessing": PREPROCESSING,
            **calibrations,
            DRIFT: self.images.drift,
            "data": self.images.facts(self.textures_fingerprint),
            "training": {**asdict(record), "random_rotation": method.rotates},
            "environment": environment(),
            "seed": self.config.seed,
        }
        tensors = {key: value.cpu().numpy() for key, value in method.state_dict().items()}
        save_model(folder, manifest, tensors, files=files, overwrite=True)

    def _calibrate(self, method: Method, files: dict[str, bytes]) -> dict[str, Any]:
        """Return the calibrations for ``model.json``; the conditional one adds a file."""
        inspector, pixels, rate = Inspector(method), self.images.calibration.pixels, self.options.false_alarm_rate
        calibration = calibrate(inspector, pixels, rate)
        facts: dict[str, Any] = {CALIBRATION: calibration.to_json()}
        if self.options.conditional != "none":
            conditional = self._conditional(inspector, calibration)
            files[CONDITIONAL_FILE] = conditional.to_bytes()
            facts[CONDITIONAL] = conditional.describe(self.options.conditional)
        if method.correction_enabled:
            method.use_correction(False)
            facts[CALIBRATION_WITHOUT_CORRECTION] = calibrate(inspector, pixels, rate).to_json()
        return facts

    def _conditional(self, inspector: Inspector, calibration: Calibration) -> ConditionalCalibration:
        """Calibrate with shifted calibration images as well."""
        return ConditionalCalibration.measure(
            self.images.calibration.paths,
            self.config.image_size,
            partial(image_scores, inspector),
            calibration,
            self.images.reference.trained,
            families=families_of(self.options.conditional),
            seed=self.config.seed,
            on_progress=self.reporter.counter("conditional thresholds"),
        )


def image_scores(inspector: Inspector, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return image scores, float64 [N], of uint8 [N, H, W, 3]."""
    return _infer(inspector, pixels)[0]


def calibrate(inspector: Inspector, pixels: NDArray[np.uint8], false_alarm_rate: float) -> Calibration:
    """Return threshold, p-values and color scale from good calibration images uint8 [N, H, W, 3]."""
    scores, medians = _infer(inspector, pixels)
    return Calibration.from_scores(scores.tolist(), target=false_alarm_rate, map_low=float(np.median(medians)))


def _infer(inspector: Inspector, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], list[float]]:
    """Return the image scores and the medians of the anomaly maps."""
    scores: list[float] = []
    medians: list[float] = []
    device = next(inspector.parameters()).device
    with exact_inference():
        for start in range(0, len(pixels), BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(pixels[start : start + BATCH])).to(device)
            maps, maxima = inspector(batch)
            scores += maxima.cpu().double().tolist()
            medians += maps.flatten(1).median(dim=1).values.tolist()
    return np.array(scores), medians
