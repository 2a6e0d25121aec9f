"""The engine of one process: cell after cell. Further processes with the same command take what is free."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from shiftproof.errors import ShiftproofError
from shiftproof.benchmark.runs import Cell
from shiftproof.benchmark.execution import Telling, compute
from shiftproof.training import Interrupted


@dataclass(frozen=True)
class Work:
    """How cells are worked on, whatever engine does it."""

    again: bool = False  # evaluate finished cells anew, with the models that they have kept
    drop_models: bool = False  # remove a cell's model once it is finished


def run_local(cells: Sequence[Cell], work: Work, telling: Telling) -> Iterator[tuple[Cell, str | None]]:
    """Work on cells; one that another process is at is left for the end, and waited for.

    Yields:
        each cell when it has ended, with a line where it failed.

    Raises:
        Interrupted: Ctrl-C or SIGTERM.
    """
    left = list(cells)
    for wait in (False, True):
        taken = []
        for cell in left:
            with cell.lock(wait) as mine:
                if mine:
                    yield cell, attempt(cell, work, telling)
                else:
                    taken.append(cell)
        left = taken


def attempt(cell: Cell, work: Work, telling: Telling) -> str | None:
    """Work on one cell whose lock is held; None, or a line on why it failed: the other cells go on.

    Raises:
        Interrupted: Ctrl-C or SIGTERM.
    """
    try:
        compute(cell, telling, again=work.again, drop_model=work.drop_models)
    except Interrupted as error:
        raise Interrupted(f"stopped in {cell.title}: the same command goes on from there") from error
    except ShiftproofError as error:
        return f"{cell.title}: {' '.join(str(error).split())}"
    except (MemoryError, torch.OutOfMemoryError):
        return f"{cell.title}: out of memory: lower --image-size or --set batch_size=N"
    except OSError as error:
        if error.errno == errno.ENOMEM:
            return f"{cell.title}: out of memory: lower --image-size or --set batch_size=N"
        return f"{cell.title}: {error.filename or cell.out}: {error.strerror or error}"
    return None
