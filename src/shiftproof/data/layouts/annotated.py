"""Images with annotations beside them, as COCO, CVAT, LabelMe, Label Studio, PASCAL VOC and YOLO export them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from shiftproof.data.annotations import Annotations, read_annotations
from shiftproof.data.layouts.base import LabelledImage, LabelledSet, Layout, MissingSplitError
from shiftproof.data.layouts.files import child, folders_of, natural_key
from shiftproof.data.vocabulary import Meaning, split_of
from shiftproof.errors import DataError


class AnnotatedImages(Layout):
    """An image is defective if something is drawn on it, good if it is annotated and nothing is.

    Images that nobody has annotated are left out. A folder that is called train, val or test is the split of what lies
    below it; defective images are always tested on.
    """

    looks_for = "COCO, CVAT, LabelMe, Label Studio, PASCAL VOC or YOLO annotations"
    in_folders = False

    def recognise(self, root: Path) -> bool:
        places = (root, child(root, "train"), child(root, "test"))
        if not root.is_dir() or any(folders_of(place, Meaning.GOOD) for place in places):
            return False  # folders say what is good; annotations are masks
        return read_annotations(root) is not None

    def good(self, root: Path) -> list[Path]:
        found = self._annotations(root)
        good = [path for path in self._good(root, found) if self._split(root, path) in (None, "train")]
        if not good:
            raise MissingSplitError(
                f"{root}: no good images to train on; {found.source} draws something on every image that it names; "
                "name a folder of good images"
            )
        return good

    def calibration(self, root: Path) -> list[Path]:
        found = self._annotations(root)
        return [path for path in self._good(root, found) if self._split(root, path) == "calibration"]

    def test(self, root: Path) -> LabelledSet:
        found = self._annotations(root)
        good = self._good(root, found)
        tested = [path for path in good if self._split(root, path) == "test"]
        if all(self._split(root, path) is None for path in found.shapes):
            tested = good
        items = [LabelledImage(path, path.relative_to(root).as_posix(), "good", False) for path in tested]
        for path, shapes in found.shapes.items():
            if shapes:
                label = Counter(shape.label for shape in shapes).most_common(1)[0][0]
                name = path.relative_to(root).as_posix()
                items.append(LabelledImage(path, name, label, True, shapes=shapes))
        items.sort(key=lambda item: natural_key(Path(item.name)))
        return LabelledSet(tuple(items), has_masks=any(item.shapes for item in items), problems=found.problems)

    @staticmethod
    def _annotations(root: Path) -> Annotations:
        found = read_annotations(root)
        if found is None:
            raise DataError(f"{root}: no annotations found; looked for {AnnotatedImages.looks_for}")
        return found

    @staticmethod
    def _good(root: Path, found: Annotations) -> list[Path]:
        return sorted((path for path, shapes in found.shapes.items() if not shapes), key=natural_key)

    @staticmethod
    def _split(root: Path, path: Path) -> str | None:
        return next((split for part in path.relative_to(root).parts[:-1] if (split := split_of(part))), None)
