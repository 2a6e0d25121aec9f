"""``shiftproof predict``: unlabelled images, a folder of them or millions."""

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
    from shiftproof.distributed.shards import PredictionTotals
    from shiftproof.pipelines import Prediction

Correction = Annotated[bool | None, Parameter(negative="--no-correction")]
FAILED_INPUTS = 3  # exit code: finished, but some inputs failed
SHOWN = 20  # failures that are printed


def predict(
    model: Path,
    /,
    *images: Path,
    out: Path,
    correction: Correction = None,
    backend: str = "auto",
    threshold: float | None = None,
    threshold_mode: str = "fixed",
    device: str | None = None,
    executor: str = "local",
    heatmaps: Annotated[bool | None, Parameter(negative="--no-heatmaps")] = None,
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
    threshold
        Score above which an image is defective, for this run; by default the model's.
    threshold_mode
        fixed, or conditional: images that are unusual are judged by the threshold for their conditions (of a model
        trained with --conditional).
    device
        Of torch: cpu, cuda or cuda:1; by default a GPU where there is one.
    executor
        local: this process, with pictures and a report. ray: any number of images on many workers, rows alone.
    heatmaps
        Write heatmaps/ and masks/, or leave them out; by default they are written, but not with ray.
    address
        With ray: of a cluster that runs, auto or HOST:PORT; without it one is started on this machine, and ended.
    workers
        With ray: at a time, at most; by default as many as there is room for.
    cpus
        With ray: processor threads for each worker; 1 by default.
    gpus
        With ray: GPUs for each worker, 0.5 to share one; by default 1 where there are any.
    """
    from shiftproof.loading import LoadOptions, open_detector

    options = LoadOptions(backend, correction, None, threshold_mode, threshold, device)
    cluster = choose_cluster(executor, address, workers, cpus, gpus)
    found: Prediction | PredictionTotals
    local: Prediction | None = None
    with Bar() as bar:

        def on_progress(done: int, total: int) -> None:
            bar("inspecting", done, total)

        if cluster is None:
            from shiftproof.pipelines import predict as run

            found = local = run(
                open_detector(model, options), images, out, heatmaps=heatmaps is not False, on_progress=on_progress
            )
            broken, result = len(found.failures), f"report: {out / 'report.html'}"
        else:
            try:
                from shiftproof.distributed.predict import predict_with_ray
            except ModuleNotFoundError as error:
                needs = f"--executor ray needs the package {error.name}: pip install 'shiftproof[scale]'"
                raise BackendError(needs) from error
            found = predict_with_ray(
                *(model, images, out),
                cluster=cluster,
                options=options,
                heatmaps=bool(heatmaps),
                on_progress=on_progress,
            )
            drawn = "" if heatmaps else "; no heatmaps with this executor, unless --heatmaps asks for them"
            broken, result = found.failed, f"predictions: {out / 'predictions.parquet'}{drawn}"
    good = found.images - found.defective - broken
    say(f"{found.images} images: {found.defective} defective, {good} good, {broken} unreadable")
    say(result)
    code = failed(found.failures, broken)
    return code if local is None else (_warn_of_kinds(local) or code)


def _warn_of_kinds(found: Prediction) -> int:
    """Warn of images of another kind and of pictures that could not be written; return the exit code for the latter."""
    for note, paths in list(found.notes.items())[:SHOWN]:
        count = f"{len(paths)} image{'s'[: len(paths) != 1]}"
        warn(f"{count} of another kind than those trained on: {note}; e.g. {paths[0]}")
    return failed(found.picture_failures, len(found.picture_failures))


def failed(failures: Sequence[str], count: int) -> int:
    """Print the inputs that failed, the first of ``count``; the exit code."""
    for line in failures[:SHOWN]:
        warn(line)
    if count > SHOWN:
        warn(f"and {count - SHOWN} more")
    return FAILED_INPUTS if count else 0
