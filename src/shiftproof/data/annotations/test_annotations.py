"""Annotations of every format draw the same defects on the same images."""

from __future__ import annotations

import base64
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftproof.data import good_images, labelled_images, load_mask, recognise_layout, write_image
from shiftproof.data.annotations import Shape, draw_shapes, read_annotations
from shiftproof.data.annotations.shapes import box, ellipse
from shiftproof.errors import DataError

SIZE = (40, 60)
LEFT, TOP, WIDTH, HEIGHT = 10, 5, 20, 12
WANTED = np.zeros(SIZE, bool)
WANTED[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH] = True
CORNERS = [(LEFT, TOP), (LEFT + WIDTH, TOP), (LEFT + WIDTH, TOP + HEIGHT), (LEFT, TOP + HEIGHT)]


def images(root: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        write_image(root / name, pixels)


def put(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def compressed(runs: list[int]) -> str:
    """As COCO's own code writes runs."""
    text = ""
    for number, run in enumerate(runs):
        value = run - runs[number - 2] if number > 2 else run
        more = True
        while more:
            code = value & 0x1F
            value >>= 5
            more = not ((value == -1 and code & 0x10) or (value == 0 and not code & 0x10))
            text += chr((code | 0x20 if more else code) + 48)
    return text


def column_runs() -> list[int]:
    flat = WANTED.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int)])))
    return np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()


def coco(root: Path, annotation: dict) -> None:
    images(root, "images/a.png", "images/b.png")
    listed = [{"id": 7, "file_name": "a.png", "width": 60, "height": 40}, {"id": 8, "file_name": "b.png"}]
    content = {"images": listed, "annotations": [{"image_id": 7, "category_id": 1, **annotation}]}
    put(root / "annotations/instances_default.json", content | {"categories": [{"id": 1, "name": "dent"}]})


def coco_polygon(root: Path) -> None:
    coco(root, {"segmentation": [[number for corner in CORNERS for number in corner]], "bbox": [0, 0, 1, 1]})


def coco_box(root: Path) -> None:
    coco(root, {"bbox": [LEFT, TOP, WIDTH, HEIGHT], "segmentation": []})


def coco_runs(root: Path) -> None:
    coco(root, {"segmentation": {"size": list(SIZE), "counts": column_runs()}})


def coco_text(root: Path) -> None:
    coco(root, {"segmentation": {"size": list(SIZE), "counts": compressed(column_runs())}})


def cvat(root: Path, shape: str) -> None:
    images(root, "images/a.png", "images/b.png")
    put(
        root / "annotations.xml",
        f'<?xml version="1.0"?><annotations><version>1.1</version><image id="0" name="a.png">{shape}</image>'
        '<image id="1" name="b.png"></image></annotations>',
    )


def cvat_polygon(root: Path) -> None:
    cvat(root, f'<polygon label="dent" points="{";".join(f"{x}.0,{y}.0" for x, y in CORNERS)}"/>')


def cvat_box(root: Path) -> None:
    cvat(root, f'<box label="dent" xtl="{LEFT}" ytl="{TOP}" xbr="{LEFT + WIDTH}" ybr="{TOP + HEIGHT}"/>')


def cvat_mask(root: Path) -> None:
    runs = f"0, {WIDTH * HEIGHT}"
    cvat(root, f'<mask label="dent" rle="{runs}" left="{LEFT}" top="{TOP}" width="{WIDTH}" height="{HEIGHT}"/>')


def labelme(root: Path, shape: dict) -> None:
    images(root, "a.png", "b.png")
    for name, shapes in (("a", [{"label": "dent", **shape}]), ("b", [])):
        put(root / f"{name}.json", {"version": "5.4.1", "shapes": shapes, "imagePath": f"..\\x\\{name}.png"})


def labelme_polygon(root: Path) -> None:
    labelme(root, {"points": CORNERS, "shape_type": "polygon"})


def labelme_box(root: Path) -> None:
    labelme(root, {"points": [CORNERS[2], CORNERS[0]], "shape_type": "rectangle"})


def labelme_mask(root: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.ones((HEIGHT, WIDTH), bool)).save(buffer, "PNG")
    mask = base64.b64encode(buffer.getvalue()).decode()
    labelme(root, {"points": [CORNERS[0], CORNERS[2]], "shape_type": "mask", "mask": mask})


