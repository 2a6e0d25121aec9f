"""TIFF pixels that Pillow reads wrongly or not at all: 16-bit colour in planes of its own, and packed gray of odd depths."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin, TiffTags

BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES, STRIP_SIZES = 258, 259, 262, 273, 277, 279
PLANAR, PREDICTOR, SOFTWARE, TILES, TILE_SIZES, SAMPLE_FORMAT, MAX_VALUE = 284, 317, 305, 324, 325, 339, 281
_COPIED = (256, 257, COMPRESSION, 266, 278, 322, 323, PREDICTOR, 347)  # what a plane has in common with its image


def gray_depth(tags: Mapping[int, Any]) -> int:
    """The bits of a gray sample that its tags say: their number, or fewer where the greatest value is given as 2^n - 1."""
    bits = int(_first(tags.get(BITS, (1,))))
    greatest = tags.get(MAX_VALUE)
    if bits == 16 and greatest is not None:
        value = int(_first(greatest))
        if value + 1 in (1 << 10, 1 << 12, 1 << 14):
            return value.bit_length()
    return bits


def is_white_zero(tags: Mapping[int, Any]) -> bool:
    """Whether zero is white (MinIsWhite)."""
    return tags.get(PHOTOMETRIC) == 0


def is_planar_16(tags: Mapping[int, Any]) -> bool:
    """Whether it is 16-bit colour with each channel on its own."""
    return tags.get(PLANAR, 1) == 2 and tags.get(PHOTOMETRIC) == 2 and tuple(tags.get(BITS, ()))[:3] == (16, 16, 16)


def is_packed_gray(tags: Mapping[int, Any]) -> bool:
    """Whether it is uncompressed gray of 9 to 15 bits a sample, without gaps between samples."""
    bits = tags.get(BITS, ())
    return (
        len(bits) == 1
        and 8 < bits[0] < 16
        and tags.get(PHOTOMETRIC) in (0, 1)
        and tags.get(COMPRESSION, 1) == 1
        and STRIPS in tags
        and tags.get(266, 1) == 1
    )


def read_planes(data: bytes, tags: Mapping[int, Any]) -> NDArray[np.uint16]:
    """Three planes of 16 bits, uint16 [H, W, 3]: each is read as the gray image that it is."""
    offsets, sizes = (TILES, TILE_SIZES) if TILES in tags else (STRIPS, STRIP_SIZES)
    count = len(tags[offsets]) // len(tags[BITS])
    planes = []
    for number in range(3):
        part = slice(number * count, (number + 1) * count)
        parts = [data[start : start + size] for start, size in zip(tags[offsets][part], tags[sizes][part], strict=True)]
        planes.append(_read_gray(data[:2], tags, parts, (offsets, sizes)))
    return np.stack(planes, axis=2)


def read_packed_gray(data: bytes, tags: Mapping[int, Any]) -> NDArray[np.uint16]:
    """Gray of 9 to 15 bits a sample, uint16 [H, W]; every row begins at a byte, the highest bit comes first."""
    bits, width, height = tags[BITS][0], tags[256], tags[257]
    packed = b"".join(data[start : start + size] for start, size in zip(tags[STRIPS], tags[STRIP_SIZES], strict=True))
    rows = np.frombuffer(packed, np.uint8).reshape(height, -1)
    flags = np.unpackbits(rows, axis=1)[:, : width * bits].reshape(height, width, bits)
    return (flags @ (1 << np.arange(bits - 1, -1, -1))).astype(np.uint16)


def _read_gray(
    order: bytes, tags: Mapping[int, Any], parts: list[bytes], places: tuple[int, int]
) -> NDArray[np.uint16]:
    """A gray image of 16 bits from its strips or tiles, by a file of its own."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0" if order == b"II" else b"MM\0*\0\0\0\0")
    for tag in _COPIED:
        if tag in tags:
            directory[tag] = tags[tag]
    directory[BITS], directory[PHOTOMETRIC], directory[SAMPLES] = 16, 1, 1
    starts = [sum(map(len, parts[:number])) for number in range(len(parts))]
    for tag, value in ((places[1], tuple(map(len, parts))), (places[0], tuple(starts))):
        directory[tag] = value
        directory.tagtype[tag] = TiffTags.LONG
    if places[0] == TILES:  # Pillow moves the offsets of strips by itself
        after = 8 + len(directory.tobytes(8))
        directory[TILES] = tuple(after + start for start in starts)
        directory.tagtype[TILES] = TiffTags.LONG
    header = order + (b"*\0\x08\0\0\0" if order == b"II" else b"\0*\0\0\0\x08")
    file = io.BytesIO(header + directory.tobytes(8) + b"".join(parts))
    with TiffImagePlugin.TiffImageFile(file) as image:
        return np.asarray(image).astype(np.uint16)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value
