"""The report of `shiftproof drift`: whether images have drifted, what changed, and the evidence over the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from shiftproof.charts.svg import Axis, horizontal_ticks, label, svg
from shiftproof.report.page import model_card, write_page

MOST_POINTS = 600
"""Of a curve: closer ones could not be told apart."""
MOST_FAILURES = 100
RUN = 25  # images in a running median
FAR = 20.0  # spreads: a panel reaches no further


@dataclass(frozen=True)
class DriftReport:
    """All that the page shows."""

    title: str  # names model and images
    lines: Sequence[str]  # the verdict
    episodes: Sequence[Mapping[str, Any]]  # drifts: began, found, ended, path, findings, advice
    status: str  # "steady", "watch" or "drift", after the last image
    advice: str  # what to do
    evidence: NDArray[np.float64]  # [N], powers of ten, in the order of the images
    alert_at: float  # evidence at which an alert is raised
    alpha: float  # false-alert rate
    groups: Sequence[str]  # what the columns of `deviations` are
    deviations: NDArray[np.float64]  # [N, G], in spreads of the good images
    good: int  # images in the reference
    order: str  # how the images were sorted, in words
    failures: Sequence[str]  # a line for each image that could not be read
    manifest: Mapping[str, Any] = field(default_factory=dict)  # model.json


def write_drift_report(path: Path, report: DriftReport) -> None:
    """Write the page: one HTML file with everything in it, no script, no request to anywhere.

    Raises:
        ShiftproofError: the file cannot be written.
    """
    spans = [(each["began"], each["ended"] or len(report.evidence)) for each in report.episodes]
    panels = [
        (group, Markup(deviation_panel(values, spans)))  # noqa: S704 (numbers only)
        for group, values in zip(report.groups, report.deviations.T, strict=True)
    ]
    write_page(
        path,
        "drift.html.j2",
        report=report,
        failures=report.failures[:MOST_FAILURES],
        curve=Markup(evidence_chart(report.evidence, report.alert_at, spans)),  # noqa: S704 (numbers only)
        panels=panels,
        images=len(report.evidence),
        one_in=round(1 / report.alpha),
        card=model_card(report.manifest),
        config=report.manifest.get("config") or {},
        version=report.manifest.get("shiftproof"),
    )


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
    """Draw how far one group of statistics lies from the good images: its running median over the images, in spreads."""
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
    return svg(width, height, f"Median deviation over images; at the end {running[-1]:+.1f} spreads", parts)


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
