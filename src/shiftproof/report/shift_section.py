"""What the page of an evaluation says of shifts, ready for its template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from shiftproof.charts import scores as score_charts
from shiftproof.charts import shifts as shift_charts
from shiftproof.metrics.robustness import (
    ConditionScores,
    Family,
    Guarantee,
    Rise,
    families,
    rises,
    shift_and_severity,
    worst_condition,
)
from shiftproof.report.page import Picture

_ROW_WIDTH = 620  # of the drawn scores of a condition, units of the drawing


@dataclass(frozen=True)
class ShiftExample:
    """One image under every shift."""

    name: str  # as in the tables
    defect_type: str  # "good", "scratch_head", ...
    defective: bool  # the truth, from the folder
    pictures: Mapping[str, Picture]  # by condition, the first is what the others are compared with

    @property
    def upright(self) -> bool:
        """Higher than wide: image and heatmap stand side by side."""
        return any(picture.image.shape[0] > picture.image.shape[1] for picture in self.pictures.values())

    @property
    def outlined(self) -> bool:
        """Some heatmap has the outline of the annotated defect."""
        return any(picture.defect_share for picture in self.pictures.values())


@dataclass(frozen=True)
class Panel:
    """One shift over its severity."""

    family: Family
    chart: Markup


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one condition."""

    name: str
    false_alarm_rate: float | None
    detection_rate: float | None
    chart: Markup


@dataclass(frozen=True)
class Worst:
    """The worst of a number over the shifts, and where it was had."""

    value: float | None
    condition: str | None


@dataclass(frozen=True)
class ShiftSection:
    """All of it."""

    guarantee: Guarantee
    panels: Sequence[Panel]
    key: Mapping[str, Markup]  # marks of the panels' curves
    worst: Mapping[str, Worst]  # "false_alarm_rate", "detection_rate", "auroc", "aupro_30"
    violated_when_clean: bool  # clean images already exceed the guaranteed rate
    good: int  # good images that it was tried on, at most, under one condition
    rises: Sequence[Rise]
    rows: Sequence[ScoreRow]
    row_head: Markup
    row_foot: Markup

    @property
    def families(self) -> list[Family]:
        """The shifts."""
        return [panel.family for panel in self.panels]

    @property
    def raising_false_alarms(self) -> list[Family]:
        """The shifts that raise false alarms above the guaranteed rate."""
        return [family for family in self.families if family.raises_false_alarms is not None]

    @property
    def above(self) -> list[Family]:
        """The shifts with more false alarms than guaranteed, but no more than chance explains."""
        return [family for family in self.families if family.above and family.raises_false_alarms is None]

    @property
    def causing_misses(self) -> list[Family]:
        """The shifts under which less than half of the defects are detected that are detected clean."""
        return [family for family in self.families if family.causes_misses is not None]


def shift_section(
    conditions: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, ConditionScores],
    guarantee: Guarantee,
    threshold: float | None,
) -> ShiftSection | None:
    """Gather the section; None where no shift was evaluated.

    Args:
        conditions: content of metrics.json.
        scores: by condition.
        guarantee: of the threshold.
        threshold: the fixed one.
    """
    found = families(conditions, guarantee)
    if not found or threshold is None:
        return None
    highest = max(point.severity for family in found for point in family.points)
    panels = [
        Panel(family, _drawn(shift_charts.severity_panel(family.points, guarantee.rate, highest))) for family in found
    ]
    wanted = {"false_alarm_rate": "threshold", "detection_rate": "threshold", "auroc": "image", "aupro_30": "pixel"}
    axis = score_charts.score_axis(
        np.concatenate([held.scores for held in scores.values()]), threshold, 4, _ROW_WIDTH - 4
    )
    return ShiftSection(
        guarantee=guarantee,
        panels=panels,
        key={name: _drawn(shift_charts.key_mark(name)) for name in ("alarms", "detected", "auroc", "guarantee")},
        worst={key: _worst(conditions, group, key) for key, group in wanted.items()},
        violated_when_clean=any(not shift_and_severity(name)[1] for name in guarantee.violated),
        good=max(int((~held.defective).sum()) for held in scores.values()),
        rises=rises(scores),
        rows=[
            ScoreRow(
                name,
                conditions[name]["threshold"]["false_alarm_rate"],
                conditions[name]["threshold"]["detection_rate"],
                _drawn(shift_charts.score_row(*held.split(), threshold, axis)),
            )
            for name, held in scores.items()
        ],
        row_head=_drawn(shift_charts.score_row_head(threshold, axis)),
        row_foot=_drawn(shift_charts.score_row_foot(axis)),
    )


def _worst(conditions: Mapping[str, Mapping[str, Any]], group: str, key: str) -> Worst:
    name = worst_condition(conditions, group, key)
    return Worst(None if name is None else conditions[name][group][key], name)


def _drawn(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704 (numbers and fixed words only)
