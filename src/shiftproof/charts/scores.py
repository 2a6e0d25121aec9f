"""Charts of image scores: histogram, ROC curve, and the axis that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftproof.charts.svg import Axis, bars, finite, horizontal_ticks, label, shares, svg

_LOGARITHMIC_FROM = 50.0  # a score range of this ratio is drawn by powers of ten, or one wild score flattens the rest
_LOGARITHMIC_TO = 1e12  # beyond this ratio the low end is as good as zero, and powers of ten would show little else


def score_axis(scores: ArrayLike, threshold: float, start: float, stop: float) -> Axis:
    """The axis that holds all scores and the threshold with a little air, by powers of ten where the range is wide.

    >>> score_axis([1.0, 2.0], 1.5, 0, 100).logarithmic, score_axis([0.01, 9.0], 1.5, 0, 100).logarithmic
    (False, True)
    """
    values = np.append(finite(scores), threshold)
    low, high = float(values.min()), float(values.max())
    if low > 0 and low * _LOGARITHMIC_FROM <= high <= low * _LOGARITHMIC_TO:
        air = (high / low) ** 0.03
        return Axis(low / air, high * air, start, stop, logarithmic=True)
    air = 0.03 * (high - low) or 0.05 * abs(high) or 0.5
    return Axis(low - air, high + air, start, stop)


def histogram(
    good: ArrayLike,
    defective: ArrayLike,
    threshold: float,
    *,
    labels: tuple[str, str] = ("good", "defective"),
) -> str:
    """Draw the scores of good images upwards, of defective ones downwards, and the fixed threshold between them.

    Heights are shares of each class, so that a small class can be read beside a large one. Bins are closed on the right: a
    score equal to the threshold is called good, and lies left of the line.

    Args:
        good: float [N], image scores of good images (or of all images, where the truth is not known).
        defective: float [M], image scores of defective images; empty leaves the lower half out.
        threshold: the fixed threshold, in units of the scores.
        labels: what the two groups are called; fixed words of this package, not text from files.

    Returns:
        an ``<svg>`` element; scores that are not finite are left out.
    """
    above, below = finite(good), finite(defective)
    width, left, right, top = 680, 46, 14, 44
    half = 118 if below.size else 210
    base = top + half
    bottom = base + (half if below.size else 0)
    foot = bottom + (22 if below.size else 6)
    axis = score_axis(np.concatenate((above, below)), threshold, left, width - right)
    edges = axis.edges(threshold)
    upper, lower = (shares(values, edges) for values in (above, below))
    tallest = max(0.01, float(upper.max()), float(lower.max()))
    line = axis.at(threshold)

    parts = [f'<text class="axis" x="{left - 8}" y="{base + 4}" text-anchor="end">0</text>']
    rise = _round_down(tallest)
    for sign in (-1, 1)[: 2 if below.size else 1]:
        y = base + sign * half * rise / tallest
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="axis" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{100 * rise:g} %</text>')
    parts += bars(upper, edges, axis, base, -half / tallest, "good")
    parts += bars(lower, edges, axis, base, half / tallest, "defective")
    parts.append(f'<line class="rule" x1="{left}" x2="{width - right}" y1="{base}" y2="{base}"/>')
    parts.append(f'<line class="threshold" x1="{line:.1f}" x2="{line:.1f}" y1="18" y2="{foot}"/>')
    parts.append(label(line, 12, f"threshold {threshold:#.4g}", "threshold-label", left, width - right))

    raised, caught = int((above > threshold).sum()), int((below > threshold).sum())
    second = f"{raised} false alarm{'' if raised == 1 else 's'}" if below.size else f"{raised} above the threshold"
    parts.append(f'<text class="good-label" x="{left}" y="34">{above.size} {labels[0]}</text>')
    parts.append(f'<text class="good-label" x="{width - right}" y="34" text-anchor="end">{second}</text>')
    if below.size:
        missed = below.size - caught
        words = f"{missed} miss{'' if missed == 1 else 'es'}"
        parts.append(f'<text class="defective-label" x="{left}" y="{bottom + 16}">{words}</text>')
        parts.append(
            f'<text class="defective-label" x="{width - right}" y="{bottom + 16}" text-anchor="end">'
            f"{below.size} {labels[1]}</text>"
        )
    parts += horizontal_ticks(axis, foot)
    unit = "image score (logarithmic)" if axis.logarithmic else "image score"
    parts.append(
        f'<text class="axis" x="{(left + width - right) / 2}" y="{foot + 40}" text-anchor="middle">{unit}</text>'
    )
    counts = f"{above.size} {labels[0]}" + (f", {below.size} {labels[1]}" if below.size else "")
    return svg(width, foot + 46, f"Histogram of image scores: {counts}; threshold {threshold:#.4g}", parts)


def roc(
    fpr: Sequence[float] | NDArray[np.float64],
    tpr: Sequence[float] | NDArray[np.float64],
    auroc: float | None,
    *,
    operating_point: tuple[float, float] | None = None,
) -> str:
    """Draw the ROC curve, and where on the plane the fixed threshold works.

    Args:
        fpr: float [K], false-alarm rates, rising; empty where a class is absent.
        tpr: float [K], detection rates.
        auroc: the area under it, or None.
        operating_point: (false-alarm rate, detection rate) at the fixed threshold.

    Returns:
        an ``<svg>`` element.
    """
    # The margins and the height of the plot are those of the histogram, which stands beside it.
    side, left, right, top = 258, 46, 26, 44
    x, y = Axis(0, 1, left, left + side), Axis(0, 1, top + side, top)
    parts = [f'<rect class="frame" x="{left}" y="{top}" width="{side}" height="{side}"/>']
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(
            f'<text class="axis" x="{x.at(tick):.1f}" y="{top + side + 17}" text-anchor="middle">{tick:g}</text>'
        )
        parts.append(f'<text class="axis" x="{left - 8}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<line class="grid" x1="{left}" y1="{top + side}" x2="{left + side}" y2="{top}"/>')
    if len(fpr):
        # Points closer than a tenth of a unit cannot be told apart: a million images draw no longer a path than a thousand.
        points = list(dict.fromkeys(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in zip(fpr, tpr, strict=True)))
        path = " ".join(points)
        parts.append(f'<polygon class="area" points="{path} {left + side},{top + side} {left},{top + side}"/>')
        parts.append(f'<polyline class="curve" points="{path}"/>')
    else:
        parts.append(
            f'<text class="axis" x="{x.at(0.5)}" y="{y.at(0.55)}" text-anchor="middle">needs both classes</text>'
        )
    if operating_point is not None:
        a, b = x.at(operating_point[0]), y.at(operating_point[1])
        parts.append(f'<circle class="operating-point" cx="{a:.1f}" cy="{b:.1f}" r="5"/>')
        anchor, shift = ("end", -11) if a > left + 0.62 * side else ("start", 11)
        parts.append(
            f'<text class="threshold-label" x="{a + shift:.1f}" y="{b + 17:.1f}" text-anchor="{anchor}">fixed threshold</text>'
        )
    if auroc is not None:
        parts.append(f'<text class="threshold-label" x="{left}" y="34">area {auroc:.3f}</text>')
    middle, foot = left + side / 2, top + side + 40
    parts.append(f'<text class="axis" x="{middle}" y="{foot}" text-anchor="middle">false-alarm rate</text>')
    parts.append(
        f'<text class="axis" x="12" y="{top + side / 2}" text-anchor="middle" transform="rotate(-90 12 {top + side / 2})">'
        "detection rate</text>"
    )
    title = "ROC curve" + ("" if auroc is None else f", area {auroc:.3f}")
    return svg(left + side + right, foot + 6, title, parts)


def _round_down(share: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `share`."""
    power = 10.0 ** math.floor(math.log10(share) + 1e-9)
    return max(factor * power for factor in (1, 2, 5) if factor * power <= share * (1 + 1e-9))
