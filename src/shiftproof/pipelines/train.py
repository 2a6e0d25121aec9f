"""From a folder of good images to a model folder: the pipeline of ``shiftproof train``."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shiftproof.calibration import Calibration, split_calibration
from shiftproof.calibration.conditional import CONDITIONAL, CONDITIONAL_FILE, ConditionalCalibration, families_of
from shiftproof.data import DecodedImages, calibration_images, decode_images, good_images
from shiftproof.detector import BATCH, CALIBRATION, CALIBRATION_WITHOUT_CORRECTION, Detector, load
from shiftproof.drift.reference import DRIFT, REFERENCE, make_reference
from shiftproof.errors import DataError, ModelError, UsageError, unknown
from shiftproof.methods import Inspector, Method, exact_inference, method_class
from shiftproof.methods.gnl import Gnl
from shiftproof.model_io import MANIFEST, TRAINING, environment, refuse_occupied, save_model
from shiftproof.networks.teacher import DEFAULT_BACKBONE, load_teacher, teacher_manifest
from shiftproof.reporter import Reporter
from shiftproof.synthesis.textures import load_textures
from shiftproof.training import Record, TrainConfig, fit, fit_size, format_size, load_checkpoint, parse_size
from shiftproof.training.config import steps_per_epoch

DEFAULT_METHOD = "rd"


@dataclass(frozen=True)
class Snapshot:
    """A training between two steps."""

    step: int  # steps done
    steps: int  # in all
    begin: int  # of its last part, in steps; up to there something is untrained that inference needs
    epoch: int  # steps of a pass over the images
    write: Callable[[Path], None]  # writes the model that it is now to a folder; the training does not notice


def train(
    data: str | Path,
    model: str | Path,
    *,
    method: str = DEFAULT_METHOD,
    backbone: str = DEFAULT_BACKBONE,
    weights: str | Path | None = None,
    layout: str = "auto",
    calibration: str | Path | None = None,
    false_alarm_rate: float = 0.05,
    resume: bool = False,
    overwrite: bool = False,
    method_options: Mapping[str, Any] | None = None,
    textures: str | Path | None = None,
    conditional: str = "none",
    reporter: Reporter | None = None,
    on_snapshot: Callable[[Snapshot], None] = lambda snapshot: None,
    **schedule: Any,
) -> Detector:
    """Train a detector on images of good parts and write its model folder.

    Args:
        data: a folder of good images, or a category with ``train/good``; nothing below ``test`` is ever read.
        model: the folder to write.
        method: name of a method ("rd", "rdpp", "gnl", "fusion").
        backbone: timm name of the teacher with its pretrained tag.
        weights: file with the teacher's weights, instead of the installed package or the hub.
        layout: how ``data`` is laid out, or "auto".
        calibration: a folder of further good images to place the threshold with; by default those that the data set
            itself holds out (``validation/good``), or else a part of ``data`` that is then not trained on.
        false_alarm_rate: wanted at the threshold.
        resume: go on from the checkpoint of an interrupted run.
        overwrite: replace a model that is there.
        method_options: fields of the method's config.
        textures: a folder of pictures to make synthetic anomalies of; by default they are made.
        conditional: "blind" or "production": place thresholds for drifted images as well (see
            :mod:`shiftproof.calibration.conditional`); "none" by default.
        reporter: receives facts, warnings and progress.
        on_snapshot: called after each step of a training in one process.
        **schedule: fields of :class:`~shiftproof.training.TrainConfig` (``image_size``, ``epochs``, ``seed``, ...).

    Raises:
        ShiftproofError: see the message; nothing that was there is harmed, and a checkpoint stays for ``resume``.
    """
    reporter = reporter or Reporter()
    folder = Path(model)
    kind = method_class(method)
    method_config = build_config(kind.Config, method_options or {}, f"option of {method}")
    config = build_config(TrainConfig, {**schedule, **_image_size(schedule, reporter)}, "setting")
    if not 0 < false_alarm_rate < 1:
        raise UsageError(
            f"false-alarm rate {false_alarm_rate} is out of range: expected one between 0 and 1, e.g. 0.05"
        )
    families = families_of(conditional) if conditional != "none" else ()
    checkpoints = folder / TRAINING
    if resume and load_checkpoint(checkpoints) is None:
        if not (folder / MANIFEST).is_file():
            start = "start again with --overwrite" if folder.exists() else "leave --resume out to start"
            raise ModelError(f"{folder} holds no checkpoint to resume from: {start}")
        reporter.info(f"{folder} is finished: there is nothing to resume")
        return load(folder)
    refuse_occupied(folder, overwrite or resume)
    train_paths, calibration_paths, calibration_from = _choose_images(Path(data), layout, calibration, config.seed)
    torch.manual_seed(config.seed)
    teacher, source = load_teacher(backbone, Path(weights) if weights else None)
    network = kind(teacher, method_config)
    textures_fingerprint = None
    if textures is not None:
        if not isinstance(network, Gnl) or network.head is None:
            fix = "train with --segmentation" if isinstance(network, Gnl) else "train gnl"
            raise UsageError(f"{method} makes no synthetic anomalies here: leave --textures out, or {fix}")
        network.textures = load_textures(textures, config.image_size, seed=config.seed)
        textures_fingerprint = network.textures.fingerprint
    teacher_facts = teacher_manifest(teacher, source)

    with _room(checkpoints, fresh=not resume):
        good = _decode(train_paths, config, checkpoints, "decoding", reporter)
        calibration_set = _decode(calibration_paths, config, checkpoints, "decoding calibration images", reporter)
        _warn_of_copies(good, calibration_set, reporter)
        if len(good.pixels) < 2:
            raise DataError(f"{data} holds 1 readable good image to train on: expected 2 at least; add images")
        network.prepare(good.pixels)
        if method_config.random_rotation == "auto":
            yes = "the good images have every direction: the training uses randomly rotated views"
            no = "the good images do not have every direction: the training rotates no view"
            reporter.info(yes if network.rotates else no)
        settings = {"backbone": backbone, **asdict(config), "image_size": list(config.image_size)}
        options = asdict(method_config)
        # What a person has set comes first: another seed is another split of the data, another backbone another teacher.
        about = {
            "method": method,
            **settings,
            **{f"{method}.{key}": value for key, value in options.items()},
            "teacher": teacher_facts["sha256"],
            "data": good.fingerprint,
            "textures": textures_fingerprint,
        }

        def write(trained: Method, record: Record, place: Path) -> None:
            """Learn what comes after the training, place the threshold, and save."""
            with exact_inference():
                trained.fit_statistics(good.pixels, np.random.default_rng([config.seed, 2]))
                trained.fit_scale(calibration_set.pixels)
            inspector = Inspector(trained)
            files = {REFERENCE: reference.to_bytes()}
            calibrations = {CALIBRATION: calibrate(inspector, calibration_set.pixels, false_alarm_rate)}
            about_conditional = None
            if families:
                conditional_calibration = ConditionalCalibration.measure(
                    calibration_set.paths,
                    config.image_size,
                    partial(_scores, inspector),
                    calibrations[CALIBRATION],
                    reference.trained,
                    families=families,
                    seed=config.seed,
                    on_progress=reporter.counter("conditional thresholds"),
                )
                files[CONDITIONAL_FILE] = conditional_calibration.to_bytes()
                about_conditional = conditional_calibration.describe(conditional)
            if trained.correction_enabled:
                trained.use_correction(False)
                calibrations[CALIBRATION_WITHOUT_CORRECTION] = calibrate(
                    inspector, calibration_set.pixels, false_alarm_rate
                )
            manifest = {
                "method": method,
                "config": {**settings, "method": options},
                "teacher": teacher_facts,
                "preprocessing": {
                    "input": "uint8 RGB",
                    "resize": "bilinear, antialiased",
                    "normalization": "in the graph",
                },
                **{key: calibration.to_json() for key, calibration in calibrations.items()},
                DRIFT: about_drift,
                **({CONDITIONAL: about_conditional} if about_conditional else {}),
                "data": {
                    "name": Path(data).resolve().name,
                    "train_images": len(good.pixels),
                    "calibration_images": len(calibration_set.pixels),
                    "calibration_from": calibration_from,
                    "fingerprint": good.fingerprint,
                    "calibration_fingerprint": calibration_set.fingerprint,
                    "textures_fingerprint": textures_fingerprint,  # None: they were made, or there were none
                    "unreadable": [str(path) for path, _ in (*good.failures, *calibration_set.failures)],
                },
                "training": {**asdict(record), "random_rotation": network.rotates},
                "environment": environment(),
                "seed": config.seed,
            }
            tensors = {k: v.cpu().numpy() for k, v in trained.state_dict().items()}
            save_model(place, manifest, tensors, files=files, overwrite=True)

        # The networks do not enter into it, so images that they are trained on serve as well as those held out.
        reference, about_drift = make_reference(
            good.pixels, calibration_set.pixels, np.random.default_rng([config.seed, 3])
        )
        started = time.monotonic()

        def write_snapshot(step: int, losses: Mapping[str, float], place: Path) -> None:
            trained = copy.deepcopy(network, {id(network.teacher): network.teacher})  # the teacher never changes
            device, seconds = trained.teacher.device.type, time.monotonic() - started
            write(trained, Record(step, seconds, config.precision, device, config.devices, dict(losses)), place)

        count = len(good.pixels)
        last_part = max(1, round(network.phases()[-1].share * config.steps_for(count)))
        epoch = steps_per_epoch(count, config.batch_for(count))

        def on_step(done: int, total: int, losses: Mapping[str, float]) -> None:
            on_snapshot(Snapshot(done, total, total - last_part, epoch, partial(write_snapshot, done, dict(losses))))

        record = fit(network, good.pixels, config, folder=checkpoints, about=about, reporter=reporter, on_step=on_step)
        write(network, record, folder)
    return load(folder)


def _scores(inspector: Inspector, pixels: np.ndarray) -> np.ndarray:
    """Image scores, float64 [N], of uint8 [N, H, W, 3]."""
    device = next(inspector.parameters()).device
    scores: list[float] = []
    with exact_inference():
        for start in range(0, len(pixels), BATCH):
            scores += inspector(torch.from_numpy(pixels[start : start + BATCH]).to(device))[1].cpu().double().tolist()
    return np.array(scores)


def calibrate(inspector: Inspector, pixels: np.ndarray, false_alarm_rate: float) -> Calibration:
    """Threshold, p-values and color scale from calibration images uint8 [N, H, W, 3]."""
    scores: list[float] = []
    lows: list[float] = []
    device = next(inspector.parameters()).device
    with exact_inference():
        for start in range(0, len(pixels), BATCH):
            maps, maxima = inspector(torch.from_numpy(np.ascontiguousarray(pixels[start : start + BATCH])).to(device))
            scores += maxima.cpu().double().tolist()
            lows += maps.flatten(1).median(dim=1).values.tolist()
    return Calibration.from_scores(scores, target=false_alarm_rate, map_low=float(np.median(lows)))


def build_config(kind: type, options: Mapping[str, Any], what: str) -> Any:
    """A config with some fields set; a name that is not one of its fields is refused with the nearest."""
    names = [field.name for field in fields(kind)]
    for name in options:
        if name not in names:
            raise unknown(what, name, names)
    return kind(**options)


@contextmanager
def _room(checkpoints: Path, *, fresh: bool) -> Iterator[None]:
    """Make the folder for checkpoints, empty if ``fresh``; a failure that leaves none leaves no folder either."""
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        if fresh:
            for old in checkpoints.iterdir():
                old.unlink()
        # The finished model is written beside its place and renamed: find out now that this can be done.
        place = checkpoints.parent.resolve()
        beside = place.with_name(f".{place.name}.probe")
        beside.mkdir(exist_ok=True)
        beside.rmdir()
    except OSError as error:
        raise ModelError(f"{checkpoints.parent} cannot be written ({error.strerror}): choose another place") from error
    if place.is_mount():
        raise ModelError(f"{checkpoints.parent} is a mount point, which cannot be renamed: choose a folder inside it")
    try:
        yield
    except BaseException:
        for folder in (checkpoints, checkpoints.parent):
            with suppress(OSError):  # not empty: there is something to keep
                folder.rmdir()
        raise


def _image_size(schedule: Mapping[str, Any], reporter: Reporter) -> dict[str, tuple[int, int]]:
    """The image size as a pair of multiples of 32; says so where that is not what was asked for."""
    wanted = schedule.get("image_size", TrainConfig.image_size)
    size = parse_size(str(wanted)) if isinstance(wanted, str | int) else (int(wanted[0]), int(wanted[1]))
    fitted = fit_size(size)
    if fitted != size:
        reporter.info(
            f"image size {format_size(size)} is not made of multiples of 32, which the networks halve: "
            f"images are resized to {format_size(fitted)}"
        )
    return {"image_size": fitted}


def _choose_images(
    data: Path, layout: str, calibration: str | Path | None, seed: int
) -> tuple[list[Path], list[Path], str]:
    """The images to train on, those to place the threshold with, and where the latter are from."""
    paths = good_images(data, layout)
    if calibration is not None:
        calibration_set = good_images(calibration)
        shared = {path.resolve() for path in paths} & {path.resolve() for path in calibration_set}
        if shared:
            raise UsageError(
                f"{len(shared)} calibration images are training images as well, e.g. {min(shared)}: "
                "a threshold needs good images that the model has not seen"
            )
        return paths, calibration_set, str(calibration)
    if own := calibration_images(data, layout):
        return paths, own, "the data set's own validation images"
    if len(paths) < 3:
        raise DataError(
            f"{data} holds {len(paths)} good image{'s'[: len(paths) != 1]}: expected 3 at least, "
            "two to train on and one to place the threshold; add images"
        )
    trained, calibration_indices = split_calibration(len(paths), seed)
    return [paths[i] for i in trained], [paths[i] for i in calibration_indices], "a random part of the good images"


def _warn_of_copies(good: DecodedImages, calibration_set: DecodedImages, reporter: Reporter) -> None:
    """Say it where calibration images are copies of training images: the threshold would be too low."""
    trained = dict(zip(good.digests, good.paths, strict=True))
    copies = [
        (path, trained[d])
        for d, path in zip(calibration_set.digests, calibration_set.paths, strict=True)
        if d in trained
    ]
    if copies:
        reporter.warning(
            f"{len(copies)} of {len(calibration_set.paths)} calibration images are copies of training images, "
            f"e.g. {copies[0][0]} of {copies[0][1]}: the threshold may be too low; "
            "remove copies, or give other images with --calibration"
        )


def _decode(paths: list[Path], config: TrainConfig, scratch: Path, phase: str, reporter: Reporter) -> DecodedImages:
    images = decode_images(
        paths,
        config.image_size,
        scratch=scratch,
        on_progress=reporter.counter(phase),
    )
    for _, reason in images.failures:
        reporter.warning(f"left out: {reason}")
    return images
