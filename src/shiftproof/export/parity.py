"""The gate: an exported graph must say what the model says, on images that it is shown next to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.calibration import Calibration
from shiftproof.errors import ExportError
from shiftproof.export.graph import reason
from shiftproof.metrics import image_metrics
from shiftproof.runtime import Backend

BATCH = 8


@dataclass(frozen=True)
class Tolerance:
    """How far a graph may be from its model."""

    map: float  # largest difference of a map's pixel, as a share of the model's colour scale (map_high - map_low)
    score: float  # largest difference of an image score, as a share of the same
    auroc: float  # of the image AUROC that may be lost, where labels exist


# Rounding, summed in another order. A hundredth of the colour scale is less than three of its 256 steps; it takes a
# logarithm of the background that low to see as much.
FLOAT = Tolerance(map=1e-2, score=1e-3, auroc=1e-3)
# In 8 bits or in bfloat16 a pixel may be off by far, the score by a tenth of the scale.
ROUNDED = Tolerance(map=0.5, score=0.1, auroc=2e-3)


@dataclass(frozen=True)
class GateImages:
    """What the graphs are compared on."""

    pixels: NDArray[np.uint8]  # [N, H, W, 3] of the model's size
    defective: NDArray[np.bool_] | None  # [N], where labels exist
    source: str  # what they are, in words


@dataclass
class Comparison:
    """What was seen of one graph so far."""

    map: float = 0.0  # largest difference of a pixel
    score: float = 0.0  # largest difference of a score
    p_value: float = 0.0  # largest difference between the graph's p-value and the calibration's for the graph's score
    verdicts: int = 0  # how many images the graph judges otherwise
    scores: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)  # an image, batch by batch

    def add(
        self,
        expected: tuple[NDArray[np.float32], NDArray[np.float64]],
        found: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
        calibration: Calibration,
    ) -> None:
        """Compare a batch: maps [B, H, W] and scores [B] of the model; maps, scores and p-values of the graph."""
        maps, scores, p_values = found
        doubles = scores.astype(np.float64)
        # max() of Python would pass over a NaN.
        self.map = float(np.maximum(self.map, np.abs(maps - expected[0]).max()))
        self.score = float(np.maximum(self.score, np.abs(doubles - expected[1]).max()))
        if np.isfinite(self.score):
            self.p_value = max(self.p_value, float(np.abs(p_values - calibration.p_value(doubles)).max()))
            self.verdicts += int((calibration.is_defective(doubles) != calibration.is_defective(expected[1])).sum())
        self.scores += doubles.tolist()


def compare(
    reference: Backend,
    graphs: Mapping[str, Any],
    images: GateImages,
    calibration: Calibration,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, Any]]:
    """Run the model and its graphs side by side.

    Args:
        reference: the model in torch.
        graphs: name -> backend of a graph, with its method ``outputs``.
        images: to look at; the first one alone, the others in batches.
        calibration: of the model.
        on_progress: receives (images done, images in all).

    Returns:
        for each graph JSON values: ``images``, ``source``, ``map``, ``score`` and ``p_value`` (largest differences),
        ``scale`` (of the colours: what the tolerance is a share of), ``verdicts_changed``, ``auroc`` (of model and
        graph, and what the graph has lost, or None), ``latency_ms`` (of model and graph: medians an image, side by side; what
        :func:`~shiftproof.profiling.profile` measures with care).

    Raises:
        ExportError: a graph does not run.
    """
    comparisons = {name: Comparison() for name in graphs}
    scores: list[float] = []
    latency_ms: list[float] = []
    for batch in _batches(images.pixels):
        started = time.perf_counter()
        expected = reference.maps_and_scores(batch)
        latency_ms.append((time.perf_counter() - started) * 1000 / len(batch))
        scores += expected[1].tolist()
        for name, graph in graphs.items():
            started = time.perf_counter()
            try:
                found = graph.outputs(batch)
            except Exception as error:
                raise ExportError(
                    f"{name}'s graph was written, but its runtime refuses it ({reason(error)}); nothing was kept: leave it out"
                ) from error
            comparisons[name].latency_ms.append((time.perf_counter() - started) * 1000 / len(batch))
            comparisons[name].add(expected, found, calibration)
        on_progress(len(scores), len(images.pixels))
    return {
        name: {
            "images": len(scores),
            "source": images.source,
            "map": comparison.map,
            "score": comparison.score,
            "p_value": comparison.p_value,
            "scale": calibration.map_high - calibration.map_low,
            "verdicts_changed": comparison.verdicts,
            "auroc": _auroc(images.defective, scores, comparison.scores),
            "latency_ms": {"model": float(np.median(latency_ms)), "graph": float(np.median(comparison.latency_ms))},
        }
        for name, comparison in comparisons.items()
    }


def exceeded(found: Mapping[str, Any], tolerance: Tolerance) -> list[str]:
    """What lies above the tolerance, in words; empty where a graph passes. NaN does not pass.

    >>> found = {"map": 0.02, "score": 0.0001, "p_value": 0.0, "scale": 0.5, "auroc": None}
    >>> exceeded(found, Tolerance(map=0.01, score=0.01, auroc=0.001))
    ['map by 0.02 (at most 0.005)']
    """
    limits = {"map": tolerance.map * found["scale"], "score": tolerance.score * found["scale"], "p_value": 1e-6}
    differences = {key: found[key] for key in limits}
    if found["auroc"] is not None:
        limits["auroc"], differences["auroc"] = tolerance.auroc, found["auroc"]["lost"]
    words = {"map": "map", "score": "score", "p_value": "p-value", "auroc": "AUROC lower"}
    return [
        f"{words[key]} by {value:.2g} (at most {limits[key]:.2g})"
        for key, value in differences.items()
        if not value <= limits[key]
    ]


def _batches(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    yield pixels[:1]
    for start in range(1, len(pixels), BATCH):
        yield pixels[start : start + BATCH]


def _auroc(defective: NDArray[np.bool_] | None, model: list[float], graph: list[float]) -> dict[str, float] | None:
    if defective is None or not np.isfinite(graph).all():
        return None
    of_model, of_graph = (image_metrics(defective, np.array(scores))["auroc"] for scores in (model, graph))
    if of_model is None or of_graph is None:
        return None
    return {"model": of_model, "graph": of_graph, "lost": of_model - of_graph}
