"""The backend that computes in torch, and the method of a model folder that it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shiftproof.errors import BackendError, UsageError
from shiftproof.methods import Inspector, Method, exact_inference, method_class
from shiftproof.model_io import load_weights
from shiftproof.networks.teacher import Teacher, TeacherInfo
from shiftproof.runtime import TORCH, check_pixels


class TorchBackend:
    """An inspector on a device; see :class:`~shiftproof.runtime.Backend`.

    Args:
        inspector: maps uint8 [B, H, W, 3] to maps float32 [B, H, W] and scores float32 [B].
        image_size: height and width of its images.
        threads: of the processor, while this backend computes; None leaves torch's choice.
        device: such as "cpu" or "cuda:1"; None for the first GPU, or the processor where there is none.

    Raises:
        UsageError: no device of that name. BackendError: this machine has no such device.
    """

    name = TORCH

    def __init__(
        self, inspector: nn.Module, image_size: tuple[int, int], threads: int | None = None, device: str | None = None
    ):
        self.image_size = image_size
        self.device = _device(device)
        self.inspector = inspector.to(self.device)
        self._threads = threads

    @property
    def method(self) -> Method:
        """Return the networks of the inspector."""
        return cast(Method, self.inspector.method)

    def maps_and_scores(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """See :meth:`Backend.maps_and_scores`."""
        with exact_inference(), _THREADS.limited_to(self._threads):
            maps, scores = self.inspector(torch.from_numpy(check_pixels(pixels, self.image_size)).to(self.device))
        return maps.cpu().numpy(), scores.cpu().numpy().astype(np.float64)


class _ThreadLimit:
    """Limits torch's threads for a while. The setting is of the process, so it is put back when nobody limits it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._default = 0

    @contextmanager
    def limited_to(self, threads: int | None) -> Iterator[None]:
        """Compute with that many threads inside the block; None changes nothing."""
        if threads is None:
            yield
            return
        with self._lock:
            if not self._users:
                self._default = torch.get_num_threads()
            self._users += 1
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                torch.set_num_threads(self._default)


_THREADS = _ThreadLimit()


def build_method(folder: Path, manifest: Mapping[str, Any]) -> Method:
    """Build the method of a model folder, with its weights.

    Raises:
        ModelError: the weights cannot be read. UsageError: an unknown method. KeyError, TypeError, RuntimeError: the
            manifest or the weights are of another version.
    """
    tensors = load_weights(folder)
    method_type = method_class(manifest["method"])
    # The teacher as it was recorded, not as the installed timm would describe it today.
    record = manifest["teacher"]
    channels, mean, std = (tuple(record[key]) for key in ("channels", "mean", "std"))
    info = TeacherInfo(record["name"], channels, mean, std, record["licence"])
    method = method_type(Teacher(info), method_type.Config(**manifest["config"]["method"]))
    method.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()}, strict=True)
    return method


def open_torch(
    folder: Path, manifest: Mapping[str, Any], threads: int | None = None, device: str | None = None
) -> TorchBackend:
    """Open a model folder in torch; errors are those of :func:`build_method` and :class:`TorchBackend`."""
    method = build_method(folder, manifest)
    height, width = manifest["config"]["image_size"]
    backend = TorchBackend(Inspector(method), (height, width), threads, device)
    method.to_channels_last()
    return backend


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; expected cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(f"device {name} is not there: this machine has {torch.cuda.device_count()} GPUs; take cpu")
    return device
