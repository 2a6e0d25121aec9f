"""Data sets whose table says what each image is: a manifest of one's own, and VisA (Zou et al., ECCV 2022)."""

from __future__ import annotations

import csv
import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftproof.data.layouts.base import LabelledImage, LabelledSet, Layout, MissingSplitError
from shiftproof.data.layouts.files import has_child, natural_key, relative_name
from shiftproof.data.vocabulary import Meaning, meaning
from shiftproof.errors import DataError

SPLITS = ("train", "calibration", "test")
COLUMNS = ("image", "label", "mask", "split")
REQUIRED = ("image", "label", "split")
NEVER_TRAINED_ON = frozenset({"test", "test_public", "test_private", "test_private_mixed", "ground_truth"})
"""Folders, in lower case, that hold nothing to train on, whatever lies in them."""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    place: str
    """Where it stands: ``manifest.csv line 7``."""
    image: Path
    label: str
    mask: Path | None
    split: str

    @property
    def good(self) -> bool:
        return meaning(self.label) is Meaning.GOOD


class Table(Layout):
    """A data set of which a table names every image; any broken row is an error, so that none is lost in silence."""

    in_folders = False

    @abstractmethod
    def rows(self, root: Path) -> tuple[list[Row], list[str]]:
        """The rows that can be used, and one line for each that cannot."""

    def good(self, root: Path) -> list[Path]:
        found = self._good_of(root, "train")
        if not found:
            raise MissingSplitError(f"{root}: no good images to train on; its table has no row of the split train")
        return found

    def calibration(self, root: Path) -> list[Path]:
        return self._good_of(root, "calibration")

    def test(self, root: Path) -> LabelledSet:
        rows, problems = self.rows(root)
        rows = [row for row in rows if row.split == "test"]
        if not rows and not problems:
            raise MissingSplitError(f"{root}: nothing to test on; its table has no row of the split test")
        base = root if root.is_dir() else root.parent
        has_masks = any(row.mask for row in rows if not row.good)
        items = []
        for row in rows:
            if has_masks and not row.good and row.mask is None:
                problems.append(f"{row.place}: {row.image} is defective, but without its mask; name one, as others do")
            masks = (row.mask,) if row.mask and not row.good else ()
            items.append(LabelledImage(row.image, relative_name(base, row.image), row.label, not row.good, masks))
        items.sort(key=lambda item: natural_key(Path(item.name)))
        return LabelledSet(tuple(items), has_masks=has_masks, problems=tuple(problems))

    def _good_of(self, root: Path, split: str) -> list[Path]:
        rows, problems = self.rows(root)
        refuse(problems)
        return sorted((row.image for row in rows if row.split == split), key=natural_key)


class Manifest(Table):
    """A table of one's own: a CSV or Parquet file, or a folder with ``manifest.csv`` or ``manifest.parquet``."""

    looks_for = "manifest.csv or manifest.parquet"

    def recognise(self, root: Path) -> bool:
        return self._find(root) is not None

    def rows(self, root: Path) -> tuple[list[Row], list[str]]:
        path = self._find(root)
        if path is None:
            raise DataError(f"{root}: no manifest; expected a CSV or Parquet file, or a folder with {self.looks_for}")
        records, problems = read_table(path, REQUIRED)
        given = [
            Row(
                place,
                path.parent / record["image"],
                record["label"],
                path.parent / record["mask"] if record.get("mask") else None,
                record["split"],
            )
            for place, record in records
            if _complete(place, record, problems)
        ]
        return judge(path.parent, given, problems)

    def protects(self, root: Path, inside: str) -> bool:
        path = self._find(root) if root.is_dir() else None
        if path is None or inside == path.name.casefold():
            return False
        try:
            return set(REQUIRED) <= set(_read(path, rows=False)[0])
        except DataError:  # a file of something else that is only called so
            return False

    @staticmethod
    def _find(root: Path) -> Path | None:
        if root.is_file():
            return root if root.suffix.lower() in {".csv", ".parquet"} else None
        found = [path for name in ("manifest.csv", "manifest.parquet") if (path := root / name).is_file()]
        if len(found) > 1:
            raise DataError(f"{found[1]}: a second manifest beside {found[0].name}; expected one, rename the other")
        return found[0] if found else None


class VisA(Table):
    """VisA as it is published: ``<category>/Data/Images/{Normal,Anomaly}``, split by ``split_csv/1cls.csv``."""

    looks_for = "Data/Images/Normal, and split_csv/1cls.csv beside the category"

    def recognise(self, root: Path) -> bool:
        return has_child(root, "Data", "Images", "Normal") or has_child(root, "Data", "Images", "Anomaly")

    def rows(self, root: Path) -> tuple[list[Row], list[str]]:
        category = root.resolve()
        path = category.parent / "split_csv" / "1cls.csv"
        if not path.is_file():
            raise DataError(
                f"{path}: no such file; {root} needs VisA's table of splits there, copy it from the archive"
            )
        records, problems = read_table(path, ("object", "split", "label", "image", "mask"))
        mine = [(place, record) for place, record in records if record["object"] == category.name]
        if not mine:
            raise DataError(
                f"{path}: holds no row of the object {category.name!r}; expected {root} to be named like one"
            )
        given = [
            Row(
                place,
                _below(root, record["image"]),
                record["label"],
                _below(root, record["mask"]) if record["mask"] else None,
                record["split"],
            )
            for place, record in mine
            if _complete(place, record, problems)
        ]
        return judge(root, given, problems)

    def protects(self, root: Path, inside: str) -> bool:
        return inside == "data" and self.recognise(root)  # Normal holds test images too


