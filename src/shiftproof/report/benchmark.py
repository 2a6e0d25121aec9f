"""The page of `shiftproof benchmark`: a ranking, what shifts do to each method, and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from shiftproof.charts import benchmark as charts
from shiftproof.metrics.mean_std import MeanStd
from shiftproof.metrics.robustness import shift_and_severity
from shiftproof.report.benchmark_results import Results
from shiftproof.report.benchmark_tables import MEAN, MEAN_OVER_SHIFTS, in_percent, ranking_columns, tables
from shiftproof.report.page import write_page

_DRAWN = {"image_auroc": "image AUROC", "false_alarm_rate": "false alarms at the fixed threshold"}


@dataclass(frozen=True)
class BenchmarkReport:
    """All that the page shows."""

    title: str
    label: str  # of the protocol, which stands at the head of the page
    oracle: bool  # the protocol selects on the test set
    results: Results
    done: int  # runs that are finished
    runs: int  # in all
    differs: Sequence[str]  # where a paper's recipe is not followed
    recipe: str  # the paper's name; empty without a recipe
    notes: Sequence[str]
    failures: Sequence[str]  # a line for each run that failed
    settings: Mapping[str, Any]  # what all runs have in common
    version: str


@dataclass(frozen=True)
class _Rank:
    """One line of the ranking."""

    method: str
    mark: Markup
    figures: Mapping[str, str]  # by column
    first_in: int


@dataclass(frozen=True)
class _Figure:
    """One figure over severity, a panel for each shift."""

    title: str
    panels: Sequence[tuple[str, Markup]]  # (name of the shift, chart)


def write_benchmark_report(path: Path, report: BenchmarkReport) -> None:
    """Write the page: one HTML file with everything in it, no script, no request to anywhere.

    Raises:
        ShiftproofError: the file cannot be written.
    """
    results = report.results
    shifted = bool(results.shifted)
    write_page(
        path,
        "benchmark.html.j2",
        report=report,
        ranking=[_rank(results, method) for method in results.ranking()],
        columns=[name for name, _, _ in ranking_columns(results)],
        by="mean image AUROC over shifts" if shifted else "mean image AUROC",
        shifts=sorted({shift_and_severity(name)[0] for name in results.shifted}),
        figures=[_figure(results, figure, title) for figure, title in _DRAWN.items()] if shifted else [],
        key=[(method, _drawn(charts.key_mark(number))) for number, method in enumerate(results.methods)],
        tables=tables(results),
        means=(MEAN, MEAN_OVER_SHIFTS),
        in_percent=in_percent,
        version=report.version,
    )


def _rank(results: Results, method: str) -> _Rank:
    figures = {
        name: in_percent(results.mean(method, conditions, figure))
        for name, conditions, figure in ranking_columns(results)
    }
    mark = _drawn(charts.key_mark(results.methods.index(method)))
    return _Rank(method, mark, figures, results.first_in(method, results.shifted or results.conditions))


def _figure(results: Results, figure: str, title: str) -> _Figure:
    severities: dict[str, list[tuple[int, str]]] = {}
    for condition in results.shifted:
        name, severity = shift_and_severity(condition)
        severities.setdefault(name, []).append((severity, condition))
    clean = [(0, "clean")] if "clean" in results.conditions else []
    drawn = {
        name: [_curve(results, method, [*clean, *sorted(of_it)], figure) for method in results.methods]
        for name, of_it in severities.items()
    }
    scale = charts.scale_of(list(drawn.values()))
    panels = [(name, _drawn(charts.panel(curves, scale, f"{title} over severity"))) for name, curves in drawn.items()]
    return _Figure(title, panels)


def _curve(
    results: Results, method: str, conditions: Sequence[tuple[int, str]], figure: str
) -> list[tuple[int, MeanStd]]:
    means = ((severity, results.mean(method, [condition], figure)) for severity, condition in conditions)
    return [(severity, mean) for severity, mean in means if mean is not None]


def _drawn(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704 (numbers and fixed words only)
