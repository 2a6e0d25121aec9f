r"""What a threshold conditional on the look of an image is worth under shifts, beside the fixed one.

    python benchmarks/conditional.py MODEL DATA [--shifts paper] [--levelled] [--threads 1]

MODEL was trained on DATA with the default split. Each cell: the share of good and of defective images called defective, in
percent; in brackets the share of the good ones that are unusual, and so are not left to the fixed threshold.
Rows: *fixed*; *blind*, with versions of calibration images under none of the papers' shifts; *family left out*, with
all shifts but the one that is tested; *production*, with all of them. ``--levelled`` gives every test image the training
images' light first, by adding one number to all of its pixels: a set whose kinds differ by their light would flatter a
threshold that goes by it. A second table holds the p-values to their promise: the share of good images whose p-value is at
most 0.1, and at most 0.3, in percent; of a p-value that is one no more than 10 and 30, but for chance.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.calibration import split_calibration
from shiftproof.calibration.conditional import FAMILIES, ConditionalCalibration
from shiftproof.data import good_images, labelled_images, read_image, resize_image
from shiftproof.drift import STATISTICS, load_reference, measure
from shiftproof.loading import load
from shiftproof.shifts import SEVERITIES, parse_conditions

LIGHT = [statistic.name for statistic in STATISTICS].index("light")
PRODUCTION = FAMILIES["production"]
LEVELS = (0.1, 0.3)  # at which p-values are held to their promise


def only(conditional: ConditionalCalibration, families: set[str]) -> ConditionalCalibration:
    """The same with the versions of some of the production families alone."""
    each = len(SEVERITIES)
    kept = [0, *(1 + each * i + k for i, name in enumerate(PRODUCTION) if name in families for k in range(each))]
    return replace(conditional, statistics=conditional.statistics[:, kept], scores=conditional.scores[:, kept])


def main() -> None:
    """Shift and score calibration and test images once, judge them in each way, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--shifts", default="paper")
    parser.add_argument("--levelled", action="store_true")
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    detector = load(arguments.model, "torch", threads=arguments.threads)
    size, seed = detector.image_size, detector.manifest["seed"]
    reference = load_reference(arguments.model, detector.manifest)
    good = good_images(arguments.data)

    def score(index: int, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.concatenate([detector.maps_and_scores(pixels[k : k + 8])[1] for k in range(0, len(pixels), 8)])

    calibration_set = [good[i] for i in split_calibration(len(good), seed)[1]]
    known = ConditionalCalibration.measure(
        calibration_set, size, score, detector.calibration, reference.trained, families=PRODUCTION, seed=seed
    )
    usual = float(np.median(reference.good[:, LIGHT]))
    conditions = parse_conditions(arguments.shifts)
    images = labelled_images(arguments.data).images
    truth = np.array([image.defective for image in images])
    ways = {
        "blind": lambda shift: set(FAMILIES["blind"]),
        "family left out": lambda shift: set(PRODUCTION) - {shift},
        "production": lambda shift: set(PRODUCTION),
    }
    verdicts: dict[str, list[list[bool]]] = {way: [[] for _ in conditions] for way in ("fixed", *ways)}
    p_values: dict[str, list[list[float]]] = {way: [[] for _ in conditions] for way in verdicts}
    unusual: list[list[bool]] = [[] for _ in conditions]
    judges = {way: [only(known, families(c.shift)) for c in conditions] for way, families in ways.items()}
    for image in images:
        pixels = read_image(image.path)
        if arguments.levelled:
            off = usual - float(measure(resize_image(pixels, size))[LIGHT])
            pixels = np.clip(np.rint(pixels + off), 0, 255).astype(np.uint8)
        for index, condition in enumerate(conditions):
            shifted = resize_image(condition.apply(pixels, None, seed=0, image_name=image.name).image, size)
            value, look = float(score(0, shifted[None])[0]), measure(shifted)
            unusual[index].append(known.unusual(look))
            judged = {"fixed": detector.calibration} | {way: judge[index].at(look) for way, judge in judges.items()}
            for way, calibration in judged.items():
                verdicts[way][index].append(calibration.is_defective(value))
                p_values[way][index].append(calibration.p_value(value))
    head = " | ".join(c.name for c in conditions) + " | mean over the shifts |\n|" + "---|" * (len(conditions) + 2)
    print(f"| threshold | {head}")
    strange = np.array(unusual)[:, ~truth].mean(axis=1)
    for way, called in verdicts.items():
        alarms, found = (np.array(called)[:, kind].mean(axis=1) for kind in (~truth, truth))
        cells = [
            f"{100 * a:.0f}, {100 * d:.0f}" + ("" if way == "fixed" else f" ({100 * u:.0f})")
            for a, d, u in zip(alarms, found, strange, strict=True)
        ]
        print(f"| {way} | " + " | ".join(cells) + f" | {100 * alarms[1:].mean():.0f}, {100 * found[1:].mean():.0f} |")
    print(f"\n| p-values of good images at most {' and '.join(map(str, LEVELS))} | {head}")
    for way, values in p_values.items():
        low = np.array([(np.array(values)[:, ~truth] <= level).mean(axis=1) for level in LEVELS])
        shares = np.column_stack([low, low[:, 1:].mean(axis=1)])
        print(
            f"| {way} | "
            + " | ".join(", ".join(f"{100 * share:.0f}" for share in column) for column in shares.T)
            + " |"
        )


if __name__ == "__main__":
    main()
