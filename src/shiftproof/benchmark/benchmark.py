"""``shiftproof benchmark``: methods x categories x seeds, each cell once, and tables of what is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.errors import DataError
from shiftproof.report.benchmark_results import Results, Row
from shiftproof.benchmark.runs import Cell
from shiftproof.benchmark.execution import Telling
from shiftproof.benchmark.local_executor import Work, run_local
from shiftproof.benchmark.outputs import clear, write_outputs
from shiftproof.benchmark.plan import Plan, Request, plan

Engine = Callable[[Sequence[Cell], Work, Telling], Iterator[tuple[Cell, str | None]]]
"""Works on cells and yields each when it has ended, with a line where it failed."""


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark found."""

    plan: Plan
    results: Results  # of every finished cell
    failures: list[str]  # a line for each cell that failed
    unusable: int  # images that could not be used, in all cells
    notes: list[str]  # a line for each thing that a reader of the tables has to know


def benchmark(
    roots: Sequence[Path] | Path,
    out: Path,
    request: Request,
    *,
    engine: Engine = run_local,
    work: Work | None = None,
    telling: Telling | None = None,
    on_cell: Callable[[int, int, Cell], None] = lambda done, total, cell: None,
) -> Benchmark:
    """Run what is missing of a benchmark, and write rows, tables and page of all that is finished.

    A cell is a method on a category with a seed; its conditions are its rows. What it depends on is hashed into its name,
    so that a cell that is there is never run again, and another setting is another cell. A run that was killed goes on:
    training from its checkpoint.

    Args:
        roots: data sets: folders of categories, or categories.
        out: folder for cells, models and tables; shared by all machines of a cluster.
        request: what to run.
        engine: where to run it.
        work: how.
        telling: is told how each cell goes, if this process runs it.
        on_cell: is told of each cell that has ended: (ended, to be run, it).

    Raises:
        UsageError, DataError: wrong use, before any work. DataError: no cell could be finished.
        Interrupted: Ctrl-C or SIGTERM; tables of what is finished are written.
    """
    work, telling = work or Work(), telling or Telling()
    chosen = plan([roots] if isinstance(roots, Path) else list(roots), out, request)
    clear(out)
    todo = [cell for cell in chosen.cells if work.again or cell.result() is None]
    failures: list[str] = []
    notes: list[str] = []
    found: dict[str, Any] = {}
    try:
        for done, (cell, failure) in enumerate(engine(todo, work, telling), start=1):
            if failure:
                failures.append(failure)
                telling.warn(failure)
            on_cell(done, len(todo), cell)
    finally:
        for cell in chosen.cells:
            if (result := cell.result()) is not None:
                found[cell.folder.name] = result
        if found:
            notes = write_outputs(chosen, found, failures)
    if not found:
        raise DataError(f"no cell of {len(chosen.cells)} could be finished; the first: {failures[0]}")
    rows: list[Row] = [row for result in found.values() for row in result["rows"]]
    return Benchmark(chosen, Results(rows), failures, sum(len(one["unreadable"]) for one in found.values()), notes)
