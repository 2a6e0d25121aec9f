"""From a folder of good images to a model folder: the pipeline of ``shiftproof train``."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch

from shiftproof.config import (
    CONFIGS,
    DEFAULT_BACKBONE,
    DEFAULT_METHOD,
    MethodConfig,
    TrainConfig,
    TrainOptions,
    build_config,
)
from shiftproof.config.settings import Settings
from shiftproof.detector import Detector
from shiftproof.errors import ModelError, UsageError, unknown
from shiftproof.loading import load
from shiftproof.methods import Method, method_class
from shiftproof.model_io import MANIFEST, TRAINING, refuse_occupied
from shiftproof.networks.teacher import load_teacher, teacher_manifest
from shiftproof.pipelines.finalize import Finalizer
from shiftproof.pipelines.image_size import AUTO, resolve_size
from shiftproof.pipelines.training_data import TrainingImages, prepare_data, report_selection, select_images
from shiftproof.reporter import Reporter
from shiftproof.synthesis.textures import load_textures
from shiftproof.training import Record, StepFunction, fit, load_checkpoint


@dataclass(frozen=True)
class Snapshot:
    """A training between two steps."""

    step: int  # finished steps
    steps: int  # all steps
    begin: int  # first step of the last phase; before it, a part that inference needs is untrained
    epoch: int  # steps of one pass over the images
    write: Callable[[Path], None]  # writes the current model to a folder; the training is not affected


def train(
    data: str | Path,
    model: str | Path,
    *,
    method: str = DEFAULT_METHOD,
    backbone: str = DEFAULT_BACKBONE,
    weights: str | Path | None = None,
    image_size: int | str | tuple[int, int] = AUTO,
    steps: int | None = None,
    epochs: int | None = None,
    seed: int = TrainConfig.seed,
    calibration: str | Path | None = None,
    false_alarm_rate: float = TrainOptions.false_alarm_rate,
    rule: str = TrainOptions.rule,
    layout: str = TrainOptions.layout,
    bits: int | None = None,
    conditional: str = TrainOptions.conditional,
    textures: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    on_snapshot: Callable[[Snapshot], None] = lambda snapshot: None,
    **settings: Unpack[Settings],
) -> Detector:
    """Train a detector on images of good parts and write its model folder.

    Args:
        data: a folder of good images, or a category with ``train/good``; nothing below ``test`` is read.
        model: the folder to write.
        method: "rd", "rdpp", "gnl", "fusion" or "memory".
        backbone: timm name of the teacher with its pretrained tag.
        weights: file with the teacher's weights, instead of the installed package or the hub.
        image_size: side, "HxW", or (height, width) in pixels, rounded to multiples of 32; "auto": 256, or for a method
            that needs no training steps, what the images' own size suggests.
        steps: batches in all; None: 1200.
        epochs: passes over the training images, instead of ``steps``.
        seed: of weights, order, augmentation and split.
        calibration: a folder of more good images that set the threshold; None: those that the data set itself provides
            (``validation/good``), or else a part of ``data``, which is then not trained on.
        false_alarm_rate: target at the threshold.
        rule: "expected" (in the mean) or "certified" (with 95 % confidence).
        layout: layout of ``data``, or "auto".
        bits: of the values in 16-bit files whose tags do not say it: 12 for a camera's 12 bits in 16.
        conditional: "blind" or "production": also set thresholds for shifted images (see
            :mod:`shiftproof.calibration.conditional`); "none": do not.
        textures: a folder of pictures for synthetic anomalies; None: textures are generated.
        resume: continue from the checkpoint of an interrupted run.
        overwrite: replace an existing model.
        reporter: receives facts, warnings and progress.
        on_snapshot: called after each step of a training in one process.
        **settings: other fields of :class:`~shiftproof.config.TrainConfig` and of the method's config, such as
            ``batch_size``, ``correction`` or ``augment``.

    Returns:
        the trained detector.

    Raises:
        ShiftproofError: nothing that existed before is changed, and a checkpoint stays for ``resume``.
    """
    reporter = reporter or Reporter()
    schedule = {"seed": seed, **_duration(steps, epochs)}
    options = TrainOptions(
        method=method,
        backbone=backbone,
        weights=_path(weights),
        calibration=_path(calibration),
        false_alarm_rate=false_alarm_rate,
        rule=rule,
        layout=layout,
        bits=bits,
        conditional=conditional,
        textures=_path(textures),
        resume=resume,
        overwrite=overwrite,
    )
    plan = _make_plan(Path(data), Path(model), options, {**schedule, **settings})
    return _train(plan, image_size, reporter, on_snapshot)


@dataclass(frozen=True)
class _Plan:
    """A training as it was asked for, all of it checked."""

    data: Path
    folder: Path
    options: TrainOptions
    config: TrainConfig
    method_config: MethodConfig

    @property
    def checkpoints(self) -> Path:
        """Folder for checkpoints."""
        return self.folder / TRAINING

    @property
    def finished(self) -> bool:
        """Whether there is nothing to resume, because the model is finished.

        Raises:
            ModelError: there is neither a checkpoint nor a model to resume.
        """
        if not self.options.resume or load_checkpoint(self.checkpoints) is not None:
            return False
        if not (self.folder / MANIFEST).is_file():
            start = "start again with --overwrite" if self.folder.exists() else "leave --resume out to start"
            raise ModelError(f"{self.folder} holds no checkpoint to resume from: {start}")
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the schedule, as JSON values."""
        return {
            "backbone": self.options.backbone,
            **asdict(self.config),
            "image_size": list(self.config.image_size),
        }


