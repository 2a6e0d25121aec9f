"""``shiftproof benchmark``: methods x categories x seeds, each run once, and tables of what is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.benchmark.local_executor import RunOptions, run_local
from shiftproof.benchmark.outputs import clear, write_outputs
from shiftproof.benchmark.plan import BenchmarkRequest, Plan, plan
from shiftproof.benchmark.runs import Run
from shiftproof.errors import DataError
from shiftproof.report.benchmark_results import Results, Row
from shiftproof.reporter import Reporter

Executor = Callable[[Sequence[Run], RunOptions, Reporter], Iterator[tuple[Run, str | None]]]
"""Works on runs and yields each when it has ended, with a line where it failed."""


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark found."""

    plan: Plan
    results: Results  # of every finished run
    failures: list[str]  # a line for each run that failed
    unusable: int  # images that could not be used, in all runs
    notes: list[str]  # a line for each thing that a reader of the tables has to know


def run_benchmark(
    roots: Sequence[Path] | Path,
    out: Path,
    request: BenchmarkRequest,
    *,
    executor: Executor = run_local,
    run_options: RunOptions | None = None,
    reporter: Reporter | None = None,
    on_run: Callable[[int, int, Run], None] = lambda done, total, run: None,
) -> BenchmarkResult:
    """Run what is missing of a benchmark, and write rows, tables and page of all that is finished.

    A run is a method on a category with a seed; its conditions are its rows. What it depends on is hashed into its name,
    so that a run that is there is never run again, and another setting is another run. A run that was killed goes on:
    training from its checkpoint.

    Args:
        roots: data sets: folders of categories, or categories.
        out: folder for runs, models and tables; shared by all machines of a cluster.
        request: what to run.
        executor: where to run it.
        run_options: how to run it.
        reporter: is told how each run goes, if this process runs it.
        on_run: is told of each run that has ended: (ended, to be run, it).

    Raises:
        UsageError, DataError: wrong use, before any work. DataError: no run could be finished.
        Interrupted: Ctrl-C or SIGTERM; tables of what is finished are written.
    """
    run_options, reporter = run_options or RunOptions(), reporter or Reporter()
    chosen = plan([roots] if isinstance(roots, Path) else list(roots), out, request)
    clear(out)
    todo = [run for run in chosen.runs if run_options.reevaluate or run.result() is None]
    failures: list[str] = []
    notes: list[str] = []
    found: dict[str, Any] = {}
    try:
        for done, (run, failure) in enumerate(executor(todo, run_options, reporter), start=1):
            if failure:
                failures.append(failure)
                reporter.warning(failure)
            on_run(done, len(todo), run)
    finally:
        for run in chosen.runs:
            if (result := run.result()) is not None:
                found[run.folder.name] = result
        if found:
            notes = write_outputs(chosen, found, failures)
    if not found:
        raise DataError(f"no run of {len(chosen.runs)} could be finished; the first: {failures[0]}")
    rows: list[Row] = [row for result in found.values() for row in result["rows"]]
    return BenchmarkResult(
        chosen, Results(rows), failures, sum(len(one["unreadable"]) for one in found.values()), notes
    )
