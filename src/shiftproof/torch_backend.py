"""The backend that computes in torch, and the method of a model folder that it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shiftproof.methods import Inspector, Method, exact_inference, method_class
from shiftproof.model_io import load_weights
from shiftproof.networks.teacher import Teacher, TeacherInfo
from shiftproof.runtime import TORCH, check_pixels


class TorchBackend:
    """An inspector on the best device there is; see :class:`~shiftproof.runtime.Backend`.

    Args:
        inspector: maps uint8 [B, H, W, 3] to maps float32 [B, H, W] and scores float32 [B].
        image_size: height and width that it takes.
        threads: of the processor, for the whole process; None leaves torch's choice.
    """

    name = TORCH

    def __init__(self, inspector: nn.Module, image_size: tuple[int, int], threads: int | None = None):
        if threads is not None:
            torch.set_num_threads(threads)
        self.image_size = image_size
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.inspector = inspector.to(self.device)

    def maps_and_scores(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """See :meth:`Backend.maps_and_scores`."""
        with exact_inference():
            maps, scores = self.inspector(torch.from_numpy(check_pixels(pixels, self.image_size)).to(self.device))
        return maps.cpu().numpy(), scores.cpu().numpy().astype(np.float64)


def build_method(folder: Path, manifest: Mapping[str, Any]) -> Method:
    """The method of a model folder, with its weights.

    Raises:
        ModelError: the weights cannot be read. UsageError: an unknown method. KeyError, TypeError, RuntimeError: the
            manifest or the weights are of another version.
    """
    tensors = load_weights(folder)
    kind = method_class(manifest["method"])
    # The teacher as it was recorded, not as the installed timm would describe it today.
    told = manifest["teacher"]
    channels, mean, std = (tuple(told[key]) for key in ("channels", "mean", "std"))
    info = TeacherInfo(told["name"], channels, mean, std, told["licence"])
    method = kind(Teacher(info), kind.Config(**manifest["config"]["method"]))
    method.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()}, strict=True)
    return method


def open_torch(folder: Path, manifest: Mapping[str, Any], threads: int | None = None) -> TorchBackend:
    """A backend for a model folder; errors as :func:`build_method`."""
    method = build_method(folder, manifest)
    height, width = manifest["config"]["image_size"]
    backend = TorchBackend(Inspector(method), (height, width), threads)
    method.to_channels_last()
    return backend
