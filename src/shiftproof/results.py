"""The results of inspecting images and of evaluating a detector: one type for each, and one way to write it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shiftproof.errors import DataError, ImageError, UsageError, unknown

if TYPE_CHECKING:
    import pandas

VERDICTS = ("good", "defective")
"""By whether the score exceeds the threshold."""
RESULT_FIELDS = ("path", "status", "score", "p_value", "verdict", "threshold", "latency_ms", "error")
"""Keys of :meth:`Inspection.to_dict`: the columns of predictions.csv and of the Parquet files."""
SUMMARIES = ("mean_shift", "worst_shift")
"""Keys of metrics.json that summarize conditions."""


@dataclass(frozen=True)
class Verdict:
    """The decision about one image."""

    score: float  # image score, unrounded; never above the highest value of the anomaly map
    p_value: float  # conformal: share of calibration images, and this image, that score as high
    threshold: float  # of the model; or, with threshold mode conditional, for the conditions of this image
    defective: bool  # score > threshold

    @property
    def verdict(self) -> str:
        """Return "defective" or "good"."""
        return VERDICTS[self.defective]


@dataclass(frozen=True, eq=False, repr=False)
class Inspection(Verdict):
    """The result for one image."""

    anomaly_map: NDArray[np.float32]  # [H, W] of the image's own size
    mask: NDArray[np.bool_]  # [H, W]: map values above the threshold; empty if and only if the image is good
    latency_ms: float  # of resizing, networks and map: its share of the batch
    pixels: NDArray[np.uint8]  # [h, w, 3]: the image at the size of the networks
    image: NDArray[np.uint8] | None = None  # [H, W, 3]: the image at its own size
    path: Path | None = None  # of the file, if it is one
    map_range: tuple[float, float] = (0.0, 1.0)  # map values with the coolest and the hottest color
    note: str = ""  # how the file differs in kind from those trained on; empty where it does not, or is no file

    status = "ok"
    error = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values by :data:`RESULT_FIELDS`."""
        return {
            "path": None if self.path is None else str(self.path),
            "status": self.status,
            "score": self.score,
            "p_value": self.p_value,
            "verdict": self.verdict,
            "threshold": self.threshold,
            "latency_ms": round(self.latency_ms, 3),
            "error": None,
        }

    def plot(self) -> Image.Image:
        """Return a picture: the image, and the image with the heatmap beside it."""
        image = self.pixels if self.image is None else self.image
        return Image.fromarray(np.concatenate([image, self._heatmap(image)], axis=1))

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``NAME_heatmap.png``, ``NAME_mask.png`` and ``NAME.json`` to a folder; return the paths.

        NAME is the name of the image file without its ending, or "image".

        Raises:
            DataError: the folder cannot be written.
        """
        from shiftproof.data import write_image

        folder, name = Path(folder), "image" if self.path is None else self.path.stem
        heatmap, mask, record = (folder / f"{name}{end}" for end in ("_heatmap.png", "_mask.png", ".json"))
        write_image(heatmap, self._heatmap(self.pixels if self.image is None else self.image))
        write_image(mask, self.mask.astype(np.uint8) * 255)
        try:
            record.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise DataError(f"{record} cannot be written ({error.strerror}): choose another folder") from error
        return [heatmap, mask, record]

    def _heatmap(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from shiftproof.report.heatmap import overlay

        values = self.anomaly_map
        if values.shape != image.shape[:2]:
            height, width = image.shape[:2]
            values = np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
        return overlay(image, values, *self.map_range)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Inspection):
            return NotImplemented
        # The time that it took is no part of a result.
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in (field.name for field in fields(self) if field.name not in ("latency_ms", "image"))
        )

    def __hash__(self) -> int:
        return hash((self.path, self.score, self.threshold))

    def __repr__(self) -> str:
        sign, (height, width) = ">" if self.defective else "<=", self.anomaly_map.shape
        source = f"{width}x{height}" if self.path is None else f"{str(self.path)!r}, {width}x{height}"
        return f"Inspection({self.verdict}, score {self.score:.4g} {sign} {self.threshold:.4g}, p {self.p_value:.3g}, {source})"


@dataclass(frozen=True)
class FailedInspection:
    """The result for an image that cannot be read."""

    path: Path
    error: ImageError

    status = "error"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values by :data:`RESULT_FIELDS`; the numbers are None."""
        return {
            **dict.fromkeys(RESULT_FIELDS),
            "path": str(self.path),
            "status": self.status,
            "error": str(self.error),
        }


