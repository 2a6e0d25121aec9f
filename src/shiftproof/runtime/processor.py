"""What this machine has to run graphs with: packages, and what its processor computes."""

from __future__ import annotations

import importlib
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from shiftproof.errors import BackendError


def installed(package: str) -> bool:
    """Whether a package can be imported; a folder of that name beside the user's images is none."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


def import_package(package: str) -> Any:
    """A package that is there.

    Raises:
        BackendError: it cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise BackendError(f"{package} is installed but cannot be imported ({error}): install it again") from error


@cache
def openvino_core() -> Any:
    """The one ``openvino.Core`` of this process, so that graphs share a plugin.

    It is made in a thread of its own. The CPU plugin gives the thread that loads it another signal stack, and takes the
    stack away when the plugin goes: a main thread would then die of its next signal, such as Ctrl-C.

    Raises:
        BackendError: OpenVINO cannot be imported.
    """

    def make() -> Any:
        core = import_package("openvino").Core()
        core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
        return core

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(make).result()


def has_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this processor (Intel's Xeons from Sapphire Rapids on, among others).

    Raises:
        BackendError: OpenVINO cannot be imported.
    """
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