def studio(root: Path, kind: str, value: dict) -> None:
    images(root, "a.png", "b.png", "nobody.png")
    size = {"original_width": SIZE[1], "original_height": SIZE[0]}
    result = [{"type": kind, "value": {**value, kind: ["dent"]}, **size}]
    put(
        root / "project-1.json",
        [
            {"data": {"image": "/data/upload/1/0a1b2c3d-a.png"}, "annotations": [{"result": result}]},
            {"data": {"image": "/data/local-files/?d=parts/b.png"}, "annotations": [{"result": []}]},
            {"data": {"image": "nobody.png"}, "annotations": []},
        ],
    )


def studio_box(root: Path) -> None:
    value = {"x": LEFT / 0.6, "y": TOP / 0.4, "width": WIDTH / 0.6, "height": HEIGHT / 0.4, "rotation": 0}
    studio(root, "rectanglelabels", value)


def studio_polygon(root: Path) -> None:
    studio(root, "polygonlabels", {"points": [[x / 0.6, y / 0.4] for x, y in CORNERS]})


def studio_brush(root: Path) -> None:
    alpha = np.zeros((*SIZE, 4), np.uint8)
    alpha[WANTED] = 255
    data = alpha.ravel()
    bits = f"{data.size:032b}{7:05b}{3:04b}{7:04b}{11:04b}{15:04b}"
    edges = [0, *(np.flatnonzero(np.diff(data.astype(int))) + 1), data.size]
    for start, end in itertools.pairwise(edges):
        bits += f"1{3:02b}{end - start - 1:016b}{data[start]:08b}"
    bits += "0" * (-len(bits) % 8)
    codes = [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]
    studio(root, "brushlabels", {"format": "rle", "rle": codes})


def voc(root: Path, *, masks: bool) -> None:
    images(root, "JPEGImages/a.png", "JPEGImages/b.png")
    bounds = f"<xmin>{LEFT + 1}</xmin><ymin>{TOP + 1}</ymin><xmax>{LEFT + WIDTH}</xmax><ymax>{TOP + HEIGHT}</ymax>"
    for name, thing in (("a", f"<object><name>dent</name><bndbox>{bounds}</bndbox></object>"), ("b", "")):
        put(root / f"Annotations/{name}.xml", f"<annotation><filename>{name}.png</filename>{thing}</annotation>")
    if masks:
        write_image(root / "SegmentationClass/a.png", WANTED.astype(np.uint8))


def voc_box(root: Path) -> None:
    voc(root, masks=False)


def voc_mask(root: Path) -> None:
    voc(root, masks=True)


def yolo(root: Path, numbers: list[float]) -> None:
    images(root, "images/a.png", "images/b.png", "images/nobody.png")
    put(root / "data.yaml", "train: images\nnc: 2\nnames: ['scratch', 'dent']\n")
    put(root / "labels/a.txt", "1 " + " ".join(f"{number:.6f}" for number in numbers) + "\n")
    put(root / "labels/b.txt", "")


def yolo_box(root: Path) -> None:
    yolo(root, [(LEFT + WIDTH / 2) / 60, (TOP + HEIGHT / 2) / 40, WIDTH / 60, HEIGHT / 40])


def yolo_polygon(root: Path) -> None:
    yolo(root, [number for x, y in CORNERS for number in (x / 60, y / 40)])


EXPORTS = [
    coco_polygon,
    coco_box,
    coco_runs,
    coco_text,
    cvat_polygon,
    cvat_box,
    cvat_mask,
    labelme_polygon,
    labelme_box,
    labelme_mask,
    studio_box,
    studio_polygon,
    studio_brush,
    voc_box,
    voc_mask,
    yolo_box,
    yolo_polygon,
]


@pytest.mark.parametrize("export", EXPORTS)
def test_every_format_says_what_is_good_what_is_defective_and_where(tmp_path, export):
    export(tmp_path)
    assert recognise_layout(tmp_path) == "annotated"
    assert [path.stem for path in good_images(tmp_path)] == ["b"]
    found = labelled_images(tmp_path)
    assert [(item.path.stem, item.defect_type, item.defective) for item in found.images] == [
        ("a", "dent", True),
        ("b", "good", False),
    ]
    assert found.has_masks
    np.testing.assert_array_equal(load_mask(found.images[0], SIZE), WANTED)
    assert not load_mask(found.images[1], SIZE).any()


