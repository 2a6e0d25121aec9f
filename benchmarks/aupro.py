"""Seconds, memory and value of AUPRO: shiftproof beside anomalib and adeval, on the same maps.

    pip install anomalib==2.7.0 adeval
    OMP_NUM_THREADS=1 python benchmarks/aupro.py

The maps are smooth noise with warm blobs, some of which are the defects of the masks; they lie on disk, and each
contender reads them one at a time in a process of its own. What is timed is counting them and working out the result,
not reading. Memory is the most that the process held (Linux' VmHWM), less what it held after its imports.
The contenders take turns, in the opposite order in every second repeat; the seconds are the medians.

They are not asked for the same: anomalib for AUPRO to 0.3 alone; adeval for AUROC, average precision and AUPRO to 0.3,
knowing the exact range of the maps beforehand; shiftproof for its five metrics, knowing nothing. The exact value comes
from sorting all pixels, in float64.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]
# Two functions: count one map with its mask; give AUPRO to 0.3.
Contender = tuple[Callable[[Maps, Masks], object], Callable[[], float]]


def make_maps(folder: Path, count: int, size: int, power: float) -> tuple[float, float]:
    """Write `count` maps float32 [size, size] with their masks; a third are good. Returns the range of all values."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    low, high = np.inf, -np.inf
    for number in range(count):
        noise = ndimage.gaussian_filter(random.normal(size=(size, size)), 4, mode="wrap")
        heat, mask = 0.3 + 0.05 * noise / noise.std(), np.zeros((size, size), bool)
        for _ in range(random.integers(2, 8)):
            row, column, radius = *random.integers(0, size, 2), random.uniform(0.005, 0.06) * size
            distance = np.hypot(rows - row, columns - column) / radius
            heat += random.uniform(0, 0.3) * np.exp(-(distance**2))
            if number % 3 and random.random() < 0.6:
                mask |= distance < 1
        values = (np.maximum(heat, 0.0) ** power).astype(np.float32)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        np.savez(folder / f"{number:05}.npz", values=values, mask=mask)
    return low, high


def shiftproof_contender(low: float, high: float) -> Contender:
    from shiftproof.metrics import PixelMetrics

    metrics = PixelMetrics()
    return metrics.update, lambda: metrics.compute()["aupro_30"] or 0.0


def anomalib_contender(low: float, high: float) -> Contender:
    from types import SimpleNamespace

    import torch
    from anomalib.metrics import AUPRO

    metric = AUPRO(fields=["anomaly_map", "gt_mask"], fpr_limit=0.3)

    def update(values: Maps, mask: Masks) -> None:
        metric.update(
            SimpleNamespace(anomaly_map=torch.from_numpy(values)[None], gt_mask=torch.from_numpy(mask).int()[None])
        )

    return update, lambda: float(metric.compute())


def adeval_contender(low: float, high: float) -> Contender:
    if not hasattr(np, "trapz"):
        vars(np)["trapz"] = np.trapezoid  # adeval 1.1.0 calls the name that NumPy 2.4 dropped
    from adeval import EvalAccumulator

    accumulator = EvalAccumulator(low, high)
    accumulator.add_image([low, high], [0, 1])  # its summary wants image scores too
    return (
        lambda values, mask: accumulator.add_anomap(values, mask.astype(np.uint8)),
        lambda: accumulator.summary()["p_aupro"],
    )


def exact_contender(low: float, high: float) -> Contender:
    values: list[Maps] = []
    weights: list[NDArray[np.float64]] = []  # 1 / area of its region for each pixel; 0 on the defect-free ones

    def update(anomaly_map: Maps, mask: Masks) -> None:
        regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
        values.append(anomaly_map.ravel())
        weights.append(np.where(mask, 1.0 / np.bincount(regions.ravel())[regions], 0.0).ravel())

    def compute() -> float:
        order = np.argsort(-np.concatenate(values))
        ranked, weight = np.concatenate(values)[order], np.concatenate(weights)[order]
        last = np.append(ranked[1:] != ranked[:-1], True)
        fpr, overlap = (np.append(0.0, (c / c[-1])[last]) for c in (np.cumsum(weight == 0), np.cumsum(weight)))
        inside = fpr < 0.3
        x, y = np.append(fpr[inside], 0.3), np.append(overlap[inside], np.interp(0.3, fpr, overlap))
        return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2 / 0.3)

    return update, compute


CONTENDERS = {
    "shiftproof": shiftproof_contender,
    "anomalib": anomalib_contender,
    "adeval": adeval_contender,
    "exact": exact_contender,
}


def held_mib(what: str) -> float:
    """Memory of this process in MiB: VmRSS, what it holds, or VmHWM, the most it has held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


def run_contender(name: str, folder: Path, low: float, high: float) -> dict[str, float]:
    """Count all maps of the folder in this process; seconds, MiB and value."""
    update, compute = CONTENDERS[name](low, high)
    before, seconds = held_mib("VmRSS"), 0.0
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as stored:
            values, mask = stored["values"], stored["mask"]
        start = time.perf_counter()
        update(values, mask)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    value = compute()
    seconds += time.perf_counter() - start
    return {"seconds": seconds, "grown": held_mib("VmHWM") - before, "whole": held_mib("VmHWM"), "aupro_30": value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=160)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--power", type=float, default=1.0, help="of the values: above 1 most lie near 0, none changes rank"
    )
    parser.add_argument("--contender", nargs=4, help=argparse.SUPPRESS)  # name, folder, low, high: one run, as JSON
    arguments = parser.parse_args()
    if arguments.contender:
        name, folder, low, high = arguments.contender
        print(json.dumps(run_contender(name, Path(folder), float(low), float(high))))
        return
    if missing := [name for name in CONTENDERS if name != "exact" and not importlib.util.find_spec(name)]:
        sys.exit(f"missing: {', '.join(missing)}; pip install shiftproof anomalib==2.7.0 adeval")

    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        low, high = make_maps(Path(folder), arguments.images, arguments.size, arguments.power)
        for repeat in range(arguments.repeats):
            for name in list(CONTENDERS)[:: -1 if repeat % 2 else 1]:
                command = [sys.executable, "-W", "ignore", __file__, "--contender", name, folder, str(low), str(high)]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                runs[name].append(json.loads(output.splitlines()[-1]))

    median = {
        name: {key: statistics.median(run[key] for run in of_name) for key in of_name[0]}
        for name, of_name in runs.items()
    }
    ours = median["shiftproof"]
    for name in "anomalib", "adeval":
        faster, lighter = (median[name][key] / ours[key] for key in ("seconds", "grown"))
        print(f"{name} takes {faster:.1f} x the time of shiftproof and {lighter:.1f} x its memory")
    size, power, repeats = arguments.size, arguments.power, arguments.repeats
    print(f"\n{arguments.images} maps of {size} x {size}, to the power {power:g}, {repeats} repeats\n")
    print("| | seconds (each run) | memory above imports | whole process | AUPRO to 0.3 | off the exact value |")
    print("|---|---|---|---|---|---|")
    for name, row in median.items():
        each = ", ".join(f"{run['seconds']:.2f}" for run in runs[name])
        print(
            f"| {name} | {row['seconds']:.2f} ({each}) | {row['grown']:.0f} MiB | {row['whole']:.0f} MiB "
            f"| {row['aupro_30']:.7f} | {abs(row['aupro_30'] - median['exact']['aupro_30']):.1e} |"
        )


if __name__ == "__main__":
    main()
