"""``shiftproof benchmark``: tables of methods, categories and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from shiftproof.cli.console import ERR, Bar, say, table, warn
from shiftproof.cli.executor import choose_cluster
from shiftproof.cli.options import Whole
from shiftproof.config import parse_settings

INCOMPLETE = 3  # exit code: finished, but some runs failed or some images could not be used
Several = Parameter(consume_multiple=True)


def benchmark(
    *roots: Path,
    out: Path,
    methods: Annotated[tuple[str, ...], Several] = (),
    categories: Annotated[tuple[str, ...], Several] = (),
    seeds: Annotated[tuple[Whole, ...], Several] = (0,),
    shifts: str | None = None,
    protocol: str = "blind",
    oracle_every: Whole | None = None,
    recipe: str | None = None,
    backbone: str | None = None,
    weights: Path | None = None,
    image_size: str | None = None,
    steps: Whole | None = None,
    epochs: Whole | None = None,
    textures: Path | None = None,
    set: Annotated[tuple[str, ...], Several] = (),
    layout: str = "auto",
    without_correction: bool = False,
    reevaluate: bool = False,
    drop_models: bool = False,
    executor: str = "local",
    address: str | None = None,
    workers: Whole | None = None,
    cpus: Whole | None = None,
    gpus: float | None = None,
) -> int:
    """Train and evaluate methods on categories with several seeds; a finished run is never repeated.

    Writes rows.parquet, results.json, table.md, table.tex and index.html.

    Parameters
    ----------
    roots
        Data sets: folders of categories, or categories.
    out
        Folder for runs, models and tables.
    methods
        rd, rdpp, gnl, fusion, memory; each with settings of its own if need be, as rdpp:ssot=off. By default rd and rdpp, or
        the recipe's.
    categories
        Names of categories; by default all that are found.
    seeds
        Of weights, order, views and split; tables show mean and standard deviation over them.
    shifts
        clean, all, paper, or NAME[:SEVERITY],... such as brightness:3,gaussian_noise:1-5; by default clean, or the recipe's.
    protocol
        blind: fixed schedule, last weights. oracle: selected on the test set, as the papers do; every table says so.
    oracle_every
        Epochs between two looks of the oracle, or steps where the schedule counts steps; by default a twentieth of it.
    recipe
        A paper's settings: rd-cvpr2022, rdpp-cvpr2023, gnl-vand2024 or adshift-iccv2023; the output names where it is not
        followed.
    backbone
        Teacher: a timm name with its pretrained tag.
    weights
        File with the teacher's weights.
    image_size
        N or HxW: what images are resized to.
    steps
        Batches in all.
    epochs
        Passes over the training images, instead of a number of steps.
    textures
        Folder of pictures that synthetic anomalies are made of, for gnl and fusion.
    set
        NAME=VALUE: settings of training or of the methods, such as batch_size=8 or ssot=off; a method takes those it has.
    layout
        How categories are laid out: auto, or a name of docs/data.md.
    without_correction
        Also evaluate models that have shift correction without it: a further column.
    reevaluate
        Evaluate finished runs again, with the models that they have kept.
    drop_models
        Remove each model once its run is finished.
    executor
        local: one run after the other in this process. ray: as many at a time as there is room for.
    address
        With ray: of a cluster that runs, auto or HOST:PORT; without it one is started on this machine, and ended.
    workers
        With ray: runs at a time, at most; by default as many as there is room for.
    cpus
        With ray: processor threads for each run; 1 by default.
    gpus
        With ray: GPUs for each run, 0.5 to share one; by default 1 where there are any.
    """
    cluster = choose_cluster(executor, address, workers, cpus, gpus)
    from shiftproof.benchmark.benchmark import run_benchmark
    from shiftproof.benchmark.local_executor import RunOptions, run_local
    from shiftproof.benchmark.plan import BenchmarkRequest
    from shiftproof.distributed.ray_executor import RayExecutor
    from shiftproof.reporter import Reporter

    request = BenchmarkRequest(
        methods=methods,
        categories=categories,
        seeds=seeds,
        shifts=shifts,
        protocol=protocol,
        oracle_every=oracle_every,
        recipe=recipe,
        backbone=backbone,
        weights=weights,
        textures=textures,
        layout=layout,
        image_size=image_size,
        steps=steps,
        epochs=epochs,
        settings=parse_settings(set),
        without_correction=without_correction,
    )
    with Bar() as bar:
        found = run_benchmark(
            roots,
            out,
            request,
            executor=RayExecutor(cluster) if cluster else run_local,
            run_options=RunOptions(reevaluate, drop_models),
            reporter=Reporter(warning=warn, progress=bar) if ERR.is_terminal else Reporter(warning=warn),
            on_run=lambda done, total, run: say(f"{done} of {total}: {run.title}"),
        )
    show(found)
    for line in found.notes:
        warn(line)
    say(f"tables and page: {out / 'index.html'}")
    return INCOMPLETE if found.failures or found.unusable else 0


def show(found: Any) -> None:
    """The protocol, and a table of each group of conditions as in table.md."""
    from shiftproof.report.benchmark_results import LABELS
    from shiftproof.report.benchmark_tables import in_percent, tables

    for one in tables(found.results):
        say(f"{one.title}: {one.head}; {LABELS[found.plan.protocol]}")
        head, body = one.lines()
        rows = [(name, *(" / ".join(in_percent(s) for s, _ in entry) for entry in entries)) for name, entries in body]
        table(tuple(head), rows)
        say("")
    for line in found.plan.differs:
        say(f"differs from {found.plan.recipe.source}: {line}")