@dataclass(frozen=True)
class _Built:
    """A method with its teacher's weights, and where they are from."""

    method: Method
    teacher: Mapping[str, Any]  # facts for ``model.json``
    textures_fingerprint: str | None


def _train(
    plan: _Plan,
    image_size: int | str | tuple[int, int],
    reporter: Reporter,
    on_snapshot: Callable[[Snapshot], None],
) -> Detector:
    """Prepare the data, build the method, fit it, and finalize the model."""
    options = plan.options
    if plan.finished:
        reporter.info(f"{plan.folder} is finished: there is nothing to resume")
        return load(plan.folder)
    refuse_occupied(plan.folder, options.overwrite or options.resume)
    kind = method_class(options.method)
    selection = select_images(plan.data, options.layout, options.calibration, plan.config.seed, kind.cross_fits)
    report_selection(selection, options.calibration is None, reporter)
    size = resolve_size(image_size, selection.train, kind.auto_pixels, reporter)
    plan = replace(plan, config=replace(plan.config, image_size=size))
    built = _build(plan)
    with _training_folder(plan.checkpoints, fresh=not options.resume):
        images = prepare_data(selection, plan.config, options.bits, plan.checkpoints, reporter)
        built.method.prepare(images.good.pixels, reporter)
        facts = _facts(plan, built)
        finalizer = Finalizer(images, plan.config, options, facts, built.textures_fingerprint, reporter)
        record = _fit(plan, built, images, finalizer, reporter, on_snapshot)
        finalizer(built.method, record, plan.folder)
    return load(plan.folder)


def _fit(
    plan: _Plan,
    built: _Built,
    images: TrainingImages,
    finalizer: Finalizer,
    reporter: Reporter,
    on_snapshot: Callable[[Snapshot], None],
) -> Record:
    """Train the method's networks, if it has any to train."""
    method, config = built.method, plan.config
    if not method.phases():
        method.to("cuda" if torch.cuda.is_available() else "cpu")
        method.to_channels_last()
        return Record(0, 0.0, "32-true", method.teacher.device.type, 1)
    return fit(
        method,
        images.good.pixels,
        config,
        folder=plan.checkpoints,
        about=_identity(plan, built, images),
        reporter=reporter,
        on_step=_snapshots(method, len(images.good.pixels), config, finalizer, on_snapshot),
    )


def _make_plan(data: Path, folder: Path, options: TrainOptions, settings: Mapping[str, Any]) -> _Plan:
    """Sort the settings into the schedule's and the method's.

    Raises:
        UsageError: a setting that is unknown, that another method has, or a value out of range.
    """
    schedule_names, kind = {item.name for item in fields(TrainConfig)}, CONFIGS[options.method]
    own_names = {item.name for item in fields(kind)}
    known = schedule_names.union(*({item.name for item in fields(config)} for config in CONFIGS.values()))
    for name in settings:
        if name not in known:
            raise unknown("setting", name, schedule_names | own_names)
    schedule = {name: value for name, value in settings.items() if name in schedule_names}
    own = {name: value for name, value in settings.items() if name not in schedule_names}
    method_config = build_config(kind, own, f"option of {options.method}")
    if options.textures is not None and not method_config.synthetic_anomalies:
        raise UsageError(
            f"{options.method} makes no synthetic anomalies here: leave --textures out, or train with --segmentation "
            "(gnl, fusion)"
        )
    return _Plan(data, folder, options, build_config(TrainConfig, schedule, "setting"), method_config)


