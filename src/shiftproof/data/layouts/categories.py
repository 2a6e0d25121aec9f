"""Data sets whose folders say it all: splits, below them kinds, and masks by the same names.

MVTec AD (Bergmann et al., CVPR 2019), MVTec AD 2 (Heckler-Kram et al., 2025), MVTec LOCO (Bergmann et al., IJCV 2022),
MVTec 3D-AD (Bergmann et al., VISAPP 2022), BTAD (Mishra et al., ISIE 2021); and folders of one's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof.data.layouts.base import LabelledImage, LabelledSet, Layout, MissingSplitError
from shiftproof.data.layouts.files import SUFFIXES, child, find_images, folders, has_child, images_below, walk_images
from shiftproof.errors import DataError


@dataclass(frozen=True)
class Found:
    """One image of a split, before its mask is looked for."""

    path: Path
    kind: str
    key: str
    """What its mask is called, without suffix: ``<kind>/<stem>``."""


class Category(Layout):
    """MVTec AD: ``train/good``, ``test/<kind>`` and ``ground_truth/<kind>/<stem>_mask.*`` (or ``<stem>.*``).

    Where there is a ``validation/good``, its images are held out of training, to place the threshold with.
    """

    looks_for = "train/good or test/<kind>"
    good_kind = "good"
    test_folder: tuple[str, ...] = ("test",)
    truth_folder: tuple[str, ...] = ("ground_truth",)
    several_masks = False

    def recognise(self, root: Path) -> bool:
        return has_child(root, "train", "good") or has_child(root, "test")

    def good(self, root: Path) -> list[Path]:
        return self.training_images(child(root, "train", self.good_kind))

    def calibration(self, root: Path) -> list[Path]:
        folder = child(root, "validation", self.good_kind)
        return images_below(folder) if folder.is_dir() else []

    def test(self, root: Path) -> LabelledSet:
        folder = child(root, *self.test_folder)
        if not folders(folder):
            raise MissingSplitError(
                f"{root}: nothing to test on; looked for {folder}/<kind>/ with good and defective images"
            )
        return self.labelled(root, folder)

    @staticmethod
    def training_images(folder: Path) -> list[Path]:
        """The images in a folder that a category need not have."""
        if not folder.is_dir():
            raise MissingSplitError(f"{folder}: no such folder; expected good images to train on there")
        return find_images(folder)

    def labelled(self, root: Path, folder: Path) -> LabelledSet:
        """A test set of ``folder/<kind>/**`` with its masks."""
        found = list(self.images(root, folder))
        if not found:
            raise DataError(f"{folder}: no images to test on; looked for {SUFFIXES}")
        problems: list[str] = []
        masks = self._grouped_masks(root, problems)
        items = []
        for one in found:
            defective = not self.is_good(one.kind)
            mine: list[Path] = []
            if masks is not None and defective:
                # Taken out of what is left: no mask can serve two images.
                mine = masks.pop(f"{one.key}_mask", []) or masks.pop(one.key, [])
                if not mine:
                    problems.append(f"{one.path}: defective, but without its mask; expected {self.wanted(root, one)}")
            name = one.path.relative_to(root).as_posix()
            items.append(LabelledImage(one.path, name, one.kind, defective, tuple(mine), self.variant(one.path)))
        problems += [
            f"{stray}: mask without its image; expected one of that name in {folder}, or remove the mask"
            for paths in (masks or {}).values()
            for stray in paths
        ]
        return LabelledSet(tuple(items), has_masks=masks is not None, problems=tuple(problems))

    def _grouped_masks(self, root: Path, problems: list[str]) -> dict[str, list[Path]] | None:
        files = self.mask_files(root)
        if files is None:
            return None
        masks: dict[str, list[Path]] = {}
        for key, path in files:
            if self.is_good(key.partition("/")[0]):
                continue
            if key in masks and not self.several_masks:
                problems.append(f"{path}: a second mask beside {masks[key][0].name}; expected one, remove the other")
            else:
                masks.setdefault(key, []).append(path)
        return masks

    def images(self, root: Path, folder: Path) -> Iterator[Found]:
        """The images of a split, of whatever kind."""
        truth = child(root, *self.truth_folder)
        for path in images_below(folder):
            below = path.relative_to(folder)
            if path.is_relative_to(truth):
                continue
            if len(below.parts) < 2:
                raise DataError(
                    f"{path}: lies in no folder of a kind; "
                    f"expected {folder}/{self.good_kind} or {folder}/<kind of defect>"
                )
            yield Found(path, below.parts[0], below.with_suffix("").as_posix())

    def mask_files(self, root: Path) -> list[tuple[str, Path]] | None:
        """Each mask with its key, ``<kind>/<stem>`` or ``<kind>/<stem>_mask``; None where the data set has none."""
        truth = child(root, *self.truth_folder)
        if not truth.is_dir():
            return None
        return [(path.relative_to(truth).with_suffix("").as_posix(), path) for path in images_below(truth)]

    def wanted(self, root: Path, image: Found) -> str:
        """Where the mask of a defective image was looked for."""
        mask = child(root, *self.truth_folder) / f"{image.key}_mask.png"
        return f"{mask} (or {image.path.name} there)"

    def is_good(self, kind: str) -> bool:
        return kind.casefold() == self.good_kind

    def variant(self, path: Path) -> str:
        """What the file's name says of how it was taken."""
        return ""

    def protects(self, root: Path, inside: str) -> bool:
        # A folder that is only called test, in no category, may well hold good images.
        return inside in {self.test_folder[0], self.truth_folder[0]} and has_child(root, "train", self.good_kind)


class Category2(Category):
    """MVTec AD 2: masks lie below ``test_public``, file names end in the lighting, private test sets have no labels."""

    looks_for = "test_public/<kind>"
    test_folder = ("test_public",)
    truth_folder = ("test_public", "ground_truth")
    private = ("test_private", "test_private_mixed")

    def recognise(self, root: Path) -> bool:
        return any(has_child(root, name) for name in (*self.test_folder, *self.private))

    def unlabelled(self, root: Path) -> list[Path]:
        return [path for name in self.private for path in images_below_if_any(child(root, name))]

    def variant(self, path: Path) -> str:
        return path.stem.partition("_")[2]  # 003_shift_1: image 3 under shift_1

    def protects(self, root: Path, inside: str) -> bool:
        return inside in {*self.test_folder, *self.private}


class BeanTech(Category):
    """BTAD: ``ok`` and ``ko``; an image and its mask may differ in file type (``.bmp`` and ``.png``)."""

    looks_for = "train/ok or test/ko"
    good_kind = "ok"

    def recognise(self, root: Path) -> bool:
        return has_child(root, "train", "ok") or has_child(root, "test", "ko")


class Loco(Category):
    """MVTec LOCO: each image has a folder of masks, one for each defect: ``ground_truth/<kind>/<stem>/000.png``."""

    looks_for = "test/logical_anomalies or test/structural_anomalies"
    several_masks = True

    def recognise(self, root: Path) -> bool:
        return any(has_child(root, "test", kind) for kind in ("logical_anomalies", "structural_anomalies"))

    def mask_files(self, root: Path) -> list[tuple[str, Path]] | None:
        files = super().mask_files(root)
        return files and [(str(PurePosixPath(key).parent), path) for key, path in files]

    def wanted(self, root: Path, image: Found) -> str:
        return str(child(root, *self.truth_folder) / image.key / "000.png")


class Category3D(Category):
    """MVTec 3D-AD: ``<split>/<kind>/{rgb,xyz,gt}``; the images are those in ``rgb``.

    The points in ``xyz`` become images by :func:`~shiftproof.data.depth.convert_depth`.
    """

    looks_for = "train/good/rgb or test/<kind>/rgb"

    def recognise(self, root: Path) -> bool:
        kinds = [child(root, "train", "good"), *folders(child(root, "test"))]
        return any(has_child(kind, "rgb") for kind in kinds)

    def good(self, root: Path) -> list[Path]:
        return self.training_images(child(root, "train", "good", "rgb"))

    def calibration(self, root: Path) -> list[Path]:
        return images_below_if_any(child(root, "validation", "good", "rgb"))

    def images(self, root: Path, folder: Path) -> Iterator[Found]:
        for kind in folders(folder):
            for path in images_below_if_any(child(kind, "rgb")):
                yield Found(path, kind.name, f"{kind.name}/{path.stem}")

    def mask_files(self, root: Path) -> list[tuple[str, Path]] | None:
        kinds = [kind for kind in folders(child(root, "test")) if has_child(kind, "gt")]
        files = [(kind.name, path) for kind in kinds for path in images_below(child(kind, "gt"))]
        return [(f"{kind}/{path.stem}", path) for kind, path in files] or None

    def wanted(self, root: Path, image: Found) -> str:
        return str(image.path.parents[1] / "gt" / f"{image.path.stem}.png")


class Plain(Category):
    """Any folder of images: flat or nested, all good; or ``good`` beside folders of defects, with optional masks."""

    looks_for = f"{SUFFIXES} in this folder and all below it"

    def recognise(self, root: Path) -> bool:
        return root.is_file() or next(walk_images(root), None) is not None

    def labelled_folders(self, root: Path) -> bool:
        """Whether there is a folder of good images beside at least one of defects."""
        kinds = [folder.name for folder in folders(root) if folder.name.casefold() not in self.truth_folder]
        return any(map(self.is_good, kinds)) and len(kinds) > 1

    def good(self, root: Path) -> list[Path]:
        good = child(root, "good")
        return find_images(good if good.is_dir() else root)

    def calibration(self, root: Path) -> list[Path]:
        return []

    def test(self, root: Path) -> LabelledSet:
        if not self.labelled_folders(root):
            raise MissingSplitError(
                f"{root}: nothing to test on; looked for test/<kind>/, or good/ beside at least one folder of defects"
            )
        return self.labelled(root, root)

    def protects(self, root: Path, inside: str) -> bool:
        return False


def images_below_if_any(folder: Path) -> list[Path]:
    """All images below a folder, none where there is no such folder."""
    return images_below(folder) if folder.is_dir() else []
