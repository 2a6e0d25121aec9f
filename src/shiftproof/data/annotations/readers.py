"""What annotation tools write: COCO, CVAT, LabelMe, Label Studio, PASCAL VOC and YOLO, each to shapes by image."""

from __future__ import annotations

import base64
import binascii
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from shiftproof.data.annotations.shapes import Point, Shape, box, ellipse
from shiftproof.errors import DataError

_YOLO_LINE = re.compile(r"\d+(?:\s+-?\d*\.?\d+(?:e-?\d+)?){4,}\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Annotated:
    """The shapes on one image, as a file says them; none for an image on which there is nothing to draw."""

    image: str
    """Its name or path in the file."""
    shapes: tuple[Shape, ...]


def read_file(path: Path) -> tuple[str, list[Annotated]] | None:
    """The format and the images of a file, or None for a file that holds no annotations.

    Raises:
        DataError: it does hold annotations, but they cannot be read.
    """
    try:
        reader = {".json": _read_json, ".xml": _read_xml}[path.suffix.lower()]
        return reader(path)
    except DataError:
        raise
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ElementTree.ParseError):
        return None  # of something else
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, binascii.Error) as error:
        raise DataError(f"{path}: annotations that cannot be read ({error!r}); export them again") from error


def _read_json(path: Path) -> tuple[str, list[Annotated]] | None:
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(content, dict) and {"images", "annotations"} <= set(content) and isinstance(content["images"], list):
        return "COCO", list(_coco(content))
    if isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content:
        return "LabelMe", [_labelme(content, path)]
    if isinstance(content, list) and content and all(isinstance(task, dict) and "data" in task for task in content):
        return "Label Studio", list(_label_studio(content))
    return None


def _read_xml(path: Path) -> tuple[str, list[Annotated]] | None:
    text = path.read_text(encoding="utf-8-sig")
    if "<!ENTITY" in text or "<annotation" not in text:
        return None
    root = ElementTree.fromstring(text)  # noqa: S314
    if root.tag == "annotations" and root.find("image") is not None:
        return "CVAT", [_cvat(image) for image in root.iter("image")]
    if root.tag == "annotation":
        return "PASCAL VOC", [_voc(root, path)]
    return None


def _coco(content: Mapping[str, Any]) -> Iterator[Annotated]:
    names = {category["id"]: str(category["name"]) for category in content.get("categories", [])}
    drawn: dict[Any, list[Shape]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        label = names.get(annotation.get("category_id"), "defect")
        drawn.setdefault(annotation["image_id"], []).extend(_coco_shapes(annotation, label))
    for image in content["images"]:
        yield Annotated(str(image["file_name"]), tuple(drawn[image["id"]]))


def _coco_shapes(annotation: Mapping[str, Any], label: str) -> list[Shape]:
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        height, width = outline["size"]
        counts = outline["counts"]
        runs = _uncompressed(counts) if isinstance(counts, str) else counts
        return [Shape(label, runs=tuple(map(int, runs)), size=(int(height), int(width)), by_columns=True)]
    if outline:
        return [Shape(label, _pairs(polygon)) for polygon in outline if polygon]
    return [Shape(label, box(*map(float, annotation["bbox"])))]


def _uncompressed(text: str) -> list[int]:
    """Runs from COCO's text: groups of 5 bits, from the third on as differences to the last but one."""
    runs: list[int] = []
    value = shift = 0
    for char in text.encode("ascii"):
        code = char - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def _labelme(content: Mapping[str, Any], path: Path) -> Annotated:
    name = str(content["imagePath"]).replace("\\", "/")
    shapes = []
    for shape in content["shapes"]:
        label, kind = str(shape.get("label", "defect")), shape.get("shape_type", "polygon")
        points = tuple((float(x), float(y)) for x, y in shape["points"])
        if kind == "mask":
            shapes.append(_of_bitmap(label, shape["mask"], points))
        elif kind == "rectangle":
            (x0, y0), (x1, y1) = points[0], points[1]
            shapes.append(Shape(label, box(min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0))))
        elif kind == "circle":
            (x, y), (x1, y1) = points[0], points[1]
            radius = float(np.hypot(x1 - x, y1 - y))
            shapes.append(Shape(label, ellipse(x, y, radius, radius)))
        else:
            shapes.append(Shape(label, points, line=kind in ("line", "linestrip", "point", "points")))
    return Annotated(name or path.stem, tuple(shapes))