@dataclass(frozen=True)
class ImageResult:
    """Metrics of image scores; None where a class has no image."""

    auroc: float | None
    ap: float | None
    f1_max: float | None


@dataclass(frozen=True)
class PixelResult:
    """Metrics of anomaly maps; None without masks."""

    auroc: float | None
    ap: float | None
    f1_max: float | None
    aupro_30: float | None  # area under the per-region overlap, up to a false-positive rate of 0.3
    aupro_05: float | None  # the same up to 0.05


@dataclass(frozen=True)
class ThresholdResult:
    """Rates at a threshold; None where a class has no image."""

    false_alarm_rate: float | None
    detection_rate: float | None
    detection_rate_best: float | None = (
        None  # what any threshold with the wanted false-alarm rate finds on this test set
    )
    false_alarm_interval: tuple[float, float] | None = field(default=None, repr=False)  # 95 %; None in summaries
    detection_interval: tuple[float, float] | None = field(default=None, repr=False)  # Clopper and Pearson
    value: float | None = None  # the threshold itself; None in summaries and where each image has its own


@dataclass(frozen=True)
class ConditionResult:
    """The metrics under one condition, or a summary over conditions."""

    image: ImageResult
    pixel: PixelResult
    threshold: ThresholdResult
    conditional: ThresholdResult | None = None  # the verdicts of shift-conditional thresholds

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Return the metrics of an object in ``metrics.json``."""
        groups = {"image": ImageResult, "pixel": PixelResult, "threshold": ThresholdResult}
        return cls(
            **{name: _picked(kind, entry[name]) for name, kind in groups.items()},
            conditional=_picked(ThresholdResult, entry["conditional"]) if "conditional" in entry else None,
        )


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The result of an evaluation.

    >>> rates = {"value": 0.5, "false_alarm_rate": 0.0, "detection_rate": 1.0}
    >>> pixel = dict.fromkeys(("auroc", "ap", "f1_max", "aupro_30", "aupro_05"))
    >>> clean = {"image": {"auroc": 0.9, "ap": 0.8, "f1_max": 0.7}, "pixel": pixel, "threshold": rates}
    >>> Evaluation({"clean": clean}).clean.image.auroc
    0.9
    """

    metrics: dict[str, Any]  # content of metrics.json
    failures: list[str] = field(default_factory=list)  # one line for each image that could not be used

    @property
    def conditions(self) -> tuple[str, ...]:
        """Return the names of the conditions, without summaries."""
        return tuple(name for name in self.metrics if name not in SUMMARIES)

    @property
    def clean(self) -> ConditionResult:
        """Return the metrics of unshifted images."""
        return self["clean"]

    @property
    def mean_shift(self) -> ConditionResult:
        """Return the means over the shifted conditions."""
        return self["mean_shift"]

    @property
    def worst_shift(self) -> ConditionResult:
        """Return the worst values over the shifted conditions."""
        return self["worst_shift"]

    def __getitem__(self, condition: str) -> ConditionResult:
        """Return the metrics of a condition, or of a summary.

        Raises:
            UsageError: it was not evaluated.
        """
        if condition not in self.metrics:
            raise unknown("condition of this evaluation", condition, self.metrics)
        return ConditionResult.from_json(self.metrics[condition])

    def __iter__(self) -> Iterator[str]:
        return iter(self.conditions)

    def __len__(self) -> int:
        return len(self.conditions)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``metrics.json``."""
        return self.metrics

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a row for each condition and summary, with columns such as ``image_auroc``.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise UsageError("to_dataframe needs the package pandas: pip install pandas") from error
        rows = {
            name: {f"{group}_{key}": value for group, values in entry.items() for key, value in values.items()}
            for name, entry in self.metrics.items()
        }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def __repr__(self) -> str:
        parts = [f"{name}: image AUROC {_number(self[name].image.auroc)}" for name in self.conditions[:1]]
        if "mean_shift" in self.metrics:
            parts.append(f"mean over shifts: {_number(self.mean_shift.image.auroc)}")
        count = len(self.conditions)
        return f"Evaluation({count} condition{'' if count == 1 else 's'}; {', '.join(parts)})"


def _picked(kind: type[Any], values: Mapping[str, Any]) -> Any:
    return kind(**{field.name: values.get(field.name) for field in fields(kind)})


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
