"""shiftproof: train on good parts, catch defects, and keep catching them when the light changes.

>>> import shiftproof
>>> [name for name in sorted(shiftproof.__all__) if name.islower()]
['__version__', 'evaluate', 'load', 'train']
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shiftproof.detector import Detector
    from shiftproof.loading import LoadOptions, load
    from shiftproof.pipelines.evaluate import evaluate
    from shiftproof.pipelines.train import train
    from shiftproof.results import Evaluation, FailedInspection, Inspection

__version__ = version("shiftproof")
__all__ = [
    "Detector",
    "Evaluation",
    "FailedInspection",
    "Inspection",
    "LoadOptions",
    "__version__",
    "evaluate",
    "load",
    "train",
]

_MODULES = {
    "Detector": "shiftproof.detector",
    "Evaluation": "shiftproof.results",
    "FailedInspection": "shiftproof.results",
    "Inspection": "shiftproof.results",
    "LoadOptions": "shiftproof.loading",
    "evaluate": "shiftproof.pipelines.evaluate",
    "load": "shiftproof.loading",
    "train": "shiftproof.pipelines.train",
}


def __getattr__(name: str) -> Any:
    """Import torch only when something that needs it is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module 'shiftproof' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