def _build(plan: _Plan) -> _Built:
    """Build the method on its teacher; the seed decides its first weights."""
    torch.manual_seed(plan.config.seed)
    teacher, source = load_teacher(plan.options.backbone, plan.options.weights)
    method = method_class(plan.options.method)(teacher, plan.method_config)
    if plan.options.textures is not None:
        method.textures = load_textures(plan.options.textures, plan.config.image_size, seed=plan.config.seed)
    return _Built(method, teacher_manifest(teacher, source), method.textures.fingerprint)


def _facts(plan: _Plan, built: _Built) -> dict[str, Any]:
    """Return the facts on method, config and teacher for ``model.json``."""
    config = {**plan.settings, "method": asdict(plan.method_config)}
    return {"method": plan.options.method, "config": config, "teacher": built.teacher}


def _identity(plan: _Plan, built: _Built, images: TrainingImages) -> dict[str, Any]:
    """Return what a resumed run must agree with.

    The settings come first: another seed also means another split of the data, and another backbone another teacher.
    """
    method = plan.options.method
    return {
        "method": method,
        **plan.settings,
        **{f"{method}.{key}": value for key, value in asdict(plan.method_config).items()},
        "teacher": built.teacher["sha256"],
        "data": images.good.fingerprint,
        "textures": built.textures_fingerprint,
        "bits": plan.options.bits,
    }


def _snapshots(
    method: Method, count: int, config: TrainConfig, finalizer: Finalizer, on_snapshot: Callable[[Snapshot], None]
) -> StepFunction:
    """Return a step function that offers a snapshot after each step."""
    started = time.monotonic()
    last_phase = max(1, round(method.phases()[-1].share * config.steps_for(count)))
    epoch = config.steps_of_an_epoch(count)

    def write(step: int, losses: Mapping[str, float], folder: Path) -> None:
        trained = copy.deepcopy(method, {id(method.teacher): method.teacher})  # the teacher never changes
        device, seconds = trained.teacher.device.type, time.monotonic() - started
        finalizer(trained, Record(step, seconds, config.precision, device, config.devices, dict(losses)), folder)

    def on_step(done: int, total: int, losses: Mapping[str, float]) -> None:
        on_snapshot(Snapshot(done, total, total - last_phase, epoch, partial(write, done, dict(losses))))

    return on_step


def _duration(steps: int | None, epochs: int | None) -> dict[str, int]:
    """Return the field of :class:`TrainConfig` that sets the length of the training; empty for the default."""
    if steps is not None and epochs is not None:
        raise UsageError("--epochs and --steps both set the length of the training: give one of them")
    return {name: value for name, value in (("steps", steps), ("epochs", epochs)) if value is not None}


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)


@contextmanager
def _training_folder(checkpoints: Path, *, fresh: bool) -> Iterator[None]:
    """Make the folder for checkpoints, empty if ``fresh``; remove it again after a failure that leaves no checkpoint."""
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        if fresh:
            for old in checkpoints.iterdir():
                old.unlink()
        # The finished model is written beside its place and renamed: find out now that this can be done.
        target = checkpoints.parent.resolve()
        beside = target.with_name(f".{target.name}.probe")
        beside.mkdir(exist_ok=True)
        beside.rmdir()
    except OSError as error:
        raise ModelError(f"{checkpoints.parent} cannot be written ({error.strerror}): choose another place") from error
    if target.is_mount():
        raise ModelError(f"{checkpoints.parent} is a mount point, which cannot be renamed: choose a folder inside it")
    try:
        yield
    except BaseException:
        for folder in (checkpoints, checkpoints.parent):
            with suppress(OSError):  # not empty: there is something to keep
                folder.rmdir()
        raise
