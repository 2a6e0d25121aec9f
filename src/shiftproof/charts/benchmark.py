"""Curves of several methods over the severity of a shift; SVG text of numbers and fixed words alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from shiftproof.charts.svg import Axis, svg
from shiftproof.metrics.mean_std import MeanStd

STYLES = 6  # looks of a curve in the style sheet; more methods begin again

Curve = Sequence[tuple[int, MeanStd]]  # by severity, clean is 0; severities without a figure are left out


@dataclass(frozen=True)
class Scale:
    """What all panels of a figure share, so that they compare."""

    low: float
    high: float
    severity: int  # the highest


def scale_of(panels: Sequence[Sequence[Curve]]) -> Scale:
    """The range of everything that is drawn, on round tenths; and the highest severity."""
    points = [point for curves in panels for curve in curves for point in curve]
    ends = [(s.mean - (s.std or 0), s.mean + (s.std or 0)) for _, s in points]
    low = math.floor(10 * min((max(0.0, low) for low, _ in ends), default=0.0)) / 10
    high = math.ceil(10 * max((min(1.0, high) for _, high in ends), default=1.0)) / 10
    return Scale(low, high if high > low else low + 0.1, max((severity for severity, _ in points), default=1) or 1)


def panel(curves: Sequence[Curve], scale: Scale, title: str) -> str:
    """Draw one shift: a curve for each method, with its deviation over seeds as a bar.

    Neighbouring severities are joined by a line; a dotted one leads over severities that nobody has measured.

    Args:
        curves: one for each method, empty where it has no figures.
        scale: of the figure.
        title: what a screen reader says; fixed words.
    """
    width, height, left, right, top, bottom = 240, 158, 34, 10, 10, 24
    x = Axis(0, scale.severity, left + 10, width - right)
    y = Axis(scale.low, scale.high, height - bottom, top)
    parts = [
        f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y.at(tick):.1f}" y2="{y.at(tick):.1f}"/>'
        f'<text class="axis" x="{left - 6}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in (scale.low, round((scale.low + scale.high) / 2, 3), scale.high)
    ]
    parts += [
        f'<text class="axis" x="{x.at(severity):.1f}" y="{height - 6}" text-anchor="middle">{severity or "clean"}</text>'
        for severity in range(scale.severity + 1)
    ]
    for number, curve in enumerate(curves):
        style = f"m{number % STYLES}"
        for (start, before), (stop, after) in itertools.pairwise(curve):
            gap = " gap" if stop - start > 1 else ""
            ends = (
                f'x1="{x.at(start):.1f}" y1="{y.at(before.mean):.1f}" x2="{x.at(stop):.1f}" y2="{y.at(after.mean):.1f}"'
            )
            parts.append(f'<line class="method {style}{gap}" {ends}/>')
        for severity, spread in curve:
            if spread.std:
                low, high = y.at(spread.mean - spread.std), y.at(spread.mean + spread.std)
                at = f"{x.at(severity):.1f}"
                parts.append(f'<line class="spread {style}" x1="{at}" x2="{at}" y1="{low:.1f}" y2="{high:.1f}"/>')
            parts.append(_mark(number, x.at(severity), y.at(spread.mean)))
    return svg(width, height, title, parts)


def key_mark(number: int) -> str:
    """The line and the mark of a method, for the key."""
    line = f'<line class="method m{number % STYLES}" x1="0" x2="26" y1="7" y2="7"/>'
    return svg(26, 14, f"curve {number + 1}", [line, _mark(number, 13, 7)])


def _mark(number: int, x: float, y: float) -> str:
    """A shape of its own for each method: they are told apart without colour."""
    style = f'class="dot m{number % STYLES}"'
    shape = number % 3
    if shape == 0:
        return f'<circle {style} cx="{x:.1f}" cy="{y:.1f}" r="3.6"/>'
    if shape == 1:
        return f'<rect {style} x="{x - 3.4:.1f}" y="{y - 3.4:.1f}" width="6.8" height="6.8"/>'
    return f'<path {style} d="M{x:.1f},{y - 4.6:.1f}l4.6,4.6l-4.6,4.6l-4.6,-4.6z"/>'
