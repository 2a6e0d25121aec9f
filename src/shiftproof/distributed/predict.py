"""``shiftproof predict --executor ray``: millions of images, a model in each worker, one row for each image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shiftproof.data import in_order, is_listing
from shiftproof.detector import BATCH
from shiftproof.distributed.cluster import MEMORY, RETRIES, Cluster, Resources, WorkerError, connected, reason
from shiftproof.distributed.shards import PredictionTotals, Shards, count_predictions, cut, exclusive
from shiftproof.errors import BackendError, DataError
from shiftproof.loading import FIXED, LoadOptions, open_detector, resolve_backend
from shiftproof.model_io import MANIFEST, load_manifest, sha256_file
from shiftproof.pipelines.inputs import Missing, find_inputs, naming
from shiftproof.pipelines.outputs import clear_outputs
from shiftproof.pipelines.predict import write_pictures
from shiftproof.report.heatmap import overlay
from shiftproof.results import FailedInspection, Inspection

TASKS = 1000  # at most: Ray's bookkeeping does not grow with the images
FAILURES = 20  # that are told of


@dataclass(frozen=True)
class Scoring:
    """How images are scored, wherever it is done."""

    model: Path
    options: LoadOptions  # with the backend by name
    common: Path | None  # folder above all images, below which heatmaps are named; None draws none


def predict_with_ray(
    model: Path,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    cluster: Cluster | None = None,
    options: LoadOptions | None = None,
    heatmaps: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PredictionTotals:
    """Inspect files, folders and Parquet lists on a Ray cluster; write ``predictions.parquet/``, a file for each shard.

    The files together hold exactly one row for each image, by its absolute path; an unreadable one, or an input that is
    not there, is a row with status "error". Finished shards are never scored again: after a kill the same command goes
    on. No more than a shard's rows and a few batches of pixels are in a worker's memory, however many images there are;
    this process holds the names while it sorts them.

    Args:
        model: folder, at the same path on all machines, as images and ``out``.
        inputs: image files, folders, and Parquet lists with a column ``path``.
        out: folder to write to.
        cluster: where to run; this machine by default.
        options: how to load the model; the backend is chosen once, for all workers.
        heatmaps: draw them, and masks, as well.
        on_progress: is told (images done, images in all).

    Raises:
        ShiftproofError: nothing to read, a damaged model, no Ray; before any image is scored. BackendError: workers die
            again and again. Interrupted: Ctrl-C or SIGTERM; finished shards stay.
    """
    folder = Path(out).absolute()  # workers are elsewhere
    scoring = _scoring(Path(model).absolute(), options or LoadOptions())
    with exclusive(folder):
        clear_outputs(folder, ["report.html", "predictions.csv"])
        folders: set[Path] = set()
        how = f"{scoring.options} {heatmaps}"
        settings = f"{sha256_file(scoring.model / MANIFEST)} {how}"
        shards = cut(_absolute(inputs, folder, folders), folder, settings)
        shards.remove_stale()
        common = Path(os.path.commonpath(folders)) if heatmaps else None
        try:
            if todo := shards.missing():
                with connected(cluster or Cluster()) as resources:
                    options = replace(scoring.options, threads=resources.cpus)
                    _score(shards, todo, replace(scoring, options=options, common=common), resources, on_progress)
        finally:
            shards.listing.unlink()
            shards.remove_stale()
        return count_predictions(shards, FAILURES)


def _scoring(model: Path, options: LoadOptions) -> Scoring:
    """What is known before Ray is there; refuses what no worker could do."""
    options = replace(options, backend=resolve_backend(model, load_manifest(model), options))
    if options.threshold_mode != FIXED:
        open_detector(model, options)
    return Scoring(model, options, None)


def _absolute(inputs: Sequence[str | Path], out: Path, folders: set[Path]) -> Iterator[list[Path]]:
    """The images by absolute paths, some at a time; notes the folders that they lie in.

    An input that is not there goes along as it is: reading it will fail, which makes its row.
    """
    for images in find_inputs(inputs, out):
        if isinstance(images, Missing):
            if is_listing(images.path):
                raise DataError(images.reason)
            images = [images.path]
        absolute = [_place(path) for path in images]
        folders.update(path.parent for path in absolute)
        yield absolute


def _place(path: Path) -> Path:
    """Absolute, and without "..", behind a link that leads elsewhere than it reads; other links stay as they were given."""
    return Path(os.path.realpath(path.parent), path.name) if ".." in path.parts else path.absolute()


def _score(
    shards: Shards, todo: Sequence[int], how: Scoring, resources: Resources, on_progress: Callable[[int, int], None]
) -> None:
    """Score the missing shards with Ray Data: a pool of actors, each with the model, to which shard numbers go."""
    import ray.data
    from ray.exceptions import RayError

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    context.target_max_block_size = 2**20  # what comes back is a number for each shard, not 128 MiB
    workers = min(resources.workers, len(todo))
    done = shards.images - sum(shards.size_of(number) for number in todo)
    numbers = ray.data.from_items([{"number": number} for number in todo], override_num_blocks=min(len(todo), TASKS))
    scored = numbers.map_batches(
        Scorer,
        fn_constructor_args=(shards, how, workers),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
    )
    try:
        for row in scored.iter_rows():
            done += row["images"]
            on_progress(done, shards.images)
    except KeyboardInterrupt:
        from shiftproof.training import Interrupted  # brings torch, which no worker needs for this

        raise Interrupted(f"stopped at {done} of {shards.images} images: the same command goes on from there") from None
    except RayError as error:
        line = f"{reason(error)} (at {done} of {shards.images} images: the same command goes on from there)"
        raise BackendError(line) from error


class Scorer:
    """A worker: holds the model, and scores one shard after the other.

    Args:
        shards: where names are read and rows are written.
        how: to score.
        workers: that begin like this one, beside it.

    Ray begins again for ever what a dying worker leaves; here it is given up after a few times, with a line on what it was.
    """

    def __init__(self, shards: Shards, how: Scoring, workers: int):
        if shards.begin("model") > workers * (RETRIES + 1):
            raise WorkerError(f"workers die again and again while they load {how.model}; {MEMORY}")
        self._shards = shards
        self._how = how
        self._detector = open_detector(how.model, how.options)
        self._name_of = naming([how.common]) if how.common else None
        shards.end("model")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[int]]:
        """Score the shards of these numbers, but for those that were finished before a worker died."""
        numbers = [int(number) for number in batch["number"]]
        for number in numbers:
            if not (self._shards.folder / self._shards.names[number]).exists():
                self._score(number, self._shards.names[number])
        return {"images": [self._shards.size_of(number) for number in numbers]}

    def _score(self, number: int, name: str) -> None:
        paths = self._shards.paths(number)
        if self._shards.begin(name) > RETRIES + 1:
            raise WorkerError(f"{RETRIES + 1} workers died at images {paths[0]} to {paths[-1]}; {MEMORY}")
        self._shards.write(number, list(self._rows(paths)))
        self._shards.end(name)

    def _rows(self, paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
        threads = self._how.options.threads  # and no more: other workers are beside this one
        return in_order(self._row, self._detector.predict(paths, threads=threads), workers=threads, ahead=BATCH)

    def _row(self, result: Inspection | FailedInspection) -> dict[str, Any]:
        failure = ""
        if self._name_of is not None and isinstance(result, Inspection):
            assert result.path is not None
            assert result.image is not None
            heat = overlay(result.image, result.anomaly_map, *result.map_range)
            failure = write_pictures(self._shards.out, f"{self._name_of(result.path)}.png", heat, result.mask)
        row = {**result.to_dict(), **({"error": failure} if failure else {})}
        return {key: _printable(value) if isinstance(value, str) else value for key, value in row.items()}


def _printable(text: str) -> str:
    """Text that Parquet takes: bytes of a file name that are no Unicode are escaped, as in predictions.csv."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
