"""Errors that a person can act on: one line that names the value, what was expected, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ShiftproofError(Exception):
    """Base of every error that shiftproof raises on purpose.

    The message is one line. The command line prints it without a traceback (``--debug`` shows one) and exits with
    :attr:`exit_code`.
    """

    exit_code = 2


class UsageError(ShiftproofError):
    """A wrong option, name or value."""


class DataError(ShiftproofError):
    """A data set that cannot be used as it is: nothing to read, a mask that is missing, a layout not recognised."""


class ImageError(DataError):
    """One image that cannot be read. Commands that work through many images record it and go on."""


class ImageFormatError(ImageError):
    """An image in a format, or with a pixel format, that is not read."""


class IncompleteImageError(ImageError):
    """An image file that is not all there: it ends too early, or in zeros, as a copy does that is still under way."""


class ImageSizeError(ImageError):
    """An image larger than was allowed."""


class WeightsError(ShiftproofError):
    """Teacher weights that cannot be found, read or matched to the network."""


class ModelError(ShiftproofError):
    """A model folder that is missing, damaged, newer than this version, or in the way."""


class ExportError(ShiftproofError):
    """A graph that cannot be written, or that does not say what the model says."""


class BackendError(ShiftproofError):
    """An inference backend that is not installed, or not among the exports of a model."""


class TrainingError(ShiftproofError):
    """Training that had to stop; what was learned so far is kept."""


def unknown(kind: str, value: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not in a registry, with the nearest names that are.

    Args:
        kind: what was asked for, as a reader calls it ("method").
        value: the name that was given.
        known: every name that would have been accepted.

    >>> print(unknown("method", "rdp", ["rd", "rdpp"]))
    unknown method 'rdp'; did you mean rdpp, rd?
    >>> print(unknown("method", "xyz", ["rd", "rdpp"]))
    unknown method 'xyz'; expected one of: rd, rdpp
    """
    names = sorted(known)
    near = difflib.get_close_matches(value, names, n=3, cutoff=0.6)
    if near:
        return UsageError(f"unknown {kind} {value!r}; did you mean {', '.join(near)}?")
    return UsageError(f"unknown {kind} {value!r}; expected one of: {', '.join(names)}")