def _of_bitmap(label: str, encoded: str, points: tuple[Point, ...]) -> Shape:
    with Image.open(io.BytesIO(base64.b64decode(encoded)), formats=["PNG"]) as image:
        mask = np.asarray(image) != 0
    left, top = min(x for x, _ in points), min(y for _, y in points)
    return Shape(label, runs=_runs(mask), size=(mask.shape[0], mask.shape[1]), offset=(round(top), round(left)))


def _runs(mask: np.ndarray) -> tuple[int, ...]:
    flat = np.concatenate([[False], mask.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return tuple(np.diff(np.concatenate([[0], edges, [mask.size]])).tolist())


def _cvat(image: ElementTree.Element) -> Annotated:
    shapes = []
    for element in image:
        label = element.get("label", "defect")
        if element.tag in ("polygon", "polyline", "points"):
            pairs = (pair.split(",") for pair in element.attrib["points"].split(";"))
            points = tuple((float(x), float(y)) for x, y in pairs)
            shapes.append(Shape(label, points, line=element.tag != "polygon"))
        elif element.tag == "box":
            left, top, right, bottom = (float(element.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
            shapes.append(Shape(label, box(left, top, right - left, bottom - top)))
        elif element.tag == "ellipse":
            x, y, radius_x, radius_y = (float(element.attrib[name]) for name in ("cx", "cy", "rx", "ry"))
            shapes.append(Shape(label, ellipse(x, y, radius_x, radius_y)))
        elif element.tag == "mask":
            left, top, width, height = (int(element.attrib[name]) for name in ("left", "top", "width", "height"))
            runs = tuple(int(run) for run in element.attrib["rle"].split(","))
            shapes.append(Shape(label, runs=runs, size=(height, width), offset=(top, left)))
    if not shapes and (tag := image.find("tag")) is not None:
        raise DataError(
            f"CVAT annotations of {image.attrib['name']}: has the tag {tag.get('label')} but no shape; "
            "sort the images into folders, or write a manifest"
        )
    return Annotated(image.attrib["name"], tuple(shapes))


def _voc(root: ElementTree.Element, path: Path) -> Annotated:
    name = root.findtext("filename") or path.stem
    mask = path.parent.parent / "SegmentationClass" / f"{path.stem}.png"
    shapes = []
    for element in root.iter("object"):
        label, bounds = element.findtext("name") or "defect", element.find("bndbox")
        if mask.is_file():
            shapes.append(Shape(label, file=mask))
        elif bounds is not None:
            left, top, right, bottom = (float(bounds.findtext(n) or 0) for n in ("xmin", "ymin", "xmax", "ymax"))
            # VOC counts pixels from 1, both ends included
            shapes.append(Shape(label, box(left - 1, top - 1, right - left + 1, bottom - top + 1)))
    return Annotated(name, tuple(shapes))


def _label_studio(tasks: list[dict[str, Any]]) -> Iterator[Annotated]:
    for task in tasks:
        image = next((str(value) for value in task["data"].values() if _looks_like_image(value)), None)
        answers = [a for a in task.get("annotations", task.get("completions", [])) if not a.get("was_cancelled")]
        if image is None or not answers:
            continue  # nobody has looked at it
        shapes = [shape for answer in answers for result in answer["result"] if (shape := _studio_shape(result))]
        yield Annotated(image.rpartition("?d=")[2], tuple(shapes))


def _looks_like_image(value: object) -> bool:
    return isinstance(value, str) and PurePosixPath(value.replace("\\", "/")).suffix != ""


def _studio_shape(result: Mapping[str, Any]) -> Shape | None:
    kind, value = str(result["type"]), result["value"]
    labels = value.get(kind) or value.get("labels") or ["defect"]
    label = str(labels[0])
    if kind.startswith("rectangle"):
        x, y, width, height = (value[name] / 100 for name in ("x", "y", "width", "height"))
        return Shape(label, _turned(box(x, y, width, height), value.get("rotation", 0), result), relative=True)
    if kind.startswith("polygon"):
        return Shape(label, tuple((x / 100, y / 100) for x, y in value["points"]), relative=True)
    if kind.startswith("ellipse"):
        x, y, radius_x, radius_y = (value[name] / 100 for name in ("x", "y", "radiusX", "radiusY"))
        points = ellipse(x, y, radius_x, radius_y)
        return Shape(label, _turned(points, value.get("rotation", 0), result), relative=True)
    if kind.startswith("brush"):
        height, width = result["original_height"], result["original_width"]
        alpha = _brush(value["rle"]).reshape(-1, 4)[:, 3].reshape(height, width)
        return Shape(label, runs=_runs(alpha > 127), size=(height, width))
    if kind in ("choices", "rating", "textarea"):
        raise DataError(
            f"Label Studio: a {kind} says no place ({value.get('choices', '')}); sort the images into folders"
        )
    return None


def _turned(points: tuple[Point, ...], degrees: float, result: Mapping[str, Any]) -> tuple[Point, ...]:
    """Turn around the first point (Label Studio's upper left corner), in pixels."""
    if not degrees:
        return points
    size = np.array([result["original_width"], result["original_height"]], np.float64)
    corners = np.array(points) * size
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = ((corners - corners[0]) @ matrix.T + corners[0]) / size
    return tuple((float(x), float(y)) for x, y in turned)


def _brush(codes: list[int]) -> np.ndarray:
    """Label Studio's brush: runs of bytes (RGBA) in a stream of bits."""
    bits = np.unpackbits(np.array(codes, np.uint8))
    place = 0

    def take(count: int) -> int:
        nonlocal place
        value = int("".join(map(str, bits[place : place + count].tolist())) or "0", 2)
        place += count
        return value

    total, word = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    out = np.zeros(total, np.uint8)
    filled = 0
    while filled < total:
        same = take(1)
        count = take(lengths[take(2)]) + 1
        if same:
            out[filled : filled + count] = take(word)
        else:
            out[filled : filled + count] = [take(word) for _ in range(count)]
        filled += count
    return out


def read_yolo(path: Path, names: Mapping[int, str]) -> Annotated | None:
    """The boxes and polygons of a YOLO text file, or None for another text."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    shapes = []
    for line in filter(None, lines):
        if not _YOLO_LINE.fullmatch(line):
            return None
        number, *values = line.split()
        numbers = list(map(float, values))
        if min(numbers) < -0.01 or max(numbers) > 1.01:
            return None
        label = names.get(int(number), f"class {number}")
        if len(numbers) in (4, 5):  # a box, and perhaps its confidence
            x, y, width, height = numbers[:4]
            shapes.append(Shape(label, box(x - width / 2, y - height / 2, width, height), relative=True))
        else:
            shapes.append(Shape(label, _pairs(numbers), relative=True))
    return Annotated(path.stem, tuple(shapes))


def yolo_names(root: Path) -> dict[int, str]:
    """The names of classes, from ``classes.txt``, ``obj.names`` or the ``names`` of a YAML file; empty without one."""
    for name in ("classes.txt", "obj.names"):
        for path in (root / name, root / "labels" / name):
            if path.is_file():
                return dict(enumerate(filter(None, map(str.strip, path.read_text("utf-8-sig").splitlines()))))
    for path in itertools.chain(root.glob("*.yaml"), root.glob("*.yml")):
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        if found := re.search(r"^names:\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL):
            return dict(enumerate(name.strip().strip("'\"") for name in found[1].split(",") if name.strip()))
        if found := re.search(r"^names:[ \t]*\n((?:[ \t]+.*\n?|-.*\n?)+)", text, re.MULTILINE):
            entries = [line.strip() for line in found[1].splitlines() if line.strip()]
            numbered = (re.fullmatch(r"(?:(\d+):|-)\s*(.+)", entry) for entry in entries)
            matches = [match for match in numbered if match]
            return {int(m[1]) if m[1] else place: m[2].strip("'\" ") for place, m in enumerate(matches)}
    return {}


def _pairs(numbers: list[float]) -> tuple[Point, ...]:
    return tuple(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True))
