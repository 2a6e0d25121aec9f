"""The training loop: batches in a fixed order, one optimizer per phase, checkpoints, and a stop that loses nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.config import TrainConfig, steps_per_epoch
from shiftproof.errors import ModelError, ShiftproofError, TrainingError, UsageError
from shiftproof.methods.base import MASKS, NORMAL, Method, Phase, to_images
from shiftproof.reporter import Reporter
from shiftproof.signals import stop_requests
from shiftproof.training.batch_norm import share_batch_statistics
from shiftproof.training.checkpoint import FILE, Checkpoint, load_checkpoint, optimizer_tensors, save_checkpoint
from shiftproof.training.curve import LossCurve
from shiftproof.training.features import NormalFeatures

CHECKPOINT_EVERY = 30.0  # seconds
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the record contains the same facts


class Interrupted(TrainingError):  # noqa: N818 - nothing went wrong
    """Training was asked to stop (Ctrl-C, SIGTERM) and left a checkpoint."""

    exit_code = 130


StepFunction = Callable[[int, int, Mapping[str, float]], None]
"""Called after each step with (steps done, steps in all, smoothed loss terms)."""


def _no_step(done: int, total: int, losses: Mapping[str, float]) -> None:
    """Ignore a step."""


@dataclass(frozen=True)
class Record:
    """What a training was."""

    steps: int  # in all
    seconds: float  # in all, over interruptions
    precision: str  # "32-true" or "bf16-mixed"
    device: str  # "cpu", "cuda"
    devices: int  # processes
    losses: dict[str, float] = field(default_factory=dict)  # the terms' means over the last steps
    curve: list[dict[str, float]] = field(default_factory=list)  # their means step by step: see LossCurve


def fit(
    method: Method,
    pixels: NDArray[np.uint8],
    config: TrainConfig,
    *,
    folder: Path | None = None,
    about: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    on_step: StepFunction = _no_step,
) -> Record:
    """Train a method's networks on images of good parts; they are changed in place.

    Every random draw depends on (seed, step) alone: a run that goes on from a checkpoint ends with the weights of one
    that was never interrupted.

    Args:
        method: with its teacher's weights.
        pixels: uint8 [N, H, W, 3], N >= 1; may be memory-mapped.
        config: the schedule.
        folder: where checkpoints go and are looked for; None keeps none.
        about: what a checkpoint must agree with to be gone on from.
        reporter: receives warnings and the progress of preparation and training.
        on_step: called after each step; not with several devices.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is left.
        TrainingError: a loss is no longer finite; the last good weights are left in a checkpoint.
        ModelError: the checkpoint found is damaged or of another run.
        UsageError: more devices than images in a batch.
    """
    batch = config.batch_for(len(pixels))
    if config.devices > batch:
        raise UsageError(
            f"{config.devices} devices for batches of {batch} images: expected one image at least for each"
        )
    if torch.cuda.is_available() and config.devices > torch.cuda.device_count():
        raise UsageError(
            f"{config.devices} devices are more than the {torch.cuda.device_count()} GPUs here: lower --devices"
        )
    fabric = Fabric(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",  # what inference uses as well
        devices=config.devices,
        strategy="ddp_spawn" if config.devices > 1 else "auto",
        precision=_precision(config.precision),
    )
    if config.devices == 1:
        record, _ = _run(fabric, method, pixels, config, folder, dict(about or {}), reporter or Reporter(), on_step)
        return record
    # Functions that draw on the screen stay in this process. Fabric takes apart what goes there and back, which frozen
    # dataclasses do not allow: the config travels inside the function, the record as a dict.
    shared = {key: value.cpu().clone().share_memory_() for key, value in trained_state(method).items()}
    run = partial(_run_in_process, shared=shared, config=config, folder=folder, about=dict(about or {}))
    outcome = fabric.launch(run, method, np.asarray(pixels))
    if isinstance(outcome, ShiftproofError):
        raise outcome
    load_trained(method, shared)
    return Record(**outcome)


def _run_in_process(
    fabric: Fabric, method: Method, pixels: NDArray[np.uint8], *, shared: dict[str, Tensor], **rest: Any
) -> dict[str, Any] | ShiftproofError:
    """:func:`_run` in a process of its own; the first one leaves the weights in shared memory, which outlives it.

    Errors are handed back: raised, they would arrive as a printed traceback.
    """
    try:
        record, weights = _run(fabric, method, pixels, reporter=Reporter(), on_step=_no_step, **rest)
    except ShiftproofError as error:
        return error
    if fabric.is_global_zero:
        for key, value in weights.items():
            shared[key].copy_(value)
    return asdict(record)


def _run(
    fabric: Fabric,
    method: Method,
    pixels: NDArray[np.uint8],
    config: TrainConfig,
    folder: Path | None,
    about: dict[str, Any],
    reporter: Reporter,
    on_step: StepFunction,
) -> tuple[Record, dict[str, Tensor]]:
    """Train in one process; return the record, and the weights on the CPU."""
    torch.manual_seed(config.seed)
    method.to(fabric.device)
    method.to_channels_last()
    checkpoint = load_checkpoint(folder) if folder else None
    if checkpoint is not None:
        _refuse_another(checkpoint, about, folder)
        load_trained(method, checkpoint.weights)
    loop = _Loop(fabric, method, pixels, config, folder, about, checkpoint, reporter, on_step)
    loop.run()
    method.eval()
    precision = str(fabric._precision.precision)
    devices, losses, points = fabric.world_size, loop.final, loop.curve.points
    record = Record(loop.steps, loop.seconds, precision, fabric.device.type, devices, losses, points)
    return record, {key: value.cpu() for key, value in trained_state(method).items()}


class _Loop:
    """The steps of a training in one process, phase by phase, with checkpoints."""

    def __init__(
        self,
        fabric: Fabric,
        method: Method,
        pixels: NDArray[np.uint8],
        config: TrainConfig,
        folder: Path | None,
        about: dict[str, Any],
        checkpoint: Checkpoint | None,
        reporter: Reporter,
        on_step: StepFunction,
    ):
        self.fabric, self.method, self.pixels, self.config = fabric, method, pixels, config
        self.folder, self.about, self.checkpoint = folder, about, checkpoint
        self.reporter, self.on_step = reporter, on_step
        self.count, self.batch = len(pixels), config.batch_for(len(pixels))
        self.phases = method.phases()
        # Each phase has its own schedule, from warm-up to zero.
        self.lengths = [max(1, round(phase.share * config.steps_for(self.count))) for phase in self.phases]
        self.steps = sum(self.lengths)
        self.done = checkpoint.step if checkpoint else 0
        self.curve = LossCurve.over(self.steps, checkpoint.curve if checkpoint else None)
        self.final: dict[str, float] = {}  # each term's smoothed loss at the end of its phase
        progress = reporter.counter("teacher features")
        cache = config.feature_cache // config.devices
        self.normal = NormalFeatures(method.teacher, pixels, cache, self.batch, progress)
        self.seconds_before = checkpoint.seconds if checkpoint else 0.0
        self.started = self.saved = time.monotonic()
        self.kept = self.done  # the last step at which a checkpoint was tried
        self.optimizer: Any = None  # of the current phase

    @property
    def seconds(self) -> float:
        """Training time so far, over interruptions."""
        return self.seconds_before + time.monotonic() - self.started

    def run(self) -> None:
        """Run all phases that a checkpoint has not finished."""
        with stop_requests() as stop:
            end = 0
            for phase, length in zip(self.phases, self.lengths, strict=True):
                begin, end = end, end + length
                if self.done < end:
                    self.final.update(self._run_phase(phase, begin, length, stop))
            if self.kept < self.steps:
                self._keep(self.steps)  # calibration and saving follow

    def _run_phase(self, phase: Phase, begin: int, length: int, stop: threading.Event) -> dict[str, float]:
        """Run the rest of a phase; return its smoothed losses."""
        end = begin + length
        optimizer = _optimizer(phase, self.config)
        peak_rates = [group["lr"] for group in optimizer.param_groups]
        if self.checkpoint is not None and self.done > begin:
            _restore(optimizer, self.checkpoint)
        phase.train()
        if self.fabric.world_size > 1:
            share_batch_statistics(phase, self.fabric.device.type)
        module, self.optimizer = self.fabric.setup(phase, optimizer)
        module.mark_forward_method("losses")
        recent: dict[str, float] = {}
        for step in range(max(begin, self.done), end):
            self._stop_if_asked(step, stop)
            for group, rate in zip(self.optimizer.param_groups, peak_rates, strict=True):
                group["lr"] = rate * self.config.rate_factor(step - begin, length)
            values = self._step(phase, module, step)
            recent = {name: 0.95 * recent.get(name, value) + 0.05 * value for name, value in values.items()}
            self.curve.add(step + 1, values, last=step + 1 == end)
            self.reporter.progress("training", step + 1, self.steps, f"loss {sum(recent.values()):.3f}")
            self.on_step(step + 1, self.steps, recent)
            if time.monotonic() - self.saved > CHECKPOINT_EVERY:
                self._keep(step + 1)
        return recent

    def _step(self, phase: Phase, module: Any, step: int) -> dict[str, float]:
        """Take one step, with the gradients of one batch or of several; return the means of its loss terms.

        Raises:
            TrainingError: a term is not finite.
        """
        batches = self.config.accumulate
        values: dict[str, float] = {}
        for number in range(step * batches, (step + 1) * batches):
            terms = self._losses(phase, module, number)
            # Means over all processes: a term that is lost in one of them stops all of them.
            means: Any = self.fabric.all_reduce(torch.stack(list(terms.values())).detach(), reduce_op="mean")
            for name, value in zip(terms, means.tolist(), strict=True):
                values[name] = values.get(name, 0.0) + value / batches
            self._stop_if_lost(step, values)
            if number == step * batches:
                self.optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(torch.stack(list(terms.values())).sum())
        self.optimizer.step()
        return values

    def _losses(self, phase: Phase, module: Any, number: int) -> dict[str, Tensor]:
        """Return the loss terms of this process's share of a batch."""
        fabric, seed = self.fabric, self.config.seed
        selected = batch_indices(seed, number, self.count, self.batch)[fabric.global_rank :: fabric.world_size]
        rng = np.random.default_rng([seed, 1, number, fabric.global_rank])
        features = _features(fabric, phase, self.normal, self.pixels, selected, rng)
        with fabric.autocast():
            losses: dict[str, Tensor] = module.losses(features, rng)
        return losses

    def _stop_if_asked(self, step: int, stop: threading.Event) -> None:
        if self.fabric.strategy.reduce_boolean_decision(stop.is_set(), all=False):
            self._keep(step)
            onwards = "go on with --resume" if _has_checkpoint(self.folder) else "nothing was kept"
            raise Interrupted(f"stopped at step {step} of {self.steps}: {onwards}")

    def _stop_if_lost(self, step: int, values: Mapping[str, float]) -> None:
        lost = [name for name, value in values.items() if not np.isfinite(value)]
        if lost:
            self._keep(step)
            kept = f"; the last good weights are in {self.folder}" if _has_checkpoint(self.folder) else ""
            raise TrainingError(
                f"training stopped at step {step} of {self.steps}: the loss {lost[0]!r} is {values[lost[0]]}{kept}; "
                "train again with --overwrite and a lower --learning-rate, or with --precision 32"
            )

    def _keep(self, step: int) -> None:
        """Write a checkpoint, unless weights are not finite or the disk is full."""
        if self.folder is None or not self.fabric.is_global_zero:
            return
        self.kept = step
        weights = trained_state(self.method)
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            return
        state = optimizer_tensors(self.optimizer)
        try:
            checkpoint = Checkpoint(step, self.about, weights, state, self.seconds, asdict(self.curve))
            save_checkpoint(self.folder, checkpoint)
        except OSError as error:
            self.reporter.warning(
                f"no checkpoint could be written to {self.folder} ({error}): training goes on without"
            )
        self.saved = time.monotonic()


