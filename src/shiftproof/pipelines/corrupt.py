"""Writing a shifted copy of a data set, for tools that read folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shiftproof.data import (
    LAYOUTS,
    LabelledImage,
    find_images,
    iter_images,
    labelled_images,
    load_mask,
    recognise_layout,
    relative_name,
    write_image,
    write_manifest,
)
from shiftproof.errors import DataError, ImageError
from shiftproof.shifts import Condition, ShiftNotApplicable


@dataclass(frozen=True)
class Corruption:
    """What was written."""

    images: int
    lost_defects: int  # defect regions that were moved wholly out of the frame
    failures: list[str]  # one line for each image that could not be shifted


def corrupt(
    data: Path,
    out: Path,
    condition: Condition,
    *,
    seed: int = 0,
    layout: str = "auto",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Corruption:
    """Write DATA's layout under OUT with the same file names: shifted test images, masks moved along, ``train`` linked.

    Several masks of an image become one. Where a table says what an image is, a ``manifest.csv`` says it of the copies.
    A folder without a test set is shifted whole. Pixels are those that ``evaluate --shifts`` sees with the same seed
    (JPEG files are written at the highest quality, which still rounds).

    Args:
        data: a labelled category, or a folder of images.
        out: folder to write; it must not hold anything yet.
        condition: the shift and its severity.
        seed: of what is random in it.
        layout: of ``data``.
        on_progress: is told (images done, images in all).

    Raises:
        DataError: nothing to read, or OUT is not free or cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not empty: choose another folder, so that shifted and other images do not mix")
    items, has_masks = _items(data, layout)
    root = data if data.is_dir() else data.parent
    rows: list[dict[str, str]] = []
    failures: list[str] = []
    lost = 0
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for done, (item, (_, image)) in enumerate(
            zip(items, iter_images([item.path for item in items]), strict=True), start=1
        ):
            try:
                if isinstance(image, ImageError):
                    raise image
                mask = load_mask(item, (image.shape[0], image.shape[1])) if has_masks else None
                shifted = condition.apply(image, mask, seed=seed, image_name=item.name)
            except (DataError, ShiftNotApplicable) as error:
                failures.append(str(error))
            else:
                lost += shifted.lost
                write_image(out / item.name, shifted.image)
                mask_name = _mask_name(root, item)
                if mask_name and shifted.mask is not None:
                    write_image(out / mask_name, shifted.mask.astype(np.uint8) * 255)
                rows.append({"image": item.name, "label": item.defect_type, "mask": mask_name, "split": "test"})
            on_progress(done, len(items))
        if len(failures) == len(items):
            if made:
                out.rmdir()  # nothing went into it
            raise DataError(f"no image of {data} could be shifted; the first: {failures[0]}")
        for folder in ("train", "validation"):
            if (data / folder).is_dir():
                (out / folder).symlink_to((data / folder).resolve(), target_is_directory=True)
        if rows and not LAYOUTS[recognise_layout(data, layout)].in_folders:
            write_manifest(out / "manifest.csv", rows)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}): free space, or choose another folder") from error
    return Corruption(len(items) - len(failures), lost, failures)


def _mask_name(root: Path, item: LabelledImage) -> str:
    """Where the mask of a shifted image goes; empty without one. Annotated shapes become a mask file."""
    if item.masks:
        return relative_name(root, item.masks[0])
    return f"ground_truth/{item.defect_type}/{Path(item.name).stem}_mask.png" if item.shapes else ""


def _items(data: Path, layout: str) -> tuple[tuple[LabelledImage, ...], bool]:
    """The images to shift: the test set, or all images of a folder that has none."""
    try:
        found = labelled_images(data, layout)
    except DataError:
        if recognise_layout(data, layout) != "folder":
            raise
        root = data if data.is_dir() else data.parent
        paths = find_images(data)
        return tuple(LabelledImage(path, path.relative_to(root).as_posix(), "", False) for path in paths), False
    return found.images, found.has_masks
