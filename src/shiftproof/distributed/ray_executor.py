"""The executor of a Ray cluster: the local executor's runs as tasks, each with its processors and GPUs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shiftproof.benchmark.local_executor import RunOptions, attempt
from shiftproof.benchmark.runs import Run
from shiftproof.distributed.cluster import RETRIES, Cluster, connected, reason
from shiftproof.reporter import Reporter
from shiftproof.training import Interrupted

STOPPING = 60.0  # seconds that runs have to leave a checkpoint after Ctrl-C


@dataclass(frozen=True)
class RayExecutor:
    """Works on runs wherever the cluster has room.

    A run's task takes the run's lock, as the local executor does, and goes on from whatever a former run has left: a
    worker that dies is replaced, and its run neither lost nor run twice. Data sets, ``out`` and weights are read and
    written by all machines under the same paths.
    """

    cluster: Cluster

    def __call__(
        self, runs: Sequence[Run], run_options: RunOptions, reporter: Reporter
    ) -> Iterator[tuple[Run, str | None]]:
        """Work on runs.

        Yields:
            each run when it has ended, with a line where it failed.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; what was running has left a checkpoint. BackendError, UsageError: see
                :func:`~shiftproof.distributed.cluster.connected`.
        """
        if not runs:
            return
        with connected(self.cluster) as resources:
            import ray

            task = ray.remote(work_on).options(num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=RETRIES)
            waiting, running, done = deque(runs), dict[Any, Run](), 0
            try:
                while waiting or running:
                    while waiting and len(running) < resources.workers:
                        run = waiting.popleft()
                        running[task.remote(_from_anywhere(run), run_options, resources.cpus)] = run
                    reporter.progress("runs", done, len(runs), f"{len(running)} under way")
                    (ended,), _ = ray.wait(list(running), num_returns=1)
                    run, done = running.pop(ended), done + 1
                    yield run, _outcome(ray, ended, run, reporter)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"stopped with {done} of {len(runs)} runs done: the same command goes on from there"
                ) from None
            finally:
                for left in running:
                    ray.cancel(left)  # as Ctrl-C: a training leaves a checkpoint
                if running:
                    ray.wait(list(running), num_returns=len(running), timeout=STOPPING)


def work_on(run: Run, run_options: RunOptions, threads: int) -> tuple[str | None, list[str]]:
    """Work on one run in a worker's process; a line on why it failed, and its warnings."""
    import torch

    torch.set_num_threads(threads)
    warnings: list[str] = []
    with run.lock(wait=True):
        return attempt(run, run_options, Reporter(warning=warnings.append)), warnings


def _outcome(ray: Any, ended: Any, run: Run, reporter: Reporter) -> str | None:
    try:
        failure, warnings = ray.get(ended)
    except ray.exceptions.RayError as error:
        return f"{run.title}: {reason(error)}"
    for line in warnings:
        reporter.warning(line)
    return failure


def _from_anywhere(run: Run) -> Run:
    """The run with paths that do not start where this process happens to be."""
    places = {name: getattr(run, name) for name in ("out", "data", "weights", "textures")}
    return replace(run, **{name: path.absolute() for name, path in places.items() if path is not None})
