"""MVTec 3D-AD's points as images: depth as gray, or surface normals as colour, of which every method can learn.

A depth image needs a range of its own, which no single image may set: a part that lies higher must look higher. So a
whole category is written again, in MVTec AD's layout, with one range for all, taken from ``train/good`` alone.
"""

from __future__ import annotations

import io
import json
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from shiftproof.data.images import read_bytes, write_image
from shiftproof.data.layouts import LAYOUTS, LabelledImage
from shiftproof.data.layouts.files import refusing_unlistable
from shiftproof.data.layouts.tables import refuse
from shiftproof.data.masks import read_mask
from shiftproof.errors import DataError, ImageError, UsageError, unknown

KINDS = ("depth", "normals")
MARGIN = 0.05
"""Of the training images' range, added on both sides: defects stick out."""


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    images: int
    failures: list[str]
    """One line for each image whose points could not be read."""


def read_xyz(path: Path | str) -> NDArray[np.float32]:
    """Read the points of MVTec 3D-AD: a TIFF of three float channels, uncompressed or deflated.

    Returns:
        float32 [H, W, 3]: x, y and z of each pixel in the sensor's unit (metres); all three zero where nothing was
        measured.

    Raises:
        ImageError: it cannot be read, or is no such file.
    """
    data = read_bytes(path)
    try:
        points = _decode(data)
    except Exception as error:  # damaged bytes raise nearly anything
        raise ImageError(
            f"{path}: is no TIFF of three 32-bit float channels, uncompressed or deflated ({error!r}); "
            "copy it again from the archive"
        ) from error
    if points is None:
        raise ImageError(f"{path}: is a TIFF of another kind than three 32-bit float channels; expected x, y and z")
    return points.astype(np.float32)


def _decode(data: bytes) -> NDArray[np.float32] | None:
    """The points, or None where the file's tags say that it holds something else."""
    with warnings.catch_warnings(), io.BytesIO(data) as file:
        warnings.simplefilter("error")  # Pillow only warns of a directory that is cut short
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file.seek(tags.next)
        tags.load(file)
    bits, sample_formats, planes, predictor = tags[258], tags.get(339, (1,)), tags.get(284, 1), tags.get(317, 1)
    if (bits, sample_formats, planes, predictor) != ((32,) * 3, (3,) * 3, 1, 1):
        return None
    strips = [data[start : start + size] for start, size in zip(tags[273], tags[279], strict=True)]
    if tags.get(259, 1) != 1:
        strips = [zlib.decompress(strip) for strip in strips]
    return np.frombuffer(b"".join(strips), "<f4" if data[:2] == b"II" else ">f4").reshape(tags[257], tags[256], 3)


def write_xyz(path: Path, points: NDArray[np.float32]) -> None:
    """Write float32 [H, W, 3] as :func:`read_xyz` reads it; folders are made."""
    height, width, channels = points.shape
    entries = [(256, width), (257, height), (258, None), (259, 1), (262, 2), (273, None), (277, channels)]
    entries += [(278, height), (279, points.nbytes), (284, 1), (339, None)]
    after = 8 + 2 + 12 * len(entries) + 4
    places = {258: after, 339: after + 6, 273: after + 12}
    directory = struct.pack("<H", len(entries))
    for tag, value in entries:
        several = tag in (258, 339)
        directory += struct.pack("<HHII", tag, 3 if several else 4, 3 if several else 1, places.get(tag, value or 0))
    content = struct.pack("<2sHI", b"II", 42, 8) + directory + struct.pack("<I6H", 0, 32, 32, 32, 3, 3, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content + points.astype("<f4").tobytes())


def depth_image(points: NDArray[np.float32], near: float, far: float) -> NDArray[np.uint8]:
    """Depth as gray.

    Args:
        points: float32 [H, W, 3], as :func:`read_xyz` gives them.
        near: z that becomes 255; what is nearer too.
        far: z that becomes 1; what is further too.

    Returns:
        uint8 [H, W]; 0 where nothing was measured.

    >>> points = np.array([[[0, 0, 0], [1, 1, 0.5], [1, 1, 0.75], [1, 1, 1]]], np.float32)
    >>> depth_image(points, 0.5, 1.0).tolist()
    [[0, 255, 128, 1]]
    """
    nearness = np.clip((far - points[:, :, 2]) / max(far - near, 1e-12), 0, 1)
    return np.where(measured(points), np.rint(1 + 254 * nearness), 0).astype(np.uint8)


