r"""What the light of a test set alone tells of its labels, and what is left of a model's AUROC when that is taken away.

    python benchmarks/confounds.py DATA [--models MODEL ...] [--shifts paper] [--threads 1]

For each statistic of a whole image (:mod:`shiftproof.drift.statistics`) its image AUROC, folded to lie above 0.5: near 0.5
it tells nothing. Where one of them tells good from defective images that differ by a small defect, the two were taken under
different light or lie differently, and whatever a score owes to that it has not earned. (A defect that is as large as the
image may of course show in them honestly.)

For each model: image AUROC, then the share of good and of defective images above its threshold, in percent; on the test set
as it is, and *levelled*: every test image first gets, by adding one number to all of its pixels, the median light of the
good training images, and is shifted then. Light tells good from defective no more.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from shiftproof.data import good_images, labelled_images, read_image, resize_image
from shiftproof.detector import Detector
from shiftproof.drift.statistics import STATISTICS, measure
from shiftproof.loading import load
from shiftproof.shifts import parse_conditions
from shiftproof.training import parse_size

Pixels = NDArray[np.uint8]
LIGHT = [statistic.name for statistic in STATISTICS].index("light")


def row(name: str, cells: list[str]) -> str:
    """A row of a Markdown table."""
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Measure every test image under every condition, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", type=Path, nargs="*", default=[])
    parser.add_argument("--shifts", default="paper")
    parser.add_argument("--image-size", type=parse_size, default=(256, 256), help="that statistics are measured at")
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    size = arguments.image_size
    images = labelled_images(arguments.data).images
    truth = np.array([image.defective for image in images])
    conditions = parse_conditions(arguments.shifts)

    def light(pixels: Pixels) -> float:
        return float(measure(resize_image(pixels, size))[LIGHT])

    usual = float(np.median([light(read_image(path)) for path in good_images(arguments.data)]))

    def as_it_is(pixels: Pixels) -> Pixels:
        return pixels

    def levelled(pixels: Pixels) -> Pixels:
        return np.clip(np.rint(pixels + (usual - light(pixels))), 0, 255).astype(np.uint8)

    def each(look: Callable[[Pixels], Pixels], of: Callable[[Pixels], object]) -> NDArray[np.float64]:
        """``of`` of every test image under every condition: [conditions, images, ...]."""
        columns = []
        for image in images:
            pixels = look(read_image(image.path))
            shifted = (c.apply(pixels, None, seed=0, image_name=image.name).image for c in conditions)
            columns.append([of(moved) for moved in shifted])
        return np.swapaxes(np.array(columns, np.float64), 0, 1)

    print(f"{(~truth).sum()} good and {truth.sum()} defective images; the training images' light: {usual:.1f} of 255\n")
    head = [condition.name for condition in conditions]
    print(row("statistic", head) + "\n|" + "---|" * (len(head) + 1))
    values = each(as_it_is, lambda pixels: measure(resize_image(pixels, size)))
    for column, statistic in enumerate(STATISTICS):
        aurocs = [roc_auc_score(truth, of_condition[:, column]) for of_condition in values]
        print(row(statistic.name, [f"{max(a, 1 - a):.3f}" for a in aurocs]))
    if arguments.models:
        print("\n" + row("model", [*head, "mean over the shifts"]) + "\n|" + "---|" * (len(head) + 2))
    for model in arguments.models:
        detector = load(model, "torch", threads=arguments.threads)

        def score(pixels: Pixels, detector: Detector = detector) -> float:
            return float(detector.maps_and_scores(resize_image(pixels, detector.image_size)[None])[1][0])

        for look in (as_it_is, levelled):
            scores = each(look, score)
            above = scores > detector.calibration.threshold
            aurocs = [roc_auc_score(truth, of_condition) for of_condition in scores]
            cells = [
                f"{auroc:.3f}, {100 * high[~truth].mean():.0f}, {100 * high[truth].mean():.0f}"
                for auroc, high in zip(aurocs, above, strict=True)
            ]
            name = f"{model}, {look.__name__.replace('_', ' ')}"
            print(row(name, [*cells, f"{np.mean(aurocs[1:]):.3f}"]), flush=True)


if __name__ == "__main__":
    main()
