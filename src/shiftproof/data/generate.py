"""Small made-up data sets in every layout, with the directory names and file types of the originals.

For tests, and to see what a layout looks like: gray stripes with noise, whose defect is a bright square.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.data.depth import write_xyz
from shiftproof.data.images import write_image
from shiftproof.data.layouts import write_manifest
from shiftproof.errors import unknown

LIGHTINGS = ("regular", "overexposed", "underexposed", "shift_1", "shift_2", "shift_3")
"""How MVTec AD 2 calls the lightings in its file names."""


@dataclass(frozen=True)
class Maker:
    """Writes parts that look alike and are never the same."""

    random: np.random.Generator
    train: int
    """Images to train on."""
    calibration: int
    """Good images that the data set itself holds out, where its layout has such a split."""
    test: int
    """Images to test on, of each kind."""
    size: tuple[int, int]
    """(height, width)."""

    def good(self, path: Path) -> None:
        """Write a good part."""
        write_image(path, self._part())

    def defective(self, path: Path, *masks: Path, value: int = 255) -> None:
        """Write a part with one defect for each mask, and the masks."""
        image = self._part()
        for mask in masks or [None]:
            square = self._square()
            image[square] = 250
            if mask is not None:
                write_image(mask, square.astype(np.uint8) * value)
        write_image(path, image)

    def empty_mask(self, path: Path) -> None:
        """Write a mask in which nothing is set."""
        write_image(path, np.zeros(self.size, np.uint8))

    def points(self, path: Path) -> None:
        """Write a slanting plane, 0.5 m away, with a rim that was not measured."""
        y, x = np.mgrid[: self.size[0], : self.size[1]] / 1000.0
        z = 0.5 + 0.1 * x + self.random.normal(0, 1e-4, self.size)
        points = np.stack([x, y, z], axis=2).astype(np.float32)
        points[:2] = 0
        write_xyz(path, points)

    def _part(self) -> NDArray[np.uint8]:
        y, x = np.mgrid[: self.size[0], : self.size[1]]
        stripes = 110 + 40 * np.sin((x + 2 * y) / 5 + self.random.uniform(0, 6))
        gray = np.clip(stripes + self.random.normal(0, 4, self.size), 0, 255)
        return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)

    def _square(self) -> NDArray[np.bool_]:
        height, width = self.size
        top, left = self.random.integers(0, (height - height // 4, width - width // 4))
        square = np.zeros(self.size, dtype=bool)
        square[top : top + height // 4, left : left + width // 4] = True
        return square


def generate(
    layout: str,
    root: Path,
    random: np.random.Generator,
    *,
    train: int = 6,
    calibration: int = 3,
    test: int = 3,
    size: tuple[int, int] = (32, 48),
) -> Path:
    """Write one category.

    Args:
        layout: a name of :data:`MAKERS`: the layouts, and ``visa-mvtec``, VisA's copy in MVTec AD's style.
        root: folder of the category; VisA's table of splits is written, or lengthened, beside it.
        random: of the pixels.
        train: images to train on.
        calibration: good images that the data set itself holds out, where its layout has such a split.
        test: images to test on, of each kind.
        size: (height, width) of the images, each at least 8.

    Returns:
        ``root``.

    Raises:
        UsageError: ``layout`` is not a known name; DataError: it cannot be written.
    """
    if layout not in MAKERS:
        raise unknown("layout", layout, MAKERS)
    MAKERS[layout](root, Maker(random, train, calibration, test, size))
    return root


def _mvtec(root: Path, make: Maker) -> None:
    for i in range(make.train):
        make.good(root / f"train/good/{i:03}.png")
    for i in range(make.test):
        make.good(root / f"test/good/{i:03}.png")
        for kind in ("scratch_head", "thread_top"):
            make.defective(root / f"test/{kind}/{i:03}.png", root / f"ground_truth/{kind}/{i:03}_mask.png")


def _mvtec_2(root: Path, make: Maker) -> None:
    for i in range(make.train):
        make.good(root / f"train/good/{i:03}_regular.png")
    for i in range(make.calibration):
        make.good(root / f"validation/good/{i:03}_regular.png")
    for i in range(make.test):
        name = f"{i:03}_{LIGHTINGS[i % len(LIGHTINGS)]}"
        make.good(root / f"test_public/good/{name}.png")
        make.defective(root / f"test_public/bad/{name}.png", root / f"test_public/ground_truth/bad/{name}_mask.png")
        make.defective(root / f"test_private/{i:03}_regular.png")
        make.defective(root / f"test_private_mixed/{i:03}_mixed.png")


def _mvtec_3d(root: Path, make: Maker) -> None:
    for split, count in (("train", make.train), ("validation", make.calibration), ("test", make.test)):
        for i in range(count):
            folder = root / split / "good"
            make.good(folder / f"rgb/{i:03}.png")
            make.points(folder / f"xyz/{i:03}.tiff")
            make.empty_mask(folder / f"gt/{i:03}.png")
    for i in range(make.test):
        folder = root / "test/crack"
        make.defective(folder / f"rgb/{i:03}.png", folder / f"gt/{i:03}.png")
        make.points(folder / f"xyz/{i:03}.tiff")


def _loco(root: Path, make: Maker) -> None:
    for split, count in (("train", make.train), ("validation", make.calibration), ("test", make.test)):
        for i in range(count):
            make.good(root / f"{split}/good/{i:03}.png")
    for i in range(make.test):
        for kind in ("logical_anomalies", "structural_anomalies"):
            folder = root / f"ground_truth/{kind}/{i:03}"
            masks = [folder / f"{mask:03}.png" for mask in range(1 + i % 2)]
            make.defective(root / f"test/{kind}/{i:03}.png", *masks)


def _btad(root: Path, make: Maker) -> None:
    for i in range(make.train):
        make.good(root / f"train/ok/{i:04}.bmp")
    for i in range(make.test):
        make.good(root / f"test/ok/{i:04}.bmp")
        make.defective(root / f"test/ko/{i:04}.bmp", root / f"ground_truth/ko/{i:04}.png")


def _ksdd(root: Path, make: Maker) -> None:
    for first, count, defective in ((1, make.train, False), (34, make.test, False), (20, make.test, True)):
        for i in range(count):
            image = root / f"kos{first + i // 4:02}/Part{i % 4}.jpg"
            label = image.with_name(f"{image.stem}_label.bmp")
            if defective:
                make.defective(image, label)
            else:
                make.good(image)
                make.empty_mask(label)


def _visa(root: Path, make: Maker) -> None:
    table = root.parent / "split_csv" / "1cls.csv"
    rows = []
    for split, count in (("train", make.train), ("test", make.test)):
        for i in range(count):
            name = f"Data/Images/Normal/{i + make.train * (split == 'test'):04}.JPG"
            make.good(root / name)
            rows.append((root.name, split, "normal", f"{root.name}/{name}", ""))
    for i in range(make.test):
        name, mask = f"Data/Images/Anomaly/{i:03}.JPG", f"Data/Masks/Anomaly/{i:03}.png"
        make.defective(root / name, root / mask, value=1)
        rows.append((root.name, "test", "anomaly", f"{root.name}/{name}", f"{root.name}/{mask}"))
    table.parent.mkdir(parents=True, exist_ok=True)
    begun = table.exists()
    with table.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([*([] if begun else [("object", "split", "label", "image", "mask")]), *rows])


def _visa_mvtec(root: Path, make: Maker) -> None:
    for i in range(make.train):
        make.good(root / f"train/good/{i:04}.JPG")
    for i in range(make.test):
        make.good(root / f"test/good/{make.train + i:04}.JPG")
        make.defective(root / f"test/bad/{i:03}.JPG", root / f"ground_truth/bad/{i:03}.png")


def _folder(root: Path, make: Maker) -> None:
    for i in range(make.train):
        make.good(root / f"good/{i}.png")
    for i in range(make.test):
        make.defective(root / f"dent/{i}.jpg", root / f"ground_truth/dent/{i}.png")


def _manifest(root: Path, make: Maker) -> None:
    rows = []
    for split, count in (("train", make.train), ("calibration", make.calibration), ("test", make.test)):
        for i in range(count):
            name = f"images/{split}-{i}.png"
            make.good(root / name)
            rows.append({"image": name, "label": "good", "mask": "", "split": split})
    for i in range(make.test):
        name, mask = f"images/dent-{i}.png", f"masks/dent-{i}.png"
        make.defective(root / name, root / mask)
        rows.append({"image": name, "label": "dent", "mask": mask, "split": "test"})
    write_manifest(root / "manifest.csv", rows)


MAKERS: dict[str, Callable[[Path, Maker], None]] = {
    "mvtec": _mvtec,
    "mvtec-2": _mvtec_2,
    "mvtec-3d": _mvtec_3d,
    "mvtec-loco": _loco,
    "btad": _btad,
    "visa": _visa,
    "visa-mvtec": _visa_mvtec,
    "ksdd": _ksdd,
    "folder": _folder,
    "manifest": _manifest,
}
"""Who writes which layout."""