def batch_indices(seed: int, step: int, count: int, batch: int) -> NDArray[np.int64]:
    """Return the images of a step: each pass is a new permutation, cut into full batches."""
    per_epoch = steps_per_epoch(count, batch)
    order = np.random.default_rng([seed, 0, step // per_epoch]).permutation(count)
    start = step % per_epoch * batch
    return order[start : start + batch]


def trained_state(method: Method) -> dict[str, Tensor]:
    """Weights and buffers of everything but the teacher."""
    return {key: value.detach() for key, value in method.state_dict().items() if not key.startswith("teacher.")}


def load_trained(method: Method, weights: Mapping[str, Tensor]) -> None:
    """Put back what :func:`trained_state` took.

    Raises:
        ModelError: other parts than this method's.
    """
    missing, foreign = method.load_state_dict(dict(weights), strict=False)
    lost = [key for key in missing if not key.startswith("teacher.")]
    if lost or foreign:
        raise ModelError(
            f"the checkpoint's weights are not this method's ({[*lost, *foreign][0]}): start again with --overwrite"
        )


def _has_checkpoint(folder: Path | None) -> bool:
    return folder is not None and (folder / FILE).is_file()


def _features(
    fabric: Fabric,
    phase: Phase,
    normal: NormalFeatures,
    pixels: NDArray[np.uint8],
    selected: NDArray[np.int64],
    rng: np.random.Generator,
) -> dict[str, list[Tensor]]:
    """The teacher's features of each view; the changing views go through it as one batch."""
    images = to_images(torch.from_numpy(np.ascontiguousarray(pixels[selected])).to(fabric.device))
    views = phase.views(images, rng)
    features = {NORMAL: normal(selected)} if phase.reads_normal else {}
    if MASKS in views:
        features[MASKS] = [views.pop(MASKS)]
    if views:
        with torch.no_grad(), fabric.autocast():
            stages = phase.teacher(torch.cat(list(views.values())))
        sizes = [len(view) for view in views.values()]
        for name, *parts in zip(views, *(stage.split(sizes) for stage in stages), strict=True):
            features[name] = parts
    return features


def _optimizer(phase: Phase, config: TrainConfig) -> torch.optim.Optimizer:
    """The phase's optimizer; what it does not change is left without gradients."""
    groups = phase.trained_parameters(config.learning_rate)
    trained = {id(parameter) for group in groups for parameter in group["params"]}
    for parameter in phase.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    if phase.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, betas=(0.5, 0.999), fused=True)
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), weight_decay=1e-4, fused=True)


def _refuse_another(checkpoint: Checkpoint, about: dict[str, Any], folder: Path | None) -> None:
    """Refuse a checkpoint of another run."""
    for key in {**about, **checkpoint.about}:  # in the caller's order
        now, then = about.get(key), checkpoint.about.get(key)
        if now != then:
            raise ModelError(
                f"the checkpoint in {folder} was made with {key} {then}, not {now}: "
                "resume with what it was started with, or start again with --overwrite"
            )


def _restore(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Give an optimizer the state that it had."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        number: {key: _laid_out_like(parameters[number], value) for key, value in entry.items()}
        for number, entry in checkpoint.optimizer.items()
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment in its parameter's memory layout: the fused optimizers walk both side by side, without looking."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value


def _precision(wanted: str) -> Any:
    if wanted == "32":
        return "32-true"
    if wanted == "bf16":
        return "bf16-mixed"
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "32-true"  # older ones emulate it
    # On a CPU bf16 pays only where it has matrix tiles for it.
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return "bf16-mixed" if tiles is not None and tiles() else "32-true"
