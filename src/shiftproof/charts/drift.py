"""Charts of drift: the evidence over the images, and what each group of statistics does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.charts.svg import Axis, horizontal_ticks, label, svg

MOST_POINTS = 600
"""Points of a curve: more could not be distinguished."""
RUN = 25  # images in a running median
FAR = 20.0  # sigma: the limit of a panel


def evidence_chart(evidence: NDArray[np.float64], alert_at: float, spans: Sequence[tuple[int, int]]) -> str:
    """Draw the evidence for a drift over the images, and the line at which an alert is raised.

    Args:
        evidence: float [N], powers of ten; what lies beyond twice the line is drawn there.
        alert_at: the line.
        spans: (first, last) image of each drift, from 1.

    Returns:
        an ``<svg>`` element.
    """
    width, left, right, top, bottom = 1020, 46, 14, 24, 214
    x = Axis(1, max(len(evidence), 2), left, width - right)
    y = Axis(0, 2 * alert_at, bottom, top)
    parts = _bands(spans, x, top, bottom)
    for tick in range(0, int(2 * alert_at) + 1, max(1, int(alert_at // 2))):
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y.at(tick):.1f}" y2="{y.at(tick):.1f}"/>'
        )
        parts.append(f'<text class="axis" x="{left - 8}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    line = y.at(alert_at)
    parts.append(f'<polyline class="curve" points="{_points(evidence, x, y, np.max)}"/>')
    parts.append(f'<line class="threshold" x1="{left}" x2="{width - right}" y1="{line:.1f}" y2="{line:.1f}"/>')
    parts.append(label(left, line - 6, f"alert at {alert_at:g}", "threshold-label", left, width))
    parts += horizontal_ticks(x, bottom)
    parts.append(f'<text class="axis" x="{(left + width) / 2}" y="{bottom + 38}" text-anchor="middle">image</text>')
    return svg(width, bottom + 44, f"Evidence for a drift over {len(evidence)} images; alert at {alert_at:g}", parts)


def deviation_panel(values: NDArray[np.float64], spans: Sequence[tuple[int, int]]) -> str:
    """Draw how far one group of statistics lies from the good images: its running median over the images, in sigma."""
    width, height, left, right, top, bottom = 240, 132, 28, 10, 8, 20
    running = running_median(values, RUN)
    reach = float(np.clip(np.abs(running).max(initial=0.0) * 1.1, 3.0, FAR))
    x, y = Axis(1, max(len(values), 2), left, width - right), Axis(-reach, reach, height - bottom, top)
    parts = _bands(spans, x, top, height - bottom)
    for tick in (-round(reach * 0.9), 0, round(reach * 0.9)):
        parts.append(
            f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y.at(tick):.1f}" y2="{y.at(tick):.1f}"/>'
        )
        parts.append(f'<text class="axis" x="{left - 6}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{tick:+d}</text>')
    parts.append(f'<polyline class="curve" points="{_points(running, x, y, np.median)}"/>')
    for place, anchor in ((1, "start"), (len(values), "end")):
        parts.append(f'<text class="axis" x="{x.at(place):.1f}" y="{height - 4}" text-anchor="{anchor}">{place}</text>')
    return svg(width, height, f"Median deviation over images; at the end {running[-1]:+.1f} sigma", parts)


def running_median(values: NDArray[np.float64], run: int) -> NDArray[np.float64]:
    """The median of each value and those before it, ``run`` at most.

    >>> running_median(np.array([0.0, 10.0, 2.0]), 2).tolist()
    [0.0, 5.0, 6.0]
    """
    padded = np.concatenate([np.full(run - 1, np.nan), values])
    return np.asarray(np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, run), axis=1))


def _bands(spans: Sequence[tuple[int, int]], x: Axis, top: float, bottom: float) -> list[str]:
    """A field behind each drift."""
    return [
        f'<rect class="area" x="{x.at(first):.1f}" y="{top}" '
        f'width="{max(x.at(last) - x.at(first), 1):.1f}" height="{bottom - top}"/>'
        for first, last in spans
    ]


def _points(values: NDArray[np.float64], x: Axis, y: Axis, of: Any) -> str:
    """A curve's points; of very many images, ``of`` those that lie together."""
    parts = np.array_split(np.arange(len(values)), min(len(values), MOST_POINTS))
    return " ".join(f"{x.at(float(part[-1]) + 1):.1f},{y.at(float(of(values[part]))):.1f}" for part in parts)