def read_table(path: Path, required: Sequence[str]) -> tuple[list[tuple[str, dict[str, str]]], list[str]]:
    """The records of a CSV or Parquet file, each with where it stands, and a line for each that is broken.

    Raises:
        DataError: it cannot be read, lacks a column, or holds no row.
    """
    header, lines = _read(path, rows=True)
    missing = [name for name in required if name not in header]
    if missing:
        raise DataError(
            f"{path}: lacks the column{'s'[: len(missing) != 1]} {', '.join(missing)}; "
            f"expected {', '.join(required)} in the first line, separated by commas; found {', '.join(header) or 'none'}"
        )
    records, problems = [], []
    for place, values in lines:
        if len(values) == len(header):
            records.append((f"{path.name} {place}", dict(zip(header, values, strict=True))))
        else:
            problems.append(f"{path.name} {place}: {len(values)} values for {len(header)} columns; mend the row")
    if not records and not problems:
        raise DataError(f"{path}: holds no rows; expected one for each image")
    return records, problems


def judge(root: Path, rows: Iterable[Row], problems: list[str]) -> tuple[list[Row], list[str]]:
    """The rows that hold together, and ``problems`` with a line for each that does not."""
    kept: dict[str, Row] = {}
    for row in rows:
        place = os.path.realpath(row.image)
        folders = Path(relative_name(root, row.image)).parts[:-1]
        if row.split not in SPLITS:
            reason = f"split {row.split!r}; expected {', '.join(SPLITS)}"
        elif row.label.isdecimal() or meaning(row.label) is Meaning.UNCLEAR:
            reason = f"label {row.label!r} may mean either; expected good, or the name of a kind of defect"
        elif row.split != "test" and not row.good:
            reason = f"{row.image} is {row.label}, but in the split {row.split}; only good images are learnt from"
        elif row.split != "test" and NEVER_TRAINED_ON.intersection(map(str.casefold, folders)):
            reason = f"{row.image} lies below test or ground_truth, never trained on; give it the split test or move it"
        elif place in kept:
            reason = f"{row.image} is named by {kept[place].place} already; name each image once"
        elif not row.image.is_file():
            reason = f"{row.image}: no such image; mend its path, which starts at the table's folder"
        elif row.mask is not None and not row.mask.is_file():
            reason = f"{row.mask}: no such mask; mend its path, or leave it empty for a good image"
        else:
            kept[place] = row
            continue
        problems.append(f"{row.place}: {reason}")
    return list(kept.values()), problems


def refuse(problems: Sequence[str]) -> None:
    """Raise a :class:`~shiftproof.errors.DataError` with the first problem and the number of others, if there are any."""
    if problems:
        more = f" (and {len(problems) - 1} more: see shiftproof data check)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}")


def write_manifest(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write a manifest: rows of :data:`COLUMNS`, paths relative to its folder or absolute."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _complete(place: str, record: Mapping[str, str], problems: list[str]) -> bool:
    empty = [name for name in ("image", "label", "split") if not record[name]]
    if empty:
        problems.append(f"{place}: no {' and no '.join(empty)}; fill it in, or remove the row")
    return not empty


def _below(category: Path, name: str) -> Path:
    """VisA's ``candle/Data/Images/Normal/0000.JPG`` below a category's folder."""
    return category.joinpath(*Path(name).parts[1:])


def _read(path: Path, *, rows: bool) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The header, and where each row stands with its values, if ``rows`` are wanted."""
    try:
        return (_read_parquet if path.suffix.lower() == ".parquet" else _read_csv)(path, rows)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}); save it again as CSV in UTF-8") from error


def _read_csv(path: Path, rows: bool) -> tuple[list[str], list[tuple[str, list[str]]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            found = ((f"line {reader.line_num}", [value.strip() for value in values]) for values in reader if values)
            return header, list(found) if rows else []
        except csv.Error as error:
            raise DataError(f"{path} line {reader.line_num}: {error}; mend its quotes") from error


def _read_parquet(path: Path, rows: bool) -> tuple[list[str], list[tuple[str, list[str]]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{path}: needs pyarrow to be read: pip install pyarrow, or save it as CSV") from error
    try:
        table = pyarrow.parquet.ParquetFile(path)
        header = list(table.schema_arrow.names)
        records = table.read().to_pylist() if rows else []
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error}); write it again") from error
    lines = [["" if value is None else str(value).strip() for value in record.values()] for record in records]
    return header, [(f"row {number}", line) for number, line in enumerate(lines, start=1)]
