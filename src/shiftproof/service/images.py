"""From a file's bytes to what the networks take, and from their map to what is kept and shown of it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from shiftproof.calibration import Calibration
from shiftproof.data import ImageInfo, decode_image, resize_image
from shiftproof.data.images import decode as decode_with_info
from shiftproof.report.heatmap import overlay

_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"BM": "image/bmp", b"RIFF": "image/webp"}
_QUICK = {"compress_level": 1}  # a third larger than the best, in a tenth of the time


@dataclass(frozen=True)
class Upload:
    """A file as a client sent it."""

    name: str | None  # as the client calls it; shown, never used as a path
    data: bytes


@dataclass(frozen=True)
class DecodedImage:
    """An image that can be inspected."""

    upload: Upload
    sha256: str  # of its bytes
    size: tuple[int, int]  # height and width
    pixels: NDArray[np.uint8]  # [h, w, 3], of the model's size
    info: ImageInfo  # what the file says


def decode(upload: Upload, image_size: tuple[int, int], max_pixels: int, bits: int | None = None) -> DecodedImage:
    """Decode a file and resize it to the model's (height, width); ``bits`` are those of the model.

    Raises:
        ImageError: not an image, damaged, or of more than ``max_pixels``, which its header tells before it is decoded.
    """
    decoded = decode_with_info(upload.data, upload.name or "the image", max_pixels=max_pixels, bits=bits)
    sha256, size = hashlib.sha256(upload.data).hexdigest(), (decoded.info.height, decoded.info.width)
    return DecodedImage(upload, sha256, size, resize_image(decoded.pixels, image_size), decoded.info)


def keep_map(anomaly_map: NDArray[np.float32], calibration: Calibration) -> bytes:
    """A map as a gray PNG on the calibration's colour scale, of the size that the networks see.

    256 steps from ``map_low`` to ``map_high``: as many as a heatmap has colours. A tenth of the map's own bytes.
    """
    low, high = calibration.map_low, calibration.map_high
    steps = np.clip((anomaly_map - low) / (high - low), 0, 1) * 255
    buffer = io.BytesIO()
    Image.fromarray((steps + 0.5).astype(np.uint8)).save(buffer, "PNG", **_QUICK)
    return buffer.getvalue()


def draw_heatmap(image: bytes, kept_map: bytes, *, longest: int | None = None, max_pixels: int) -> bytes:
    """A kept map over its image, in the colours of the reports; the middle of the scale is the threshold.

    Args:
        image: the file that was inspected.
        kept_map: from :func:`keep_map`.
        longest: limit for the longer side of the picture, in pixels; None for the image's own size.
        max_pixels: as for :func:`decode`.

    Returns:
        A PNG.
    """
    pixels = _shrunk(decode_image(image, "the image", max_pixels=max_pixels), longest)
    steps = PngImagePlugin.PngImageFile(io.BytesIO(kept_map))
    heat = steps.convert("F").resize((pixels.shape[1], pixels.shape[0]), Image.Resampling.BILINEAR)
    return _png(overlay(pixels, np.asarray(heat), 0, 255))


def draw_image(image: bytes, *, longest: int, max_pixels: int) -> bytes:
    """An image as a PNG whose longer side has at most ``longest`` pixels."""
    return _png(_shrunk(decode_image(image, "the image", max_pixels=max_pixels), longest))


def media_type(image: bytes) -> str:
    """What a file is, by its first bytes; those of TIFF, which have several, are what is left."""
    return next((name for start, name in _TYPES.items() if image.startswith(start)), "image/tiff")


def _shrunk(pixels: NDArray[np.uint8], longest: int | None) -> NDArray[np.uint8]:
    if longest is None or max(pixels.shape[:2]) <= longest:
        return pixels
    scale = longest / max(pixels.shape[:2])
    height, width = (max(round(side * scale), 1) for side in pixels.shape[:2])
    return resize_image(pixels, (height, width))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **_QUICK)
    return buffer.getvalue()
