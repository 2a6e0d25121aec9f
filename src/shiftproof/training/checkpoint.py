"""Checkpoints of a training: one safetensors file, written in one step, from which training goes on to the same end."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shiftproof.errors import ModelError

FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training between two steps."""

    step: int  # steps done
    about: dict[str, Any]  # what is trained on what: a resumed run must agree with it
    weights: dict[str, Tensor]  # of everything but the teacher
    optimizer: dict[int, dict[str, Tensor]]  # its state for each parameter, by the parameter's number
    seconds: float  # of training so far
    curve: dict[str, Any] = field(default_factory=dict)  # the loss curve so far, as JSON values


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a run that is killed meanwhile leaves the one before.

    Raises:
        OSError: the disk is full, or the place cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"weights.{key}": value.contiguous() for key, value in checkpoint.weights.items()}
    for number, state in checkpoint.optimizer.items():
        tensors |= {f"optimizer.{number}.{key}": value.contiguous() for key, value in state.items()}
    head = {key: getattr(checkpoint, key) for key in ("step", "about", "seconds", "curve")}
    path = folder / FILE
    partial = path.with_suffix(".partial")
    try:
        save_file(tensors, partial, metadata={"training": json.dumps(head)})
        partial.replace(path)
    except (OSError, SafetensorError) as error:  # safetensors reports an operating system's error as its own
        partial.unlink(missing_ok=True)
        raise OSError(str(error)) from error


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint of a folder, or None where there is none.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    weights: dict[str, Tensor] = {}
    optimizer: dict[int, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads(file.metadata()["training"])
            for key in file.keys():  # noqa: SIM118 - a safetensors file is no mapping
                kind, _, rest = key.partition(".")
                if kind == "weights":
                    weights[rest] = file.get_tensor(key)
                else:
                    number, _, name = rest.partition(".")
                    optimizer.setdefault(int(number), {})[name] = file.get_tensor(key)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({type(error).__name__}): train again with --overwrite") from error
    return Checkpoint(head["step"], head["about"], weights, optimizer, head["seconds"], head.get("curve", {}))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """An optimizer's state, by parameter number."""
    return optimizer.state_dict()["state"]
