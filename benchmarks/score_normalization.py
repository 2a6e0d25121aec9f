r"""What an image's score is measured against: the same maps, scored in each way, clean and under shifts.

    python benchmarks/score_normalization.py MODEL DATA [--shifts paper] [--most 80] [--threads 1]

MODEL was trained on DATA with the default split and seed. Each cell: image AUROC, then the share of good and of defective
images above the 95 % quantile of calibration ones, in percent. The learned form is fitted to training images and
blind views of them, never to calibration or test images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from shiftproof.calibration import split_calibration
from shiftproof.data import good_images, labelled_images, read_image, resize_image
from shiftproof.detector import batched
from shiftproof.loading import load
from shiftproof.methods import Method, exact_inference, to_images
from shiftproof.networks.anomaly_map import LearnedNormalization, median_of_maps
from shiftproof.shifts import parse_conditions
from shiftproof.synthesis.augmix import augmix

Scores = Callable[[Tensor], Tensor]  # from maps [B, H, W] to scores [B]
FITTED = 64  # training images that the learned form is fitted to


def standardize(power: float) -> Scores:
    """The maximum above the median, over a power of the spread between lower quartile and median."""

    def scores(maps: Tensor) -> Tensor:
        values = maps[:, ::4, ::4].flatten(1)
        quartile, median = values.quantile(torch.tensor([0.25, 0.5]), dim=1)
        return (maps.amax(dim=(1, 2)) - median) / (median - quartile).clamp_min(1e-6) ** power

    return scores


def forms(learned: LearnedNormalization) -> dict[str, Scores]:
    """All ways, by name."""
    return {
        "maximum (papers)": lambda maps: maps.amax(dim=(1, 2)),
        "above the median": standardize(0.0),
        "in sigma ** 1/4": standardize(0.25),
        "in sigma ** 1/2": standardize(0.5),
        "in sigma": standardize(1.0),
        "over the median": lambda maps: (maps / median_of_maps(maps)).amax(dim=(1, 2)),
        "learned": lambda maps: learned(maps).amax(dim=(1, 2)),
    }


def maps_of(method: Method, images: Iterator[Tensor]) -> Iterator[Tensor]:
    """Smoothed distances of batches of images."""
    for batch in images:
        yield method.distances(method.features(batch), (batch.shape[-2], batch.shape[-1]))


def main() -> None:
    """Score everything once in every way, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--shifts", default="paper")
    parser.add_argument("--most", type=int, default=80, help="test images of each kind, good and defective")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    detector = load(arguments.model, "torch")
    method, size = detector.method, detector.image_size

    def decoded(paths: list[Path]) -> Iterator[Tensor]:
        for few in batched(paths, 8):
            yield to_images(torch.from_numpy(np.stack([resize_image(read_image(path), size) for path in few])))

    good = good_images(arguments.data)
    trained, calibration_set = split_calibration(len(good), detector.manifest["seed"])
    test = labelled_images(arguments.data).images
    chosen = []
    for kind in (False, True):
        images = [item for item in test if item.defective == kind]
        chosen += images[:: max(1, len(images) // arguments.most)][: arguments.most]
    truth = np.array([item.defective for item in chosen])
    random = np.random.default_rng(0)
    learned = LearnedNormalization()
    with exact_inference():
        looks = (x for images in decoded([good[i] for i in trained[:FITTED]]) for x in (images, augmix(images, random)))
        learned.fit(maps_of(method, looks))
        ways = forms(learned)

        def score(images: Iterator[Tensor]) -> dict[str, NDArray[np.float64]]:
            found: dict[str, list[Tensor]] = {name: [] for name in ways}
            for maps in maps_of(method, images):
                for name, way in ways.items():
                    found[name].append(way(maps))
            return {name: torch.cat(scores).double().numpy() for name, scores in found.items()}

        reference = score(decoded([good[i] for i in calibration_set]))
        cells: dict[str, list[str]] = {name: [] for name in ways}
        aurocs: dict[str, list[float]] = {name: [] for name in ways}
        conditions = parse_conditions(arguments.shifts)
        for condition in conditions:

            def shifted(condition=condition) -> Iterator[Tensor]:  # type: ignore[no-untyped-def]
                for few in batched(chosen, 8):
                    images = [condition.apply(read_image(i.path), None, seed=0, image_name=i.name).image for i in few]
                    yield to_images(torch.from_numpy(np.stack([resize_image(image, size) for image in images])))

            for name, scores in score(shifted()).items():
                above = scores > np.quantile(reference[name], 0.95)
                aurocs[name].append(float(roc_auc_score(truth, scores)))
                cells[name].append(
                    f"{aurocs[name][-1]:.3f}, {100 * above[~truth].mean():.0f}, {100 * above[truth].mean():.0f}"
                )
    print("| score | " + " | ".join(condition.name for condition in conditions) + " | mean over the shifts |")
    print("|" + "---|" * (len(conditions) + 2))
    for name in ways:
        print(f"| {name} | " + " | ".join(cells[name]) + f" | {np.mean(aurocs[name][1:]):.3f} |")


if __name__ == "__main__":
    main()
