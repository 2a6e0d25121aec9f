"""Where a score lies among those of good parts: drawn, and in words."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from shiftproof.calibration import Calibration
from shiftproof.charts.scores import score_axis
from shiftproof.charts.svg import bars, horizontal_ticks, label, shares, svg

_BINS = 30


def score_curve(calibration: Calibration, score: float | None = None) -> Markup:
    """Draw the calibration scores, the threshold, and one image's score among them.

    Args:
        calibration: that the image was judged by.
        score: of the image; None draws the calibration alone.

    Returns:
        an ``<svg>`` element: the mark is a disc where the image is called good, and a diamond where it is called defective.
    """
    width, left, right, top, base = 400, 8, 8, 50, 136
    scores = np.asarray(calibration.scores)
    axis = score_axis(scores if score is None else np.append(scores, score), calibration.threshold, left, width - right)
    edges = axis.edges(calibration.threshold, _BINS)
    heights = shares(scores, edges)
    line = axis.at(calibration.threshold)
    parts = [
        f'<rect class="area" x="{line:.1f}" y="{top - 8}" width="{width - right - line:.1f}" height="{base - top + 8}"/>',
        *bars(heights, edges, axis, base, -(base - top) / max(float(heights.max()), 0.01), "good"),
        f'<line class="threshold" x1="{line:.1f}" x2="{line:.1f}" y1="18" y2="{base}"/>',
        label(line, 12, f"threshold {calibration.threshold:#.4g}", "threshold-label", left, width - right),
        *horizontal_ticks(axis, base),
    ]
    unit = "image score (logarithmic)" if axis.logarithmic else "image score"
    parts.append(f'<text class="axis" x="{width / 2}" y="{base + 38}" text-anchor="middle">{unit}</text>')
    title = f"Scores of {len(scores)} calibration parts; threshold {calibration.threshold:#.4g}"
    if score is not None:
        parts += _mark(axis.at(score), base, score, calibration.is_defective(score), left, width - right)
        title += f"; this image {score:#.4g}"
    return Markup(svg(width, base + 42, title, parts))  # noqa: S704 (numbers and fixed words only)


def _mark(x: float, base: float, score: float, defective: bool, left: float, right: float) -> list[str]:
    kind = "defective" if defective else "good"
    shape = (
        f'<path class="{kind} rim" d="M{x:.1f},{base - 8}l8,8l-8,8l-8,-8z"/>'
        if defective
        else f'<circle class="{kind} rim" cx="{x:.1f}" cy="{base}" r="7"/>'
    )
    return [
        f'<line class="pointer {kind}-line" x1="{x:.1f}" x2="{x:.1f}" y1="36" y2="{base}"/>',
        label(x, 30, f"this image {score:#.4g}", f"{kind}-label", left, right),
        shape,
    ]


def explain(p_value: float, images: int) -> str:
    """What a p-value says.

    Args:
        p_value: conformal, (1 + calibration scores as high) / (1 + images).
        images: calibration images.

    >>> explain(1 / 83, 82)
    'None of the 82 calibration parts scored as high: at most 1 good part in 83 is expected to.'
    >>> explain(30 / 83, 82)
    '29 of the 82 calibration parts scored as high or higher: of 100 good parts, about 36 would.'
    """
    reached = round(p_value * (images + 1)) - 1
    parts = "part" if images == 1 else "parts"
    if reached <= 0:
        return (
            f"None of the {images} calibration {parts} scored as high: at most 1 good part in {images + 1} "
            "is expected to."
        )
    share = 100 * p_value
    return (
        f"{reached} of the {images} calibration {parts} scored as high or higher: of 100 good parts, about "
        f"{share:.0f} would."
    )