@pytest.mark.parametrize("layout", ["folder", "mvtec"])
def test_annotations_are_the_masks_of_images_that_folders_label(tmp_path, layout):
    if layout == "folder":
        images(tmp_path, "OK/g.png", "NG/a.png")
    else:
        images(tmp_path, "train/good/0.png", "test/good/g.png", "test/bent/a.png")
    put(
        tmp_path / "annotations.json",
        {
            "images": [{"id": 1, "file_name": "a.png"}],
            "annotations": [{"image_id": 1, "bbox": [LEFT, TOP, WIDTH, HEIGHT]}],
        },
    )
    assert recognise_layout(tmp_path) == layout
    found = labelled_images(tmp_path)
    (item,) = [item for item in found.images if item.defective]
    np.testing.assert_array_equal(load_mask(item, SIZE), WANTED)
    images(tmp_path, "NG/undrawn.png" if layout == "folder" else "test/bent/undrawn.png")
    with pytest.raises(DataError, match=r"undrawn\.png: defective, but nothing is drawn"):
        labelled_images(tmp_path)


def test_splits_of_an_export_are_kept(tmp_path):
    for split in ("train", "valid", "test"):
        images(tmp_path, f"{split}/images/1.png", f"{split}/images/2.png")
        put(tmp_path / f"{split}/labels/1.txt", "0 0.5 0.5 0.2 0.2\n")
        put(tmp_path / f"{split}/labels/2.txt", "")
    put(tmp_path / "data.yaml", "names:\n  0: scratch\n  1: dent\n")
    assert recognise_layout(tmp_path) == "annotated"
    assert [path.parent.parent.name for path in good_images(tmp_path)] == ["train"]
    found = labelled_images(tmp_path).images
    assert [(item.name, item.defect_type) for item in found] == [
        ("test/images/1.png", "scratch"),
        ("test/images/2.png", "good"),
        ("train/images/1.png", "scratch"),
        ("valid/images/1.png", "scratch"),
    ]


def test_a_box_around_a_good_part_is_no_defect(tmp_path):
    coco_box(tmp_path)
    file = tmp_path / "annotations/instances_default.json"
    content = json.loads(file.read_text())
    content["categories"][0]["name"] = "OK"
    put(file, content)
    assert len(good_images(tmp_path)) == 2


def test_an_image_that_is_not_there_is_a_problem(tmp_path):
    coco_box(tmp_path)
    (tmp_path / "images/a.png").rename(tmp_path / "images/c.png")
    with pytest.raises(DataError, match=r"a\.png"):
        labelled_images(tmp_path)


def test_other_texts_and_tables_are_no_annotations(tmp_path):
    images(tmp_path, "1.png", "2.png")
    put(tmp_path / "1.txt", "exposure 12 ms\n")
    put(tmp_path / "2.txt", "")
    put(tmp_path / "1.json", {"camera": "A", "images": 3})
    put(tmp_path / "settings.xml", "<settings><gain>3</gain></settings>")
    put(tmp_path / "broken.json", "{")
    assert read_annotations(tmp_path) is None
    assert len(good_images(tmp_path)) == 2


def test_annotations_that_are_broken_are_refused_by_name(tmp_path):
    images(tmp_path, "1.png")
    put(tmp_path / "1.json", {"shapes": [{"label": "dent"}], "imagePath": "1.png"})
    with pytest.raises(DataError, match=r"1\.json"):
        good_images(tmp_path)


def test_annotations_of_another_size_are_refused():
    shape = Shape("dent", runs=(0, 6), size=(2, 3), by_columns=True)
    with pytest.raises(DataError, match="3x2"):
        draw_shapes([shape], (4, 4), "x")


def test_shapes_that_enclose_no_pixel_are_lines():
    thin = Shape("scratch", ((2.2, 3.4), (8.1, 3.4)))
    assert draw_shapes([thin], (10, 10), "x").sum() == 7
    assert draw_shapes([Shape("dot", ((4.0, 4.0),), line=True)], (10, 10), "x").sum() == 1


def test_polygons_have_the_area_that_geometry_gives_and_stay_inside():
    disc = draw_shapes([Shape("hole", ellipse(30, 20, 12, 8))], SIZE, "x")
    assert abs(disc.sum() - np.pi * 12 * 8) < 6
    outside = draw_shapes([Shape("edge", box(-5, -5, 10, 10))], SIZE, "x")
    assert outside.sum() == 25 and outside[:5, :5].all()
    ring = Shape("ring", ((0, 0), (9, 0), (9, 9), (0, 9), (0, 0), (3, 3), (3, 6), (6, 6), (6, 3), (3, 3)))
    assert draw_shapes([ring], (12, 12), "x").sum() == 72
