r"""How many images a drift takes to be found, and how often an alert is false, at one false alert in 10,000 images.

    python benchmarks/drift_delay.py DATA [--shifts all] [--severities 1 3 5] [--repeats 15] [--in-control 100000]

DATA is a folder or category of good images; where it is missing, a line says so and nothing is measured. Its images are
dealt at random into a reference and a stream, anew in each repeat, for a stream that is exchangeable with the reference is
what the guarantee speaks of. The stream's images are shifted at their own size, as everywhere. A cell: median delay in
images from the first shifted one to the alert, after 200 images without shift, and the share of the repeats in which it
was found within 500 images; then what was found first.

False alerts: many monitors with fresh references, each over a stretch of images without shift: resampled from DATA, or
made-up numbers, normal and with heavy tails, in which the statistics are correlated.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.data import good_images, read_image, resize_image
from shiftproof.drift import ALPHA, STATISTICS, Monitor, Reference, measure
from shiftproof.shifts import Condition, ShiftNotApplicable, parse_conditions

BEFORE, MOST = 200, 500  # images without shift, and with it
HELD_OUT = 0.2  # of the reference


def dealt(values: NDArray[np.float64], count: int, random: np.random.Generator) -> tuple[Reference, NDArray[np.int64]]:
    """A reference of ``count`` images drawn from all, and the places of the others."""
    order = random.permutation(len(values))
    few = max(1, round(HELD_OUT * count))
    return Reference(values[order[few:count]], values[order[:few]]), order[count:]


def run_in_control(streams: Iterator[tuple[Reference, NDArray[np.float64]]], alpha: float) -> tuple[int, int]:
    """Images seen, and alerts, of a monitor for each (reference, stream); a monitor begins anew after an alert."""
    images = alerts = 0
    for seed, (reference, stream) in enumerate(streams):
        monitor = Monitor(reference, alpha, seed=seed)
        for values in stream:
            images += 1
            if monitor.update(values).alert:
                alerts += 1
                monitor.reset()
    return images, alerts


def resampled(
    values: NDArray[np.float64], count: int, length: int, times: int, random: np.random.Generator
) -> Iterator[tuple[Reference, NDArray[np.float64]]]:
    """References and streams drawn with replacement from the same images: independent and alike."""
    for _ in range(times):
        drawn = values[random.integers(len(values), size=count + length)]
        yield dealt(drawn[:count], count, random)[0], drawn[count:]


def made(
    tails: float | None, count: int, length: int, times: int, random: np.random.Generator
) -> Iterator[tuple[Reference, NDArray[np.float64]]]:
    """The same of made-up numbers: normal, or of Student's t with ``tails`` degrees of freedom, correlated by 0.5."""
    size = len(STATISTICS)
    for _ in range(times):
        shape = (count + length, size)
        drawn = random.standard_normal(shape) if tails is None else random.standard_t(tails, shape)
        drawn = drawn * np.sqrt(0.5) + drawn[:, :1] * np.sqrt(0.5)
        yield dealt(drawn[:count], count, random)[0], drawn[count:]


def delays(
    clean: NDArray[np.float64], shifted: NDArray[np.float64], count: int, repeats: int, alpha: float
) -> tuple[list[int | None], Counter[str]]:
    """Delay of each repeat in images, None where nothing was found; and the main findings."""
    found: list[int | None] = []
    words: Counter[str] = Counter()
    for seed in range(repeats):
        random = np.random.default_rng(seed)
        reference, rest = dealt(clean, count, random)
        monitor = Monitor(reference, alpha, seed=seed)
        for place in random.choice(rest, BEFORE):
            monitor.update(clean[place])
        monitor.reset()  # a false alert before the shift is counted elsewhere
        delay, state = None, None
        for number, place in enumerate(random.choice(rest, MOST), start=1):
            state = monitor.update(shifted[place])
            if state.alert:
                delay = number
            if delay is not None and number >= delay + 15:  # by then it knows what drifted
                words[state.findings[0].description if state.findings else "–"] += 1
                break
        found.append(delay)
    return found, words


def measured(paths: list[Path], condition: Condition, size: int) -> NDArray[np.float64]:
    """Statistics [N, 18] of all images under a condition."""

    def look(path: Path) -> NDArray[np.float64]:
        image = condition.apply(read_image(path), None, seed=0, image_name=path.name).image
        return measure(resize_image(image, (size, size)))

    return np.array([look(path) for path in paths])


def main() -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--shifts", default="all")
    parser.add_argument("--severities", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--most", type=int, default=150, help="images of DATA, evenly taken")
    parser.add_argument("--reference", type=int, default=100, help="images of these in the reference")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--in-control", type=int, default=100_000, help="images without shift, resampled; 0: none")
    parser.add_argument("--made", type=int, default=40_000, help="the same, of made-up numbers, of each kind")
    parser.add_argument("--counts", type=int, nargs="+", default=[60, 120], help="images in the references of these")
    parser.add_argument("--stretch", type=int, default=2_000, help="images that a monitor sees without shift")
    parser.add_argument("--alpha", type=float, default=ALPHA)
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        print(f"{arguments.data} is not there: nothing is measured; give a folder of good images")
        return 0
    paths = good_images(arguments.data)
    paths = [paths[place] for place in np.linspace(0, len(paths) - 1, min(arguments.most, len(paths))).astype(int)]
    clean = measured(paths, parse_conditions("clean")[0], arguments.size)
    print(
        f"{len(paths)} images of {arguments.data.name}, {arguments.reference} in the reference, alpha {arguments.alpha:g}"
    )
    if arguments.in_control or arguments.made:
        print(
            "\n| images without shift | reference | images | alerts | alerts in 10,000 images |\n|---|---|---|---|---|"
        )
    for count in arguments.counts:
        times, made_times = (-(-each // arguments.stretch) for each in (arguments.in_control, arguments.made))
        random = np.random.default_rng(count)
        for name, streams in (
            (f"{arguments.data.name}, resampled", resampled(clean, count, arguments.stretch, times, random)),
            ("normal numbers", made(None, count, arguments.stretch, made_times, random)),
            ("Student's t, 2 degrees", made(2.0, count, arguments.stretch, made_times, random)),
        ):
            images, alerts = run_in_control(streams, arguments.alpha)
            if images:
                print(f"| {name} | {count} | {images} | {alerts} | {1e4 * alerts / images:.2f} |", flush=True)
    shifts = dict.fromkeys(c.shift for c in parse_conditions(arguments.shifts) if c.shift is not None)
    if shifts:
        head = [f"severity {severity}" for severity in arguments.severities]
        print("\n| shift | " + " | ".join(head) + " | found first |\n|" + "---|" * (len(head) + 2))
    for shift in shifts:
        cells: list[str] = []
        words: Counter[str] = Counter()
        for severity in arguments.severities:
            try:
                shifted = measured(paths, Condition(shift, severity), arguments.size)
            except ShiftNotApplicable:
                cells.append("not applicable")
                continue
            found, named = delays(clean, shifted, arguments.reference, arguments.repeats, arguments.alpha)
            words += named
            known = sorted(MOST + 1 if delay is None else delay for delay in found)
            median = known[len(known) // 2]
            share = sum(delay is not None for delay in found) / len(found)
            cells.append(f"{'–' if median > MOST else median}, {100 * share:.0f} %")
        said = ", ".join(description for description, _ in words.most_common(2)) or "–"
        print(f"| {shift} | " + " | ".join(cells) + f" | {said} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
