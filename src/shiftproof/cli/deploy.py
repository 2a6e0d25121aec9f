"""The commands for where a model runs: export it, and measure it there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from shiftproof.cli.console import Bar, say, table, warn


def export(
    model: Path,
    /,
    *,
    to: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ("onnx", "openvino"),
    data: Path | None = None,
    layout: str = "auto",
    force: bool = False,
) -> int:
    """Write a model as one graph, from pixels to map, score and p-value, into its folder; held against the model first.

    Parameters
    ----------
    model
        Folder that train wrote.
    to
        onnx, openvino, or both.
    data
        Images to hold the graph against the model on: good ones, or a labelled set; made from a seed if not given.
    layout
        How DATA is laid out: auto, folder or mvtec.
    force
        Write a graph that differs by more than the tolerance as well; it then runs only when --backend names it.
    """
    from shiftproof.export import export_model

    with Bar() as bar:
        exported = export_model(
            model,
            to,
            data=data,
            layout=layout,
            force=force,
            warn=warn,
            on_progress=lambda done, total: bar("comparing", done, total),
        )
    rows = []
    for one in exported:
        parity = one.record["parity"]
        auroc = parity["auroc"]
        change = "–" if auroc is None else f"{auroc['graph'] - auroc['model']:+.4f}"
        differences = (f"{parity[key]:.1e}" for key in ("map", "score"))
        rows.append((one.name, f"{one.bytes / 1e6:.1f} MB", *differences, change, str(parity["verdicts_changed"])))
    table(("graph", "size", "map differs by", "score by", "AUROC", "other verdicts"), rows)
    parity = exported[0].record["parity"]
    say(f"largest differences from the model on {parity['source']}; the colour scale spans {parity['scale']:.3g}")
    say(f"model: {model} (shiftproof predict takes the fastest of its graphs that can run here)")
    return 0
