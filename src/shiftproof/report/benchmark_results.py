"""The rows of a benchmark and what is read off them: means over seeds, over shifts and over categories, and a ranking."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from shiftproof.metrics.mean_std import MeanStd
from shiftproof.metrics.robustness import shift_and_severity

LABELS = {"blind": "blind: fixed schedule, last weights", "oracle": "oracle: selected on the test set"}
"""What every table and page says of the protocol."""
WITHOUT_CORRECTION = " (no correction)"
"""Added to the name of a method that was also evaluated without its shift correction."""
FIGURES: Mapping[str, tuple[str, str]] = {
    "image_auroc": ("image", "auroc"),
    "image_ap": ("image", "ap"),
    "image_f1_max": ("image", "f1_max"),
    "pixel_auroc": ("pixel", "auroc"),
    "pixel_ap": ("pixel", "ap"),
    "pixel_f1_max": ("pixel", "f1_max"),
    "aupro_30": ("pixel", "aupro_30"),
    "aupro_05": ("pixel", "aupro_05"),
    "threshold": ("threshold", "value"),
    "false_alarm_rate": ("threshold", "false_alarm_rate"),
    "detection_rate": ("threshold", "detection_rate"),
}
"""Columns of a row, and where they stand in metrics.json."""
Row = Mapping[str, Any]


def row(method: str, category: str, seed: int, condition: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """One row: a method on a category with a seed under a condition.

    Args:
        method: its column in the tables.
        category: its row.
        seed: of the training.
        condition: key of metrics.json.
        metrics: the condition's object there.
    """
    figures = {name: metrics[group][key] for name, (group, key) in FIGURES.items()}
    return {
        "method": method,
        "category": category,
        "seed": seed,
        "condition": condition,
        **figures,
        **metrics["images"],
    }


class Results:
    """Rows, looked up by method, category and conditions.

    Args:
        rows: in the order in which methods and categories are to stand; rows may be missing where a cell is not finished.
    """

    def __init__(self, rows: Sequence[Row]):
        self.rows = rows
        self.methods = list(dict.fromkeys(row["method"] for row in rows))
        self.categories = list(dict.fromkeys(row["category"] for row in rows))
        self.seeds = sorted({row["seed"] for row in rows})
        self.conditions = list(dict.fromkeys(row["condition"] for row in rows))

    @property
    def shifted(self) -> list[str]:
        """The conditions that are not clean."""
        return [name for name in self.conditions if shift_and_severity(name)[1]]

    @cached_property
    def _by_place(self) -> dict[tuple[str, str, int, str], Row]:
        return {(row["method"], row["category"], row["seed"], row["condition"]): row for row in self.rows}

    def value(self, method: str, category: str, seed: int, conditions: Sequence[str], figure: str) -> float | None:
        """A figure of one cell, its mean over conditions; None where it lacks one of those that it was evaluated under.

        A condition that does not apply to a category (colour on gray images) has no row, and is left out for all methods.
        """
        rows = [self._by_place.get((method, category, seed, condition)) for condition in conditions]
        values = [row[figure] for row in rows if row is not None]
        return statistics.fmean(values) if values and None not in values else None

    def cell(self, method: str, category: str, conditions: Sequence[str], figure: str) -> MeanStd | None:
        """A figure of one method on one category, over seeds."""
        return MeanStd.over(self.value(method, category, seed, conditions, figure) for seed in self.seeds)

    def measured(self, conditions: Sequence[str], figure: str) -> list[str]:
        """The categories in which any method has the figure: those without masks have no pixel figures."""
        return [
            category
            for category in self.categories
            if any(self.cell(method, category, conditions, figure) for method in self.methods)
        ]

    def mean(self, method: str, conditions: Sequence[str], figure: str) -> MeanStd | None:
        """The mean over categories, over seeds; a seed that lacks a category that others have is left out.

        A mean over fewer categories than the other methods' would not compare with theirs.
        """
        categories = self.measured(conditions, figure)
        means = []
        for seed in self.seeds:
            values = [self.value(method, category, seed, conditions, figure) for category in categories]
            means.append(None if None in values or not values else statistics.fmean(v for v in values if v is not None))
        return MeanStd.over(means)

    def ranking(self) -> list[str]:
        """The methods by mean image AUROC over shifts, or clean where nothing was shifted; best first, those without last."""
        conditions = self.shifted or self.conditions
        found = {method: self.mean(method, conditions, "image_auroc") for method in self.methods}
        return sorted(self.methods, key=lambda method: -(spread.mean if (spread := found[method]) else -math.inf))

    def first_in(self, method: str, conditions: Sequence[str]) -> int:
        """In how many categories no other method has a higher image AUROC."""
        count = 0
        for category in self.categories:
            spreads = {name: self.cell(name, category, conditions, "image_auroc") for name in self.methods}
            best = max((spread.mean for spread in spreads.values() if spread), default=math.nan)
            count += (own := spreads[method]) is not None and own.mean == best
        return count


def groups(results: Results) -> dict[str, list[str]]:
    """What tables are made of: the conditions under each title; clean, and the mean over shifts."""
    found: dict[str, list[str]] = {}
    if "clean" in results.conditions:
        found["clean"] = ["clean"]
    if results.shifted:
        count = len(results.shifted)
        found[results.shifted[0] if count == 1 else f"mean over {count} shifted conditions"] = results.shifted
    return found
