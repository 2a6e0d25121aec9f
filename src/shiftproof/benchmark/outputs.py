"""What a benchmark leaves beside its runs: the rows, the tables and the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shiftproof.benchmark.plan import Plan
from shiftproof.errors import DataError
from shiftproof.metrics.mean_std import MeanStd
from shiftproof.model_io import environment, package_version, write_json_atomic, write_text_atomic
from shiftproof.report.benchmark import BenchmarkReport, write_benchmark_report
from shiftproof.report.benchmark_results import FIGURES, LABELS, WITHOUT_CORRECTION, Results, groups
from shiftproof.report.benchmark_tables import MANY, SHOWN, latex, markdown

NAMES = ("rows.parquet", "rows.csv", "results.json", "table.md", "table.tex", "index.html")
SHARED = ("backbone", "weights", "textures", "layout", "protocol", "oracle_every", "conditions", "without_correction")


def write_outputs(plan: Plan, results: Mapping[str, Any], failures: Sequence[str]) -> list[str]:
    """Write all of it for the runs that are finished; what a former run left is replaced.

    Args:
        plan: of the benchmark.
        results: content of ``run.json`` of each finished run, by the name of its folder; one at least.
        failures: a line for each run that failed.

    Returns:
        lines that a reader has to know: what was not to be had.

    Raises:
        ShiftproofError: a file cannot be written.
    """
    out = plan.out
    rows = [flat for name, found in results.items() for flat in _rows(plan, name, found)]
    held = Results(rows)
    notes = [*plan.notes, *_notes(plan, results)]
    if not write_rows(out, rows):
        notes.append("rows.csv instead of rows.parquet: pyarrow is not installed; pip install 'shiftproof[scale]'")
    label = LABELS[plan.protocol]
    differs = [f"differs from {plan.recipe.source}: {line}" for line in plan.differs] if plan.recipe else []
    lines = [f"Protocol: {label}", *([f"Recipe {plan.recipe.name}, {plan.recipe.source}"] if plan.recipe else [])]
    title = f"Benchmark of {', '.join(held.methods) if len(held.methods) <= MANY else f'{len(held.methods)} methods'}"
    settings = {key: value for key, value in plan.runs[0].settings.items() if key in SHARED}
    write_json_atomic(
        out / "results.json",
        {
            "protocol": plan.protocol,
            "label": label,
            "recipe": plan.recipe.name if plan.recipe else None,
            "differs": list(plan.differs),
            "settings": settings,
            "methods": {run.method: dict(run.settings["options"]) for run in plan.runs},
            "categories": list(plan.categories),
            "seeds": list(plan.seeds),
            "conditions": list(plan.conditions),
            "runs": {"finished": len(results), "all": len(plan.runs)},
            "failures": list(failures),
            "notes": notes,
            "rows": rows,
            "summary": _summary(held),
            "ranking": held.ranking(),
            "environment": environment(),
        },
    )
    write_text_atomic(out / "table.md", markdown(held, title, lines, [*notes, *differs, *failures]))
    write_text_atomic(out / "table.tex", latex(held, title, lines))
    write_benchmark_report(
        out / "index.html",
        BenchmarkReport(
            title=title,
            label=label,
            oracle=plan.protocol == "oracle",
            results=held,
            done=len(results),
            runs=len(plan.runs),
            differs=plan.differs,
            recipe=plan.recipe.source if plan.recipe else "",
            notes=notes,
            failures=failures,
            settings=settings,
            version=package_version("shiftproof") or "",
        ),
    )
    return notes


def write_rows(out: Path, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Write ``rows.parquet``; without pyarrow ``rows.csv``, and False. Numbers are float64, unrounded; null is empty in CSV.

    Raises:
        ShiftproofError: the file cannot be written.
    """
    clear(out, ("rows.parquet", "rows.csv"))
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text_atomic(out / "rows.csv", text.getvalue())
        return False
    beside = out / ".rows.parquet.partial"
    try:
        table = pyarrow.Table.from_pylist([dict(row) for row in rows])
        # A column of nulls alone has no type: figures that a whole benchmark lacks are numbers all the same.
        types = {
            **dict.fromkeys(FIGURES, pyarrow.float64()),
            "selected_step": pyarrow.int64(),
            "recipe": pyarrow.string(),
        }
        schema = pyarrow.schema([field.with_type(types.get(field.name, field.type)) for field in table.schema])
        pyarrow.parquet.write_table(table.cast(schema), beside)
        beside.replace(out / "rows.parquet")
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error}): free space, or choose another --out") from error
    return True


def clear(out: Path, names: Sequence[str] = NAMES) -> None:
    """Make the folder and remove what a former run called by these names.

    Raises:
        DataError: it cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}): choose another --out") from error


def _rows(plan: Plan, name: str, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The run's rows, each with what it takes to read it alone."""
    settings, training = found["settings"], found["training"]
    looks = found["oracle"]
    selected = max(looks, key=lambda look: (look["auroc"], -look["step"]))["step"] if looks else None
    facts = {
        "protocol": settings["protocol"],
        "selected_step": selected,
        "recipe": plan.recipe.name if plan.recipe else None,
        "backbone": settings["backbone"],
        "image_height": settings["schedule"]["image_size"][0],
        "image_width": settings["schedule"]["image_size"][1],
        "steps": training["steps"],
        "train_seconds": training["seconds"],
        "precision": training["precision"],
        "device": training["device"],
        "train_images": found["data"]["train_images"],
        "calibration_images": found["data"]["calibration_images"],
        "shiftproof": found["environment"].get("shiftproof"),
        "run": name,
    }
    # A kept run may have been called otherwise when it was computed: what a name leaves unsaid are the defaults of its day.
    method = next(run.method for run in plan.runs if run.folder.name == name)
    names = {True: method + WITHOUT_CORRECTION, False: method}
    return [{**row, "method": names[row["method"].endswith(WITHOUT_CORRECTION)], **facts} for row in found["rows"]]


def _notes(plan: Plan, results: Mapping[str, Any]) -> list[str]:
    notes = []
    for found in results.values():
        here = f"{found['category']}, {found['method']}, seed {found['seed']}"
        if found["unreadable"]:
            notes.append(f"{here}: {len(found['unreadable'])} images could not be used: {found['unreadable'][0]}")
        missing = [name for name in plan.conditions if name not in {row["condition"] for row in found["rows"]}]
        notes += [f"{here}: {name} does not apply to any of its images" for name in missing]
    versions = sorted({str(found["environment"].get("shiftproof")) for found in results.values()})
    if len(versions) > 1:
        notes.append(f"runs were computed with several versions of shiftproof: {', '.join(versions)}")
    return notes


def _summary(held: Results) -> list[dict[str, Any]]:
    """What the tables show, unrounded: mean and deviation over seeds, by category and over categories (None)."""
    found = []
    for title, conditions in groups(held).items():
        for method in held.methods:
            for category in (*held.categories, None):
                figures: dict[str, MeanStd | None] = {
                    figure: held.mean(method, conditions, figure)
                    if category is None
                    else held.cell(method, category, conditions, figure)
                    for figure in (*SHOWN, "false_alarm_rate", "detection_rate")
                }
                spreads = {name: spread and asdict(spread) for name, spread in figures.items()}
                found.append({"conditions": title, "method": method, "category": category, **spreads})
    return found