def normal_image(points: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Unit normals as colour, from central differences; they need no range, and see dents rather than heights.

    Args:
        points: float32 [H, W, 3], as :func:`read_xyz` gives them.

    Returns:
        uint8 [H, W, 3]: ``round(127.5 * (normal + 1))``, the normal turned towards the sensor (z not positive); black
        where it or a neighbour was not measured.
    """
    valid = measured(points)
    holes = np.where(valid[:, :, None], points, np.nan).astype(np.float64)
    normals = np.cross(np.gradient(holes, axis=1), np.gradient(holes, axis=0))
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        normals = normals / length * np.where(normals[:, :, 2:] > 0, -1, 1)
    known = valid[:, :, None] & np.isfinite(normals).all(axis=2, keepdims=True)
    return np.where(known, np.rint(127.5 * (np.nan_to_num(normals) + 1)), 0).astype(np.uint8)


def measured(points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a point was measured: bool [H, W]."""
    return np.isfinite(points).all(axis=2) & (points != 0).any(axis=2)


@refusing_unlistable()
def convert_depth(
    category: Path,
    out: Path,
    kind: str = "depth",
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """Write the points of a category of MVTec 3D-AD as a category of images in MVTec AD's layout, masks included.

    ``depth``: gray, 255 nearest, 0 not measured. Its range goes from the least 0.5 % quantile of z over the images of
    ``train/good`` to the greatest 99.5 % quantile, and 5 % further on both sides; it is kept in ``depth.json``.
    ``normals``: see :func:`normal_image`.

    Args:
        category: with ``<split>/<kind>/xyz/*.tiff``.
        out: folder to write; it must not hold anything yet.
        kind: "depth" or "normals".
        on_progress: is told (images done, images in all).

    Raises:
        DataError: no such category, a mask that is missing, no readable points in ``train/good``, or OUT is not free or
            cannot be written. UsageError: ``kind`` is neither.
    """
    if kind not in KINDS:
        raise unknown("image", kind, KINDS)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty: choose another folder")
    jobs = list(_jobs(category))
    near, far = _range(category) if kind == "depth" else (0.0, 0.0)
    failures: list[str] = []
    out.mkdir(parents=True, exist_ok=True)
    for done, (source, name, item) in enumerate(jobs, start=1):
        try:
            points = read_xyz(source)
            mask = np.logical_or.reduce([read_mask(path) for path in item.masks]) if item and item.masks else None
        except ImageError as error:
            failures.append(str(error))
        else:
            write_image(out / name, depth_image(points, near, far) if kind == "depth" else normal_image(points))
            if mask is not None and item is not None:
                write_image(
                    out / f"ground_truth/{item.defect_type}/{item.path.stem}_mask.png", mask.astype(np.uint8) * 255
                )
        on_progress(done, len(jobs))
    facts = {"image": kind, **({"near": near, "far": far} if kind == "depth" else {})}
    (out / "depth.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return Conversion(len(jobs) - len(failures), failures)


def _jobs(category: Path) -> Iterator[tuple[Path, str, LabelledImage | None]]:
    """Each file of points, the image that it becomes, and what is known of it where it is for testing."""
    layout = LAYOUTS["mvtec-3d"]
    for split, paths in (("train", layout.good(category)), ("validation", layout.calibration(category))):
        for path in paths:
            yield _points(path), f"{split}/good/{path.stem}.png", None
    test_set = layout.test(category)
    refuse(test_set.problems)
    for item in test_set.images:
        yield _points(item.path), f"test/{item.defect_type}/{item.path.stem}.png", item


def _points(image: Path) -> Path:
    return image.parents[1] / "xyz" / f"{image.stem}.tiff"


def _range(category: Path) -> tuple[float, float]:
    quantiles = []
    for path in LAYOUTS["mvtec-3d"].good(category):
        try:
            points = read_xyz(_points(path))
        except ImageError:
            continue  # reported when its turn comes to be written
        z = points[:, :, 2][measured(points)]
        if z.size:
            quantiles.append(np.quantile(z.astype(np.float64), (0.005, 0.995)))
    if not quantiles:
        raise DataError(
            f"{category}: no points in train/good/xyz to take the range of depth from; expected *.tiff there"
        )
    near, far = float(np.min(quantiles)), float(np.max(quantiles))
    return near - MARGIN * (far - near), far + MARGIN * (far - near)
