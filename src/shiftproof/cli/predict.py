"""``shiftproof predict``: images whose truth nobody has told, a folder of them or millions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from shiftproof.cli.console import Bar, say, warn
from shiftproof.cli.executor import choose_cluster
from shiftproof.cli.options import Whole
from shiftproof.errors import BackendError

if TYPE_CHECKING:
    from shiftproof.pipelines import Prediction
    from shiftproof.scale.shards import Totals

Correction = Annotated[bool | None, Parameter(negative="--no-correction")]
FAILED_INPUTS = 3  # exit code: finished, but some inputs failed
SHOWN = 20  # failures that are told of


def predict(
    model: Path,
    /,
    *images: Path,
    out: Path,
    correction: Correction = None,
    backend: str = "auto",
    threshold_mode: str = "fixed",
    executor: str = "local",
    heatmaps: bool = False,
    address: str | None = None,
    workers: Whole | None = None,
    cpus: Whole | None = None,
    gpus: float | None = None,
) -> int:
    """Inspect images; writes predictions.csv, heatmaps/, masks/ and report.html. With --executor ray: predictions.parquet/.

    Parameters
    ----------
    model
        Folder that train wrote.
    images
        Image files, folders that are searched, or Parquet lists with a column path.
    out
        Folder to write to.
    correction
        Use the model's shift correction, or leave it out; by default as it was trained.
    backend
        torch, a graph such as openvino-int8 (info lists them), or auto: the fastest graph that can run here.
    threshold_mode
        fixed, or conditional: images that are unusual are judged by the threshold for their conditions (of a model
        trained with --conditional).
    executor
        local: this process, with pictures and a report. ray: any number of images on many workers, rows alone.
    heatmaps
        With ray: write heatmaps/ and masks/ as well, which is off by default there.
    address
        With ray: of a cluster that runs, auto or HOST:PORT; without it one is started on this machine, and ended.
    workers
        With ray: at a time, at most; by default as many as there is room for.
    cpus
        With ray: processor threads for each worker; 1 by default.
    gpus
        With ray: GPUs for each worker, 0.5 to share one; by default 1 where there are any.
    """
    cluster = choose_cluster(executor, address, workers, cpus, gpus)
    found: Prediction | Totals
    with Bar() as bar:

        def on_progress(done: int, total: int) -> None:
            bar("inspecting", done, total)

        if cluster is None:
            from shiftproof.detector import load
            from shiftproof.pipelines import predict as run

            found = run(
                load(model, backend, correction=correction, threshold_mode=threshold_mode),
                images,
                out,
                on_progress=on_progress,
            )
            broken, result = len(found.failures), f"report: {out / 'report.html'}"
        else:
            try:
                from shiftproof.scale.bulk import predict_with_ray
            except ModuleNotFoundError as error:
                needs = f"--executor ray needs the package {error.name}: pip install 'shiftproof[scale]'"
                raise BackendError(needs) from error
            found = predict_with_ray(
                *(model, images, out),
                cluster=cluster,
                backend=backend,
                correction=correction,
                threshold_mode=threshold_mode,
                heatmaps=heatmaps,
                on_progress=on_progress,
            )
            drawn = "" if heatmaps else "; no heatmaps with this executor, unless --heatmaps asks for them"
            broken, result = found.failed, f"predictions: {out / 'predictions.parquet'}{drawn}"
    good = found.images - found.defective - broken
    say(f"{found.images} images: {found.defective} defective, {good} good, {broken} unreadable")
    say(result)
    return failed(found.failures, broken)


def failed(failures: Sequence[str], count: int) -> int:
    """Tell of inputs that failed, the first of ``count``; the exit code."""
    for line in failures[:SHOWN]:
        warn(line)
    if count > SHOWN:
        warn(f"and {count - SHOWN} more")
    return FAILED_INPUTS if count else 0
