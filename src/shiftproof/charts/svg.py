"""Charts as SVG text: no library, no script; colours come from the page's style sheet, so they follow light, dark and print.

Only numbers and fixed words enter the SVG; nothing in it needs escaping.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BINS = 48


@dataclass(frozen=True)
class Axis:
    """A range of values laid along a line of the drawing."""

    low: float  # value at `start`
    high: float  # value at `stop`
    start: float  # position, in units of the drawing
    stop: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Position of a value, in units of the drawing; those beyond the range lie on its ends."""
        low, high, value = (
            self._bend(number) for number in (self.low, self.high, min(max(value, self.low), self.high))
        )
        return self.start + (self.stop - self.start) * (value - low) / (high - low)

    def edges(self, through: float, bins: int = _BINS) -> NDArray[np.float64]:
        """Bin edges over the range, one of them exactly at `through`: no bar then straddles the threshold."""
        low, high, fixed = self._bend(self.low), self._bend(self.high), self._bend(through)
        width = (high - low) / bins
        count = math.ceil((fixed - low) / width - 1e-9), math.ceil((high - fixed) / width - 1e-9)
        bent = fixed + width * np.arange(-count[0], count[1] + 1)
        edges = np.asarray(10.0**bent if self.logarithmic else bent, np.float64)
        edges[count[0]] = through
        return edges

    def ticks(self) -> list[float]:
        """Round values within the range, about six."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1.0,) if self.high > 1000 * self.low else (1.0, 2.0, 5.0)
            ticks = [step * 10.0**decade for decade in decades for step in steps]
        else:
            rough = (self.high - self.low) / 6
            power = 10.0 ** math.floor(math.log10(rough))
            step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.75)
            ticks = [step * index for index in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [tick for tick in ticks if self.low <= tick <= self.high]

    def _bend(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """The values that can be drawn, float64 [N]."""
    array = np.asarray(values, np.float64).ravel()
    return array[np.isfinite(array)]


def shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the values in each bin (edge, next edge]; float64 [bins], zeros where there are no values."""
    places = np.searchsorted(edges, values, side="left").clip(1, len(edges) - 1) - 1
    return np.bincount(places, minlength=len(edges) - 1) / max(values.size, 1)


def bars(
    heights: NDArray[np.float64], edges: NDArray[np.float64], axis: Axis, base: float, scale: float, name: str
) -> list[str]:
    """Bars from `base`, upwards where `scale` (units of the drawing for a share of 1) is negative."""
    drawn = []
    for share, start, stop in zip(heights, edges, edges[1:], strict=False):
        if share > 0:
            height = max(2.0, abs(scale) * float(share))  # one image among thousands is still seen
            left, right = axis.at(float(start)) + 0.5, axis.at(float(stop)) - 0.5
            y = base - height if scale < 0 else base
            size = f'width="{max(right - left, 0.5):.1f}" height="{height:.1f}"'
            drawn.append(f'<rect class="{name}" x="{left:.1f}" y="{y:.1f}" {size}/>')
    return drawn


def horizontal_ticks(axis: Axis, y: float) -> list[str]:
    """The line of an axis at height `y`, with its ticks and their values below."""
    parts = [f'<line class="rule" x1="{axis.start}" x2="{axis.stop}" y1="{y}" y2="{y}"/>']
    for tick in axis.ticks():
        x = axis.at(tick)
        parts.append(f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 4}"/>')
        parts.append(f'<text class="axis" x="{x:.1f}" y="{y + 18}" text-anchor="middle">{tick:.4g}</text>')
    return parts


def label(x: float, y: float, text: str, name: str, left: float, right: float) -> str:
    """Text centred at `x`, unless it would leave the drawing."""
    reach = 3.6 * len(text)
    anchor = "start" if x - reach < left else "end" if x + reach > right else "middle"
    return f'<text class="{name}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{text}</text>'


def svg(width: float, height: float, title: str, parts: list[str]) -> str:
    """The drawing, as wide as its place on the page; a screen reader says the title."""
    box = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    head = f'<svg class="chart" role="img" xmlns="http://www.w3.org/2000/svg" {box}><title>{title}</title>'
    return head + "".join(parts) + "</svg>"
