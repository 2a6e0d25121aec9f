"""Data sets whose folders say it all: splits, below them kinds, and masks by the same names.

MVTec AD (Bergmann et al., CVPR 2019), MVTec AD 2 (Heckler-Kram et al., 2025), MVTec LOCO (Bergmann et al., IJCV 2022),
MVTec 3D-AD (Bergmann et al., VISAPP 2022), BTAD (Mishra et al., ISIE 2021); and folders of one's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shiftproof.data.annotations import read_annotations
from shiftproof.data.layouts.base import LabelledImage, LabelledSet, Layout, MissingSplitError
from shiftproof.data.layouts.files import (
    SUFFIXES,
    child,
    find_images,
    folders,
    folders_of,
    has_child,
    images_below,
    walk_images,
)
from shiftproof.data.layouts.pairing import MaskFiles, split_twins
from shiftproof.data.vocabulary import Meaning, meaning, split_of
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
        return bool(folders_of(child(root, "train"), Meaning.GOOD)) or has_child(root, "test")

    def good(self, root: Path) -> list[Path]:
        found = folders_of(child(root, "train"), Meaning.GOOD)
        if not found:
            return self.training_images(child(root, "train", self.good_kind))
        images = [path for folder in found for path in self.only_good(folder)]
        if not images:
            raise DataError(f"{found[0]}: no images found; looked for {SUFFIXES} in this folder and all below it")
        return images

    def calibration(self, root: Path) -> list[Path]:
        splits = [folder for folder in folders(root) if split_of(folder.name) == "calibration"]
        found = [folder for split in splits for folder in folders_of(split, Meaning.GOOD)]
        return [path for folder in found for path in self.only_good(folder)]

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

    @staticmethod
    def only_good(folder: Path) -> list[Path]:
        """The images below a folder of good ones, without masks; a folder of defects among them is refused."""
        images, _ = split_twins(images_below(folder))
        kept = []
        for path in images:
            said = {meaning(part): part for part in path.relative_to(folder).parts[:-1]}
            if found := said.get(Meaning.DEFECTIVE) or said.get(Meaning.UNCLEAR):
                raise DataError(f"{path}: lies in {found} below {folder.name}; move it out of the good images")
            if Meaning.MASK not in said:
                kept.append(path)
        return kept

    def labelled(self, root: Path, folder: Path) -> LabelledSet:
        """A test set of ``folder/<kind>/**`` with its masks."""
        found = list(self.images(root, folder))
        if not found:
            raise DataError(f"{folder}: no images to test on; looked for {SUFFIXES}")
        problems: list[str] = []
        files = self.mask_files(root, folder)
        masks = None if files is None else MaskFiles(files, self.several_masks, problems)
        annotated = read_annotations(root) if files is None else None
        defective = [image for image in found if not self.is_good(image.kind)]
        stems = Counter(image.path.stem for image in defective)
        items = []
        for image in found:
            name, variant = image.path.relative_to(root).as_posix(), self.variant(image.path)
            if self.is_good(image.kind):
                items.append(LabelledImage(image.path, name, image.kind, False, variant=variant))
                continue
            own = masks.take(image.key, alone=stems[image.path.stem] == 1) if masks else []
            shapes = annotated.shapes_of(image.path) if annotated else ()
            if masks and not own:
                wanted = self.wanted(root, image)
                problems.append(f"{image.path}: defective, but without its mask; expected {wanted}")
            if annotated and not shapes:
                problems.append(f"{image.path}: defective, but nothing is drawn on it in {annotated.source}; draw it")
            items.append(LabelledImage(image.path, name, image.kind, True, tuple(own), shapes, variant))
        good = (image.path.stem for image in found if self.is_good(image.kind))
        problems += [
            f"{stray}: mask without its image; expected one of that name in {folder}, or remove the mask"
            for stray in (masks.left(good) if masks else [])
        ]
        problems += annotated.problems if annotated else ()
        return LabelledSet(tuple(items), has_masks=bool(masks or annotated), problems=tuple(problems))

    def images(self, root: Path, folder: Path) -> Iterator[Found]:
        """The images of a split, of whatever kind; those that are masks by their names are left out."""
        truth = child(root, *self.truth_folder)
        for path in split_twins(images_below(folder))[0]:
            below = path.relative_to(folder)
            if path.is_relative_to(truth) or meaning(below.parts[0]) is Meaning.MASK:
                continue
            if len(below.parts) < 2:
                raise DataError(
                    f"{path}: lies in no folder of a kind; "
                    f"expected {folder}/{self.good_kind} or {folder}/<kind of defect>"
                )
            if meaning(below.parts[0]) is Meaning.UNCLEAR:
                raise DataError(
                    f"{folder / below.parts[0]}: its name says good and defective; rename it, or write a manifest"
                )
            yield Found(path, below.parts[0], below.with_suffix("").as_posix())

    def mask_files(self, root: Path, folder: Path) -> list[tuple[str, Path]] | None:
        """Each mask with its key, ``<kind>/<stem>`` or ``<kind>/<stem>_mask``; None where the data set has none."""
        twins = split_twins(images_below(folder))[1]
        found = [(path.relative_to(folder).with_suffix("").as_posix(), path) for path in twins]
        truth = self.truth(root, folder)
        if truth is not None:
            found += [(path.relative_to(truth).with_suffix("").as_posix(), path) for path in images_below(truth)]
        return found if found or truth is not None else None

    def truth(self, root: Path, folder: Path) -> Path | None:
        """The folder of masks: ``ground_truth``, or another that is called so and holds images."""
        named = child(root, *self.truth_folder)
        if named.is_dir():
            return named
        places = {*folders_of(root, Meaning.MASK), *folders_of(folder, Meaning.MASK)}
        found = sorted(place for place in places if next(walk_images(place), None) is not None)
        if len(found) > 1:
            raise DataError(
                f"{found[0]}, {found[1].name}: two folders of masks; expected one, rename or remove the other"
            )
        return found[0] if found else None

    def wanted(self, root: Path, image: Found) -> str:
        """Where the mask of a defective image was looked for."""
        mask = child(root, *self.truth_folder) / f"{image.key}_mask.png"
        return f"{mask} (or {image.path.name} there)"

    def is_good(self, kind: str) -> bool:
        return meaning(kind) is Meaning.GOOD

    def variant(self, path: Path) -> str:
        """What the file's name says of how it was taken."""
        return ""

    def protects(self, root: Path, inside: str) -> bool:
        # A folder that is only called test, in no category, may well hold good images.
        tested = inside in {self.test_folder[0], self.truth_folder[0]} or meaning(inside) is Meaning.MASK
        return tested and bool(folders_of(child(root, "train"), Meaning.GOOD))


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

    def mask_files(self, root: Path, folder: Path) -> list[tuple[str, Path]] | None:
        files = super().mask_files(root, folder)
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

    def mask_files(self, root: Path, folder: Path) -> list[tuple[str, Path]] | None:
        kinds = [kind for kind in folders(child(root, "test")) if has_child(kind, "gt")]
        files = [(kind.name, path) for kind in kinds for path in images_below(child(kind, "gt"))]
        return [(f"{kind}/{path.stem}", path) for kind, path in files] or None

    def wanted(self, root: Path, image: Found) -> str:
        return str(image.path.parents[1] / "gt" / f"{image.path.stem}.png")


class Plain(Category):
    """Any folder of images: flat or nested, all good; or folders of good images beside those of defects, and masks.

    Where names say that some of the images are not good, and none that others are, nothing is guessed.
    """

    looks_for = f"{SUFFIXES} in this folder and all below it"

    def recognise(self, root: Path) -> bool:
        return root.is_file() or next(walk_images(root), None) is not None

    def labelled_folders(self, root: Path) -> bool:
        """Whether there is a folder of good images beside at least one of defects."""
        return bool(folders_of(root, Meaning.GOOD)) and any(
            meaning(folder.name) not in (Meaning.GOOD, Meaning.MASK) for folder in folders(root)
        )

    def good(self, root: Path) -> list[Path]:
        if root.is_file():
            return [root]
        good = folders_of(root, Meaning.GOOD)
        if not good:
            found = find_images(root)
            refuse_doubtful(root, found)
            return found
        found = [path for folder in good for path in self.only_good(folder)]
        if not found:
            raise DataError(f"{good[0]}: no images found; looked for {SUFFIXES} in this folder and all below it")
        return found

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


class Everything(Layout):
    """Every image below a folder, whatever the folders are called: for those who insist."""

    looks_for = "--layout all-good"

    def recognise(self, root: Path) -> bool:
        return False

    def good(self, root: Path) -> list[Path]:
        return find_images(root)

    def test(self, root: Path) -> LabelledSet:
        raise MissingSplitError(f"{root}: nothing to test on; every image is taken as good")


def refuse_doubtful(root: Path, images: list[Path]) -> None:
    """Refuse images of which names or annotations beside them say that not all are good, though none says which are.

    Raises:
        DataError: names the folders or files, and how to insist.
    """
    insist = "name the folder of good images alone, or call it good; --layout all-good takes all"
    folders_said: dict[str, int] = {}
    doubtful = (Meaning.DEFECTIVE, Meaning.MASK, Meaning.UNCLEAR)
    for path in images:
        for part in path.relative_to(root).parts[:-1]:
            if meaning(part) in doubtful:
                folders_said[part] = folders_said.get(part, 0) + 1
                break
    if folders_said:
        said = ", ".join(f"{name} ({count} images)" for name, count in sorted(folders_said.items()))
        raise DataError(f"{root}: holds folders that are not called good: {said}; {insist}")
    _, twins = split_twins(images)
    if twins:
        raise DataError(f"{root}: {len(twins)} images are called masks of others, such as {twins[0].name}; {insist}")
    called = {meaning(path.stem): path.name for path in images}
    if Meaning.GOOD in called and Meaning.DEFECTIVE in called:
        raise DataError(
            f"{root}: file names say good and defective ({called[Meaning.GOOD]}, {called[Meaning.DEFECTIVE]}); "
            "sort them into folders, or write a manifest; --layout all-good takes all"
        )


def images_below_if_any(folder: Path) -> list[Path]:
    """All images below a folder, none where there is no such folder."""
    return images_below(folder) if folder.is_dir() else []
