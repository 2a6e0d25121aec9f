"""The methods, by name. A new one is a folder here and a line in :data:`METHODS`."""

from __future__ import annotations

from collections.abc import Mapping

from shiftproof.config import MethodConfig
from shiftproof.errors import unknown
from shiftproof.methods.base import Inspector, Method, exact_inference, to_images
from shiftproof.methods.fusion import Fusion
from shiftproof.methods.gnl import Gnl
from shiftproof.methods.memory import Memory
from shiftproof.methods.rd import Rd
from shiftproof.methods.rdpp import Rdpp

METHODS: Mapping[str, type[Method]] = {"rd": Rd, "rdpp": Rdpp, "gnl": Gnl, "fusion": Fusion, "memory": Memory}

__all__ = ["METHODS", "Inspector", "Method", "MethodConfig", "exact_inference", "method_class", "to_images"]


def method_class(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        UsageError: unknown, with the nearest known names.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]
