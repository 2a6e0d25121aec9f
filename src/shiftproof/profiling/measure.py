"""One backend, measured in this process: ``python -m shiftproof.profiling.measure JSON`` prints one line of JSON.

Nothing is imported before it is needed: a cold start counts from the moment that the process was asked for.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

WARM_UP = 3  # calls before the clock runs
AT_LEAST = 20  # timed calls, however long they take


def main() -> None:
    """Measure what the first argument asks for: ``model``, ``backend``, ``threads``, ``images``, ``seconds``, ``asked``."""
    task = json.loads(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):  # decoding has threads of its own: hold them to the same number of processors
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task["threads"]])
    print(json.dumps(measure(task)))


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Cold start, latency and throughput of the network alone and from file to verdict, and peak memory.

    Returns:
        ``cold_start`` (seconds), ``network`` and ``end_to_end`` (each ``p50``, ``p90``, ``p99`` in milliseconds for one
        image at a time, ``runs``, and ``throughput`` in images a second), ``peak_memory`` (bytes, or None where the
        system does not tell).
    """
    from pathlib import Path

    from shiftproof.loading import load

    paths = [Path(path) for path in task["images"]]
    detector = load(task["model"], task["backend"], threads=task["threads"])
    detector.inspect(paths[0])
    cold_start = time.monotonic() - task["asked"]

    import numpy as np

    from shiftproof.data import read_image, resize_image
    from shiftproof.detector import BATCH

    pixels = np.stack([resize_image(read_image(path), detector.image_size) for path in paths[:BATCH]])
    batch = np.resize(pixels, (BATCH, *pixels.shape[1:]))
    seconds = task["seconds"]
    network = _latency(lambda: detector.maps_and_scores(batch[:1]), seconds)
    network["throughput"] = _throughput(lambda: len(detector.maps_and_scores(batch)[1]), seconds)
    turn = iter(range(sys.maxsize))
    end_to_end = _latency(lambda: detector.inspect(paths[next(turn) % len(paths)]), seconds)
    end_to_end["throughput"] = _stream(detector, paths, seconds)
    return {
        "cold_start": cold_start,
        "network": network,
        "end_to_end": end_to_end,
        "peak_memory": peak_memory(),
    }


def peak_memory() -> int | None:
    """The most bytes that this process has held in memory; None where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 - nothing is imported for it
            # Not getrusage: on Linux that starts with what the parent held when it forked.
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _latency(call: Callable[[], Any], seconds: float) -> dict[str, Any]:
    import numpy as np

    for _ in range(WARM_UP):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < AT_LEAST or time.perf_counter() < end:
        started = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - started))
    p50, p90, p99 = np.percentile(times, (50, 90, 99)).tolist()
    return {"p50": p50, "p90": p90, "p99": p99, "runs": len(times)}


def _throughput(call: Callable[[], int], seconds: float) -> float:
    call()
    images, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds or not images:
        images += call()
    return images / taken


def _stream(detector: Any, paths: list[Path], seconds: float) -> float:
    """Images a second through the pipeline; the clock runs from the first verdict on."""
    from itertools import cycle

    stream = detector.predict(cycle(paths))
    next(stream)
    images, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds or images < AT_LEAST:
        next(stream)
        images += 1
    stream.close()
    return images / taken


if __name__ == "__main__":
    main()
