from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from shiftproof.data import calibration_images, good_images, labelled_images, recognise_layout
from shiftproof.data.generate import generate
from shiftproof.data.layouts.tables import Manifest
from shiftproof.errors import DataError

HEADER = "image,label,mask,split\n"


@pytest.fixture
def root(tmp_path) -> Path:
    return generate("manifest", tmp_path / "part", np.random.default_rng(0))


def complaint(function, *arguments) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(root: Path, text: str) -> None:
    (root / "manifest.csv").write_text(text, encoding="utf-8")


def test_a_file_of_any_name_will_do(root):
    other = (root / "manifest.csv").rename(root / "parts 2024.csv")
    assert recognise_layout(other) == "manifest"
    assert len(good_images(other)) == 6
    assert labelled_images(other).images[0].name == "images/dent-0.png"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("images/train-0.png,good,,train,", "5 values for 4 columns; mend the row"),
        ("images/train-0.png,good,,", "no split; fill it in, or remove the row"),
        (",,,train", "no image and no label; fill it in"),
        ("images/train-0.png,good,,validation", "split 'validation'; expected train, calibration, test"),
        ("images/dent-0.png,dent,,train", "images/dent-0.png is dent, but in the split train"),
        ("images/train-0.png,1,,test", "label '1' may mean either; expected good, or the name of a kind"),
        ("images/none.png,good,,train", "images/none.png: no such image"),
        ("images/dent-0.png,dent,masks/none.png,test", "masks/none.png: no such mask"),
        ("images/../images/train-1.png,good,,test", "is named by manifest.csv line 2 already"),
        ("test/good/0.png,good,,train", "lies below test or ground_truth, never trained on"),
    ],
)
def test_a_broken_row_is_named_by_its_line(root, row, reason):
    write(root, f"{HEADER}images/train-1.png,good,,train\n{row}\n")
    for function in (good_images, calibration_images, labelled_images):
        message = complaint(function, root)
        assert message.startswith("manifest.csv line 3: ")
        assert reason in message


def test_several_broken_rows_are_counted_and_all_listed(root):
    write(root, f"{HEADER}a.png,good,,train\nb.png,good,,train\nimages/train-1.png,good,,train\n")
    assert complaint(good_images, root).endswith("(and 1 more: see shiftproof data check)")
    rows, problems = Manifest().rows(root)
    assert [row.image.name for row in rows] == ["train-1.png"]
    assert [problem.split(":")[0] for problem in problems] == ["manifest.csv line 2", "manifest.csv line 3"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "lacks the columns image, label, split; expected image, label, split in the first line"),
        ("image;label;split\n", "lacks the columns image, label, split"),
        ("image,label\n", "lacks the column split"),
        (HEADER, "holds no rows"),
        (f'{HEADER}a.png,"good,,train\n', "line 2: unexpected end of data; mend its quotes"),
    ],
)
def test_a_table_that_is_none(root, text, reason):
    write(root, text)
    assert reason in complaint(good_images, root)


def test_another_encoding(root):
    (root / "manifest.csv").write_bytes(HEADER.encode() + "Prüfling.png,good,,train\n".encode("latin-1"))
    assert "save it again as CSV in UTF-8" in complaint(good_images, root)


def test_a_byte_order_mark_spaces_and_empty_lines_do_no_harm(root):
    write(root, "\ufeff image , label ,split\n\n images/train-0.png , Good ,train\n")
    assert [path.name for path in good_images(root)] == ["train-0.png"]


def test_splits_that_are_missing(root):
    write(root, f"{HEADER}images/train-0.png,good,,train\n")
    assert "no row of the split test" in complaint(labelled_images, root)
    assert calibration_images(root) == []
    write(root, f"{HEADER}images/train-0.png,good,,test\n")
    assert "no row of the split train" in complaint(good_images, root)


def test_masks_are_for_all_defects_or_none(root):
    write(root, f"{HEADER}images/dent-0.png,dent,masks/dent-0.png,test\nimages/dent-1.png,dent,,test\n")
    assert complaint(labelled_images, root).startswith("manifest.csv line 3: ")
    write(root, f"{HEADER}images/dent-0.png,dent,,test\nimages/train-0.png,good,masks/dent-1.png,test\n")
    found = labelled_images(root)
    assert not found.has_masks
    assert [item.masks for item in found.images] == [(), ()]


def test_images_elsewhere_have_names_that_stay_inside(root, tmp_path):
    place = tmp_path / "elsewhere"
    generate("folder", place, np.random.default_rng(0))
    write(root, f"{HEADER}../elsewhere/good/0.png,good,,test\n{place}/dent/0.jpg,dent,,test\n")
    names = [item.name for item in labelled_images(root).images]
    inside = place.as_posix().lstrip("/")
    assert names == [f"{inside}/dent/0.jpg", f"{inside}/good/0.png"]


def test_folders_beside_a_manifest_are_refused_but_not_beside_a_table_of_another_kind(root):
    assert "never trained on" in complaint(good_images, root / "images")
    assert "never trained on" in complaint(good_images, root, "all-good")
    write(root, "shipment,date\n1,2024\n")
    assert len(good_images(root / "images")) == 15
    assert len(good_images(root, "all-good")) == 18  # masks too: whoever names the layout is believed


def test_two_manifests(root):
    (root / "manifest.parquet").touch()
    assert "manifest.parquet: a second manifest beside manifest.csv" in complaint(good_images, root)


def test_parquet_says_what_it_needs(root, monkeypatch):
    (root / "manifest.csv").rename(root / "manifest.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "needs pyarrow to be read: pip install pyarrow, or save it as CSV" in complaint(good_images, root)


def test_parquet(root):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import csv, parquet

    expected = good_images(root), calibration_images(root), labelled_images(root)
    table = csv.read_csv(root / "manifest.csv")
    mask = pyarrow.array([value or None for value in table.column("mask").to_pylist()])
    table = table.set_column(table.column_names.index("mask"), "mask", mask)
    parquet.write_table(table, root / "manifest.parquet")
    (root / "manifest.csv").unlink()
    assert (good_images(root), calibration_images(root), labelled_images(root)) == expected
    parquet.write_table(table.drop_columns(["split"]), root / "manifest.parquet")
    assert "lacks the column split" in complaint(good_images, root)
    (root / "manifest.parquet").write_bytes(b"nothing")
    assert "cannot be read as Parquet" in complaint(good_images, root)
