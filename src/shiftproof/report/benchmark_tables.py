"""The tables of a benchmark in the papers' form: rows categories, columns methods, image / pixel / PRO in per cent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shiftproof.metrics.mean_std import MeanStd
from shiftproof.report.benchmark_results import Results, groups
from shiftproof.report.page import DASH

SHOWN = ("image_auroc", "pixel_auroc", "aupro_30")
HEAD = "image AUROC / pixel AUROC / AUPRO to 0.3, in per cent"
BY_CONDITION = "every condition, mean over categories"
RATES = ("false_alarm_rate", "detection_rate")
RATES_HEAD = "false alarms / detected at the fixed threshold, in per cent"
MEAN, MEAN_OVER_SHIFTS = "mean", "mean over the shifts"  # names of lines that are means of the others
MANY = 6  # methods beside each other, at most: more stand one below the other


@dataclass(frozen=True)
class Table:
    """One table; each entry is its figures, and whether each is the best of its row, that is of all methods."""

    title: str
    head: str  # what the entries are
    first: str  # head of the first column
    methods: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Sequence[tuple[MeanStd | None, bool]]]]]

    def lines(self) -> tuple[list[str], list[tuple[str, list[Sequence[tuple[MeanStd | None, bool]]]]]]:
        """Heads, and named lines of entries: a column for each method, or where they are many a line."""
        if len(self.methods) <= MANY:
            return [self.first, *self.methods], [(name, list(entries)) for name, entries in self.rows]
        columns = zip(*(entries for _, entries in self.rows), strict=True)
        return ["method", *(name for name, _ in self.rows)], [
            (method, list(entries)) for method, entries in zip(self.methods, columns, strict=True)
        ]


def tables(results: Results) -> list[Table]:
    """By category, clean and over shifts; and by condition, where there are several, over categories."""
    found = []
    for title, conditions in groups(results).items():
        rows = [(category, _entries(results, category, conditions, SHOWN)) for category in results.categories]
        if len(results.categories) > 1:
            rows.append((MEAN, _entries(results, None, conditions, SHOWN)))
        found.append(Table(title, HEAD, "category", results.methods, rows))
    for head, figures in ((HEAD, SHOWN), (RATES_HEAD, RATES)):
        if figures == RATES or len(results.shifted) > 1:
            rows = [(name, _entries(results, None, [name], figures)) for name in results.conditions]
            if len(results.shifted) > 1:
                rows.append((MEAN_OVER_SHIFTS, _entries(results, None, results.shifted, figures)))
            found.append(Table(BY_CONDITION, head, "condition", results.methods, rows))
    return found


def _entries(
    results: Results, category: str | None, conditions: Sequence[str], figures: Sequence[str]
) -> list[list[tuple[MeanStd | None, bool]]]:
    """For each method its figures; of one category, or the mean of all."""
    columns = []
    for figure in figures:
        spreads = [
            results.mean(method, conditions, figure)
            if category is None
            else results.cell(method, category, conditions, figure)
            for method in results.methods
        ]
        best = max((spread.mean for spread in spreads if spread), default=None)
        # Of two rates neither is best without the other.
        compares = len(spreads) > 1 and figures == SHOWN
        columns.append([(s, compares and s is not None and s.mean == best) for s in spreads])
    return [list(entry) for entry in zip(*columns, strict=True)]


def ranking_columns(results: Results) -> list[tuple[str, Sequence[str], str]]:
    """Columns of the ranking: (head, conditions, figure)."""
    found: list[tuple[str, Sequence[str], str]] = []
    for conditions in groups(results).values():
        short = "clean" if conditions == ["clean"] else "shifted"
        found += [(f"{short}: image AUROC", conditions, "image_auroc"), (f"{short}: AUPRO 0.3", conditions, "aupro_30")]
        found += [
            (f"{short}: false alarms", conditions, "false_alarm_rate"),
            (f"{short}: detected", conditions, "detection_rate"),
        ]
    return found


def in_percent(spread: MeanStd | None) -> str:
    """A figure as the papers write it.

    >>> in_percent(MeanStd(0.98765, 0.0021, 3)), in_percent(MeanStd(0.5, None, 1)), in_percent(None)
    ('98.8 ± 0.2', '50.0', '–')
    """
    if spread is None:
        return DASH
    return f"{100 * spread.mean:.1f}" + ("" if spread.std is None else f" ± {100 * spread.std:.1f}")


def markdown(results: Results, title: str, lines: Sequence[str], notes: Sequence[str]) -> str:
    """The tables as Markdown; the best of each row is bold.

    Args:
        results: the rows.
        title: of the page.
        lines: said before the tables, the protocol among them.
        notes: said after them.
    """
    parts = [f"# {title}", "\n".join(f"- {line}" for line in (*lines, f"Entries: {_over(results)}."))]
    columns = ranking_columns(results)
    rows = [["method", *(name for name, _, _ in columns)], ["---"] * (1 + len(columns))]
    rows += [
        [method, *(in_percent(results.mean(method, conditions, figure)) for _, conditions, figure in columns)]
        for method in results.ranking()
    ]
    parts.append("## Ranking\n\nMean over categories, in per cent.")
    parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in rows))
    for table in tables(results):
        head, body = table.lines()
        parts.append(f"## {table.title}\n\n{table.head[0].upper()}{table.head[1:]}.")
        rows = [head, ["---"] * len(head)]
        rows += [[name, *(_entry(entry, lambda text: f"**{text}**") for entry in entries)] for name, entries in body]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in rows))
    if notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def latex(results: Results, title: str, lines: Sequence[str]) -> str:
    """The tables as LaTeX, for the package booktabs; captions say the protocol."""
    parts = []
    for table in tables(results):
        caption = f"{title}, {table.title}. " + " ".join(
            f"{line}." for line in (*lines, f"Entries: {HEAD}{_over(results)}")
        )
        heads, found = table.lines()
        rows = [
            " & ".join([_escaped(name), *(_entry(entry, _bold, latex_text) for entry in entries)]) + r" \\"
            for name, entries in found
        ]
        if found[-1][0] in (MEAN, MEAN_OVER_SHIFTS):
            rows.insert(-1, r"\midrule")
        head = " & ".join(map(_escaped, heads)) + r" \\"
        body = [r"\toprule", head, r"\midrule", *rows, r"\bottomrule"]
        parts += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escaped(caption)}}}",
            rf"\begin{{tabular}}{{l{'c' * (len(heads) - 1)}}}",
            *body,
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    return "\n".join(["% needs \\usepackage{booktabs}", *parts])


def latex_text(spread: MeanStd | None) -> str:
    r"""A figure in LaTeX.

    >>> latex_text(MeanStd(0.98765, 0.0021, 3)), latex_text(None)
    ('98.8 $\\pm$ 0.2', '--')
    """
    return in_percent(spread).replace("±", r"$\pm$").replace(DASH, "--")


def _entry(
    figures: Sequence[tuple[MeanStd | None, bool]],
    bold: Callable[[str], str],
    text: Callable[[MeanStd | None], str] = in_percent,
) -> str:
    return " / ".join(bold(text(spread)) if best else text(spread) for spread, best in figures)


def _bold(text: str) -> str:
    return rf"\textbf{{{text}}}"


def _over(results: Results) -> str:
    seeds = ", ".join(map(str, results.seeds))
    return f"mean ± standard deviation over seeds {seeds}" if len(results.seeds) > 1 else f"seed {seeds}"


def _escaped(text: str) -> str:
    r"""Text for LaTeX.

    >>> print(_escaped("metal_nut 100 %"))
    metal\_nut 100 \%
    """
    special = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)
