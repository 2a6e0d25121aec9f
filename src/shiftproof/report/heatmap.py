"""Anomaly maps as colour: one fixed scale, so that a colour means the same on every picture of a report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# "inferno" (N. Smith and S. van der Walt, CC0) at ten even steps: perceptually even, readable in gray and by the colour-blind.
_ANCHORS = ("000004", "1b0c41", "4a0c6b", "781c6d", "a52c60", "cf4446", "ed6925", "fb9b06", "f7d13d", "fcffa4")
_OUTLINE = np.array((0, 229, 255), np.uint8)  # cyan is nowhere on the heat scale,
_RIM = np.array((0, 28, 38), np.uint8)  # and a dark line around it sets it off from heat as bright as itself
# How much heat covers the image at the hottest value; the square root of it leaves cool parts as they were.
_STRONGEST_BLEND = 0.8


def _palette() -> NDArray[np.uint8]:
    anchors = np.array([tuple(bytes.fromhex(code)) for code in _ANCHORS], np.float64)
    steps = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(steps, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


PALETTE = _palette()
"""uint8 [256, 3]: the colour of each step of the scale, coolest first; luminance rises all the way."""

# Blending is a table look-up as well: what is left of the image (of 256), and the heat already weighted.
_BLEND = _STRONGEST_BLEND * np.linspace(0, 1, 256)
_KEEP = np.rint(256 * (1 - _BLEND)).astype(np.uint16)
_HEAT = np.rint(PALETTE * (256 - _KEEP[:, None].astype(np.float64))).astype(np.uint16)


def _steps(anomaly_map: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Place on the scale, 0 (at or below `low`) to 255 (at or above `high`); uint8 [H, W]."""
    if anomaly_map.ndim != 2:
        raise ValueError(f"anomaly map has shape {anomaly_map.shape}; expected [H, W]")
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"colour scale runs from {low} to {high}; expected finite numbers, low <= high")
    if np.isnan(anomaly_map).any():
        raise ValueError("anomaly map holds NaN; a heatmap would show it as normal")
    values, bottom, span = (
        anomaly_map.astype(np.float32, copy=False),
        np.float32(low),
        np.float32(high) - np.float32(low),
    )
    if span == 0:  # a scale of no length still tells what lies above it
        return np.where(values > bottom, 255, 0).astype(np.uint8)
    return (((values.clip(bottom, np.float32(high)) - bottom) / span) * 255 + 0.5).astype(np.uint8)


def colourise(anomaly_map: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Draw an anomaly map in colour on a scale fixed by the caller.

    Args:
        anomaly_map: float [H, W]; infinities are clipped like any other value.
        low: the value drawn coolest, with all below it.
        high: the value drawn hottest, with all above it.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: another shape, NaN, or a scale that is not finite or runs backwards.

    >>> colourise(np.array([[-1.0, 0.0, 1.0, 9.0]]), low=0, high=1).tolist()
    [[[0, 0, 4], [0, 0, 4], [252, 255, 164], [252, 255, 164]]]
    """
    return PALETTE[_steps(anomaly_map, low, high)]


def overlay(
    image: NDArray[np.uint8],
    anomaly_map: NDArray[np.floating],
    low: float,
    high: float,
    mask: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Lay the heat over the image, thicker where hotter: normal parts stay readable.

    Args:
        image: uint8 [H, W, 3], RGB.
        anomaly_map: float [H, W], of the image's own size.
        low: the value drawn coolest; there and below the image is untouched.
        high: the value drawn hottest.
        mask: bool [H, W], the annotated defect; its outline is drawn just outside of it, so that nothing of it is hidden.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        ValueError: shapes that differ, or what :func:`colourise` refuses.

    >>> gray = np.full((2, 2, 3), 90, np.uint8)
    >>> overlay(gray, np.zeros((2, 2)), low=0, high=1)[0, 0].tolist()
    [90, 90, 90]
    """
    if image.shape != (*anomaly_map.shape, 3):
        raise ValueError(
            f"image has shape {image.shape}, its anomaly map {anomaly_map.shape}; expected [H, W, 3], [H, W]"
        )
    steps = _steps(anomaly_map, low, high)
    blended = ((image * _KEEP[steps][..., None] + _HEAT[steps] + 128) >> 8).astype(np.uint8)
    if mask is not None:
        if mask.shape != anomaly_map.shape:
            raise ValueError(f"mask has shape {mask.shape}; expected {anomaly_map.shape}, as its image")
        width = max(1, round(min(mask.shape) / 256))
        mask = mask.astype(bool)
        inner = _grown(mask, width)
        blended[_grown(inner, width) & ~inner] = _RIM
        blended[inner & ~mask] = _OUTLINE
    return blended


def _grown(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The mask and all pixels within `width` steps of it, up, down, left and right; bool [H, W]."""
    grown = mask
    for _ in range(width):
        wider = grown.copy()
        wider[1:] |= grown[:-1]
        wider[:-1] |= grown[1:]
        wider[:, 1:] |= grown[:, :-1]
        wider[:, :-1] |= grown[:, 1:]
        grown = wider
    return grown
