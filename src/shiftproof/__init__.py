"""shiftproof: train on good parts, catch defects, and keep catching them when the light changes.

>>> import shiftproof
>>> sorted(shiftproof.__all__)
['Detector', 'Inspection', '__version__', 'load', 'train']
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shiftproof.detector import Detector, Inspection, load
    from shiftproof.pipelines.train import train

__version__ = version("shiftproof")
__all__ = ["Detector", "Inspection", "__version__", "load", "train"]

_WHERE = {
    "Detector": "shiftproof.detector",
    "Inspection": "shiftproof.detector",
    "load": "shiftproof.detector",
    "train": "shiftproof.pipelines.train",
}


def __getattr__(name: str) -> Any:
    """Import torch only when something that needs it is asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module 'shiftproof' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
