"""Which mask file belongs to which image, by name: ``<kind>/<stem>_mask``, ``<kind>/<stem>``, or without the kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from shiftproof.data.vocabulary import Meaning, image_of_mask, meaning


class MaskFiles:
    """The mask files of a data set; each is given to one image.

    Args:
        files: each mask's key, which is its path below the folder of masks without suffix, and its path.
        several: whether an image may have more than one mask of the same key.
        problems: is told of masks that cannot be told apart.
    """

    def __init__(self, files: Iterable[tuple[str, Path]], several: bool, problems: list[str]) -> None:
        self._left: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for key, path in files:
            if meaning(key.partition("/")[0]) is Meaning.GOOD and "/" in key:
                continue  # masks of good images do not matter
            if key in self._left and not several:
                first = self._left[key][0].name
                problems.append(f"{path}: a second mask beside {first}; expected one, remove the other")
            else:
                self._left.setdefault(key, []).append(path)
        for key in self._left:
            place = PurePosixPath(key)
            stem = image_of_mask(place.name) or place.name
            self._by_stem.setdefault((place.parent / stem).as_posix(), []).append(key)

    def take(self, key: str, *, alone: bool) -> list[Path]:
        """The masks of an image, taken out of what is left, so that none serves two.

        Args:
            key: ``<kind>/<stem>``.
            alone: whether no other defective image has this stem, so that a mask without a kind can be its.
        """
        stem = PurePosixPath(key).name
        wanted = [f"{key}_mask", key, *self._by_stem.get(key, [])]
        if alone:
            wanted += [f"{stem}_mask", stem, *self._by_stem.get(stem, [])]
        return next((self._left.pop(name) for name in wanted if name in self._left), [])

    def left(self, good: Iterable[str]) -> list[Path]:
        """Masks that no image took, without those of good images, which may well be empty.

        Args:
            good: stems of the good images.
        """
        of_good = set(good)
        return [
            path
            for key, paths in self._left.items()
            for path in paths
            if "/" in key or not {key, image_of_mask(key)} & of_good
        ]


def split_twins(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Images, and those among them that are masks by their names: ``0001_mask.png`` beside ``0001.jpg``."""
    stems = {(path.parent, path.stem) for path in paths}
    twins = {path for path in paths if (path.parent, image_of_mask(path.stem) or "") in stems}
    return [path for path in paths if path not in twins], [path for path in paths if path in twins]
