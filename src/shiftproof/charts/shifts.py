"""Charts of what shifts do: rates over severity, and how the scores move; SVG text of numbers and fixed words alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from numpy.typing import ArrayLike

from shiftproof.charts.svg import Axis, bars, finite, horizontal_ticks, label, shares, svg
from shiftproof.metrics.robustness import Point

_BINS = 96
_ROW = 40  # height of a row of scores

# What a panel draws: attribute of a point and name in the style sheet; what matters most is drawn last, on top.
_CURVES = (("auroc", "auroc"), ("detection_rate", "detected"), ("false_alarm_rate", "alarms"))


def severity_panel(points: Sequence[Point], guarantee: float, highest: int) -> str:
    """Draw image AUROC, detection and false-alarm rate of one shift over its severity.

    Neighbouring severities are joined by a line; a dotted one leads over severities that nobody has measured.

    Args:
        points: by severity; clean is severity 0.
        guarantee: the false-alarm rate that the threshold promises at most, 0..1; a line, above which bars stand.
        highest: severity at the right end of the panel; the same for all that are to be compared.

    Returns:
        an ``<svg>`` element.
    """
    width, height, left, right, top, bottom = 240, 158, 28, 10, 10, 24
    x, y = Axis(0, highest, left + 10, width - right), Axis(0, 1, height - bottom, top)
    parts = [
        f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y.at(tick):.1f}" y2="{y.at(tick):.1f}"/>'
        f'<text class="axis" x="{left - 6}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in (0, 0.5, 1)
    ]
    parts += [
        f'<text class="axis" x="{x.at(severity):.1f}" y="{height - 6}" text-anchor="middle">{severity or "clean"}</text>'
        for severity in range(highest + 1)
    ]
    line = y.at(guarantee)
    parts += [
        f'<line class="excess" x1="{x.at(severity):.1f}" x2="{x.at(severity):.1f}" y1="{line:.1f}" y2="{y.at(rate):.1f}"/>'
        for severity, rate in _values(points, "false_alarm_rate")
        if rate > guarantee
    ]
    parts.append(f'<line class="guarantee" x1="{left}" x2="{width - right}" y1="{line:.1f}" y2="{line:.1f}"/>')
    for attribute, name in _CURVES:
        values = _values(points, attribute)
        for (start, before), (stop, after) in itertools.pairwise(values):
            gap = " gap" if stop - start > 1 else ""
            ends = f'x1="{x.at(start):.1f}" y1="{y.at(before):.1f}" x2="{x.at(stop):.1f}" y2="{y.at(after):.1f}"'
            parts.append(f'<line class="curve-{name}{gap}" {ends}/>')
        parts += [_mark(name, x.at(severity), y.at(value)) for severity, value in values]
    return svg(width, height, ". ".join(_words(point) for point in points), parts)


def key_mark(name: str) -> str:
    """The mark of a panel's curve, for the key: ``"auroc"``, ``"detected"``, ``"alarms"``; or its line, ``"guarantee"``."""
    line = f'<line class="{"guarantee" if name == "guarantee" else f"curve-{name}"}" x1="0" x2="26" y1="7" y2="7"/>'
    return svg(26, 14, name, [line] if name == "guarantee" else [line, _mark(name, 13, 7)])


def score_row(good: ArrayLike, defective: ArrayLike, threshold: float, axis: Axis) -> str:
    """Draw the scores of one condition, good images up, defective ones down; one `axis` for all rows shows a move.

    Each half is as high as its tallest bar: the rows compare where scores lie, and shapes.
    """
    edges = axis.edges(threshold, _BINS)
    middle = _ROW / 2
    parts = [f'<line class="rule" x1="{axis.start}" x2="{axis.stop}" y1="{middle}" y2="{middle}"/>']
    for values, sign, name in ((finite(good), -1, "good"), (finite(defective), 1, "defective")):
        heights = shares(values, edges)
        if values.size:
            parts += bars(heights, edges, axis, middle, sign * (middle - 2) / float(heights.max()), name)
    line = axis.at(threshold)
    parts.append(f'<line class="threshold" x1="{line:.1f}" x2="{line:.1f}" y1="0" y2="{_ROW}"/>')
    return svg(
        axis.start + axis.stop, _ROW, "Scores of good images up, of defective ones down, beside the threshold", parts
    )


def score_row_head(threshold: float, axis: Axis) -> str:
    """What stands above the rows of scores: the name of the line."""
    line = axis.at(threshold)
    width = axis.start + axis.stop
    parts = [
        label(line, 12, f"threshold {threshold:#.4g}", "threshold-label", 0, width),
        f'<line class="threshold" x1="{line:.1f}" x2="{line:.1f}" y1="18" y2="26"/>',
    ]
    return svg(width, 26, f"The fixed threshold, {threshold:#.4g}", parts)


def score_row_foot(axis: Axis) -> str:
    """What stands below the rows of scores: their axis."""
    width = axis.start + axis.stop
    unit = "image score (logarithmic)" if axis.logarithmic else "image score"
    words = f'<text class="axis" x="{width / 2:g}" y="38" text-anchor="middle">{unit}</text>'
    return svg(width, 42, unit, [*horizontal_ticks(axis, 1), words])


def _values(points: Sequence[Point], attribute: str) -> list[tuple[int, float]]:
    """(severity, value) of the points that have one."""
    return [(point.severity, value) for point in points if (value := getattr(point, attribute)) is not None]


def _mark(name: str, x: float, y: float) -> str:
    """A shape of its own for each curve: they are told apart without colour, and where they lie on one another."""
    if name == "alarms":
        return f'<circle class="mark-{name}" cx="{x:.1f}" cy="{y:.1f}" r="3.6"/>'
    if name == "detected":
        return f'<rect class="mark-{name}" x="{x - 3.4:.1f}" y="{y - 3.4:.1f}" width="6.8" height="6.8"/>'
    return f'<path class="mark-{name}" d="M{x:.1f},{y - 4.6:.1f}l4.6,4.6l-4.6,4.6l-4.6,-4.6z"/>'


def _words(point: Point) -> str:
    said = [
        f"{name} {value:.3f}"
        for name, value in (
            ("image AUROC", point.auroc),
            ("false alarms", point.false_alarm_rate),
            ("detected", point.detection_rate),
        )
        if value is not None
    ]
    where = f"Severity {point.severity}" if point.severity else "Clean"
    return f"{where}: {', '.join(said) or 'no figures'}"
