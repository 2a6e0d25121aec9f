"""Bulk inspection on Ray: images a second with one and two workers, memory over ten times the images, cost of the engine.

Every run is a process of its own. The bare loop is the same pipeline (decode, resize, networks) in one process without
Ray, tables or shards. Rates are taken while scoring, from the first shard's end to the last's; the time from start to end
stands beside them. Each worker has one processor thread for the networks and one for decoding.

    python benchmarks/scale.py [--model MODEL] [--images 1000] [--size 256] [--workers 1 2] [--repeats 2]

Without ``--model`` one is trained for two steps: speed does not depend on what it has learned.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet

WARM_UP = 16  # images of the bare loop that are not timed
LEAST = 60  # images: some shards for each worker
FACTOR = 10  # times as many images, for memory
SELF = Path("/proc/self")
COLUMNS = ("images/s while scoring", "start to end (s)", "peak memory of a worker (MiB)", "of the driver (MiB)")


def lay_out(root: Path, size: int, images: int) -> tuple[Path, Path]:
    """Two folders of ``images`` and FACTOR times as many images; 50 different ones, linked under many names."""
    from shiftproof.data.generate import generate

    parts = generate("folder", root / "parts", np.random.default_rng(0), train=50, test=1, size=(size, size)) / "good"
    files = sorted(parts.iterdir())
    folders = []
    for count in (images, FACTOR * images):
        folder = root / f"images-{count}"
        folder.mkdir()
        for number in range(count):
            os.link(files[number % len(files)], folder / f"{number:07}.png")
        folders.append(folder)
    return folders[0], folders[1]


def make_model(root: Path, size: int) -> Path:
    """A model that has seen two steps."""
    import shiftproof
    from shiftproof.data.generate import generate

    data = generate("mvtec", root / "train", np.random.default_rng(1), train=12, test=1, size=(size, size))
    shiftproof.train(data, root / "model", image_size=size, steps=2, batch_size=4)
    return root / "model"


def peak(process: Path) -> int:
    """Bytes that a process (its folder below /proc) has held at most; of its own, unlike ``ru_maxrss``, which forks inherit."""
    return int((process / "status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def peak_of_workers() -> int:
    """Bytes that the largest of this machine's scoring workers has held at most."""
    peaks = [0]
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if (process / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                    peaks.append(peak(process))
            except (OSError, IndexError):  # it has just ended
                continue
    return max(peaks)


def bare(arguments: argparse.Namespace) -> dict[str, float]:
    """The pipeline alone, in this process."""
    import shiftproof

    started = time.perf_counter()
    detector = shiftproof.load(arguments.model, arguments.backend, threads=1)
    ends: Iterator[float] = (
        time.perf_counter() for _ in detector.predict(sorted(arguments.folder.iterdir()), threads=1)
    )
    times = list(ends)
    rate = (len(times) - WARM_UP) / (times[-1] - times[WARM_UP - 1])
    return {"rate": rate, "seconds": times[-1] - started, "worker": peak(SELF), "driver": 0}


def on_ray(arguments: argparse.Namespace, out: Path) -> dict[str, float]:
    """The engine, with so many workers."""
    from shiftproof.distributed.cluster import Cluster
    from shiftproof.distributed.predict import predict_with_ray
    from shiftproof.loading import LoadOptions

    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.5):
            most[0] = max(most[0], peak_of_workers())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    try:
        found = predict_with_ray(
            arguments.model,
            [arguments.folder],
            out,
            cluster=Cluster(workers=arguments.run_workers),
            options=LoadOptions(arguments.backend),
        )
    finally:
        ended.set()
        watcher.join()
    seconds = time.perf_counter() - started
    assert found.failed == 0
    files = (out / "predictions.parquet").iterdir()
    ends = sorted((path.stat().st_mtime, pyarrow.parquet.read_metadata(path).num_rows) for path in files)
    # Of several workers the first shards end together: count from the last of these.
    begin = arguments.run_workers - 1
    rate = sum(rows for _, rows in ends[begin + 1 :]) / (ends[-1][0] - ends[begin][0])
    return {"rate": rate, "seconds": seconds, "worker": most[0], "driver": peak(SELF)}


def measure(arguments: argparse.Namespace, folder: Path, workers: int) -> dict[str, float]:
    """One run in a process of its own; no workers is the bare loop."""
    given = ("--model", arguments.model, "--backend", arguments.backend, "--folder", folder, "--run-workers", workers)
    command = [sys.executable, __file__, *map(str, given)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    print(f"# {workers or 'no'} workers, {folder.name}: {found}", flush=True)
    return found


def main() -> None:
    """All runs, alternating, and a table of their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder that train wrote; one is made without")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256, help="of the images, and of the model that is made")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--run-workers", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.images < LEAST:
        parser.error(f"{arguments.images} images are too few to time: expected {LEAST} or more")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if arguments.folder:
            print(json.dumps(on_ray(arguments, root / "out") if arguments.run_workers else bare(arguments)))
            return
        arguments.model = arguments.model or make_model(root, arguments.size)
        few, many = lay_out(root, arguments.size, arguments.images)
        runs = [(few, workers) for workers in (0, *arguments.workers)]
        found: dict[tuple[Path, int], list[dict[str, float]]] = {run: [] for run in runs}
        for repeat in range(arguments.repeats):
            for run in runs if repeat % 2 == 0 else reversed(runs):
                found[run].append(measure(arguments, *run))
        last = (many, max(arguments.workers))
        found[last] = [measure(arguments, *last)]
        report(arguments, found)


def report(arguments: argparse.Namespace, found: dict[tuple[Path, int], list[dict[str, float]]]) -> None:
    """Print the table, and the ratios that docs/scale.md speaks of."""
    middle = {run: {key: statistics.median(one[key] for one in ones) for key in ones[0]} for run, ones in found.items()}
    print(
        f"\n{os.cpu_count()} processors, images of {arguments.size}x{arguments.size}, backend {arguments.backend}",
        end="",
    )
    print(f"; medians of {arguments.repeats}, one run of the most images\n")
    print("| | images | " + " | ".join(COLUMNS) + " |")
    print("|---|---|" + "---|" * len(COLUMNS))
    for (folder, workers), one in middle.items():
        name = f"{workers} worker{'s'[: workers != 1]}" if workers else "bare loop, one process"
        driver = f"{one['driver'] / 2**20:.0f}" if workers else "–"
        count = folder.name.rpartition("-")[2]
        print(
            f"| {name} | {count} | {one['rate']:.1f} | {one['seconds']:.1f} | {one['worker'] / 2**20:.0f} | {driver} |"
        )
    few = {workers: one for (folder, workers), one in middle.items() if folder.name.endswith(f"-{arguments.images}")}
    *_, many = middle.values()
    least, most = min(arguments.workers), max(arguments.workers)
    print(f"\n- cost: {1 / few[least]['rate'] * least:.4f} processor-seconds an image in a worker")
    print(
        f"- engine: {least} worker scores {few[least]['rate'] / least / few[0]['rate']:.3f} times what the bare loop does"
    )
    if most > least:
        speed_up = few[most]["rate"] / few[least]["rate"]
        print(
            f"- scaling: {most} workers score {speed_up:.2f} times what {least} does, {speed_up * least / most:.0%} of linear"
        )
    for who in ("worker", "driver"):
        print(f"- memory: {FACTOR} times the images take {many[who] / few[most][who]:.3f} times the {who}'s memory")


if __name__ == "__main__":
    main()
