"""The engine of a Ray cluster: the local engine's cells as tasks, each with its processors and GPUs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shiftproof.benchmark.runs import Cell
from shiftproof.distributed.cluster import RETRIES, Cluster, connected, reason
from shiftproof.benchmark.execution import Telling
from shiftproof.benchmark.local_executor import Work, attempt
from shiftproof.training import Interrupted

STOPPING = 60.0  # seconds that cells have to leave a checkpoint after Ctrl-C


@dataclass(frozen=True)
class RayEngine:
    """Works on cells wherever the cluster has room.

    A cell's task takes the cell's lock, as the local engine does, and goes on from whatever a former run has left: a
    worker that dies is replaced, and its cell neither lost nor run twice. Data sets, ``out`` and weights are read and
    written by all machines under the same paths.
    """

    cluster: Cluster

    def __call__(self, cells: Sequence[Cell], work: Work, telling: Telling) -> Iterator[tuple[Cell, str | None]]:
        """Work on cells.

        Yields:
            each cell when it has ended, with a line where it failed.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; what was running has left a checkpoint. BackendError, UsageError: see
                :func:`~shiftproof.distributed.cluster.connected`.
        """
        if not cells:
            return
        with connected(self.cluster) as room:
            import ray

            task = ray.remote(work_on).options(num_cpus=room.cpus, num_gpus=room.gpus, max_retries=RETRIES)
            waiting, running, done = deque(cells), dict[Any, Cell](), 0
            try:
                while waiting or running:
                    while waiting and len(running) < room.workers:
                        cell = waiting.popleft()
                        running[task.remote(_from_anywhere(cell), work, room.cpus)] = cell
                    telling.progress("cells", done, len(cells), f"{len(running)} under way")
                    (ended,), _ = ray.wait(list(running), num_returns=1)
                    cell, done = running.pop(ended), done + 1
                    yield cell, _outcome(ray, ended, cell, telling)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"stopped with {done} of {len(cells)} cells done: the same command goes on from there"
                ) from None
            finally:
                for left in running:
                    ray.cancel(left)  # as Ctrl-C: a training leaves a checkpoint
                if running:
                    ray.wait(list(running), num_returns=len(running), timeout=STOPPING)


def work_on(cell: Cell, work: Work, threads: int) -> tuple[str | None, list[str]]:
    """Work on one cell in a worker's process; a line on why it failed, and its warnings."""
    import torch

    torch.set_num_threads(threads)
    warnings: list[str] = []
    with cell.lock(wait=True):
        return attempt(cell, work, Telling(warn=warnings.append)), warnings


def _outcome(ray: Any, ended: Any, cell: Cell, telling: Telling) -> str | None:
    try:
        failure, warnings = ray.get(ended)
    except ray.exceptions.RayError as error:
        return f"{cell.title}: {reason(error)}"
    for line in warnings:
        telling.warn(line)
    return failure


def _from_anywhere(cell: Cell) -> Cell:
    """The cell with paths that do not start where this process happens to be."""
    places = {name: getattr(cell, name) for name in ("out", "data", "weights", "textures")}
    return replace(cell, **{name: path.absolute() for name, path in places.items() if path is not None})
