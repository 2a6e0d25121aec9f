"""The commands for where a model runs: export it, and measure it there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from shiftproof.cli.console import Bar, say, table, warn
from shiftproof.cli.options import Whole
from shiftproof.errors import BackendError
from shiftproof.model_io import write_json_atomic


def export(
    model: Path,
    /,
    *,
    to: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ("onnx", "openvino"),
    int8: bool = False,
    bf16: bool = False,
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
    int8
        Write a graph in 8 bits beside each as well; needs good images as DATA, or a category with train/good.
    bf16
        Write a graph that is computed in bfloat16 beside each of OpenVINO's as well, for processors that have it.
    data
        Images to hold the graph against the model on: good ones, or a labelled set; made from a seed if not given.
    layout
        How DATA is laid out: auto, folder or mvtec.
    force
        Write a graph that differs by more than the tolerance as well; it then runs only when --backend names it.
    """
    try:
        from shiftproof.export import export_model
    except ModuleNotFoundError as error:
        raise BackendError(f"export needs the package {error.name}: pip install 'shiftproof[export]'") from error

    with Bar() as bar:
        exported = export_model(
            model,
            to,
            int8=int8,
            bf16=bf16,
            data=data,
            layout=layout,
            force=force,
            warn=warn,
            on_progress=lambda done, total: bar("comparing", done, total),
        )
    rows = []
    for graph in exported:
        parity = graph.record["parity"]
        change = "–" if parity["auroc"] is None else f"{parity['auroc']['graph'] - parity['auroc']['model']:+.4f}"
        latency_ms = (f"{parity['latency_ms'][key]:.1f} ms" for key in ("graph", "model"))
        differences = (f"{parity[key]:.1e}" for key in ("map", "score"))
        rows.append(
            (
                graph.name,
                f"{graph.bytes / 1e6:.1f} MB",
                *latency_ms,
                *differences,
                change,
                str(parity["verdicts_changed"]),
            )
        )
    table(("graph", "size", "an image", "in torch", "map differs by", "score by", "AUROC", "other verdicts"), rows)
    parity = exported[0].record["parity"]
    say(f"largest differences from the model on {parity['source']}; the colour scale spans {parity['scale']:.3g}")
    say(f"model: {model} (shiftproof predict takes the fastest of its graphs that can run here)")
    return 0


def profile(
    model: Path,
    /,
    *,
    backends: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    threads: Annotated[tuple[Whole, ...], Parameter(consume_multiple=True)] = (),
    data: Path | None = None,
    seconds: float = 3.0,
    json: Path | None = None,
) -> int:
    """Measure latency, throughput, memory and cold start on this machine, each backend in a process of its own.

    Parameters
    ----------
    model
        Folder that train wrote.
    backends
        torch, or names of graphs such as onnx or openvino-int8 (info lists them); by default all that can run here.
    threads
        Numbers of processor threads; by default 1 and all there are.
    data
        Images to measure with; by default synthetic ones of the model's size.
    seconds
        That each measurement takes, at least.
    json
        File to write the figures to, unrounded.
    """
    from shiftproof.profiling import profile as run

    with Bar() as bar:
        found = run(
            model,
            backends=backends,
            threads=threads,
            data=data,
            seconds=seconds,
            on_progress=lambda done, total: bar("measuring", done, total),
        )
    head = ("backend", "threads", "network p50", "p90", "p99", "images/s")
    rows = []
    for result in found["results"]:
        timed = (
            text
            for part in (result["network"], result["end_to_end"])
            for text in (*(f"{part[key]:.1f} ms" for key in ("p50", "p90", "p99")), f"{part['throughput']:.1f}")
        )
        memory = "–" if result["peak_memory"] is None else f"{result['peak_memory'] / 2**20:.0f} MiB"
        rows.append((result["backend"], str(result["threads"]), *timed, memory, f"{result['cold_start']:.2f} s"))
    table((*head, "file to verdict p50", "p90", "p99", "images/s", "peak memory", "cold start"), rows)
    height, width = found["image_size"]
    machine = found["machine"]
    say(
        f"{found['method']} at {height}x{width}, {found['images']}; {machine['processors']} processors, {machine['processor']}"
    )
    if json is not None:
        write_json_atomic(json, found)
        say(f"figures: {json}")
    return 0
