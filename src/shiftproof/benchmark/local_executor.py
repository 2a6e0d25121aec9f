"""The executor of one process: run after run. Further processes with the same command take what is free."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from shiftproof.benchmark.execution import compute
from shiftproof.benchmark.runs import Run
from shiftproof.errors import ShiftproofError
from shiftproof.reporter import Reporter
from shiftproof.training import Interrupted


@dataclass(frozen=True)
class RunOptions:
    """How runs are worked on, whatever executor does it."""

    reevaluate: bool = False  # evaluate finished runs anew, with the models that they have kept
    drop_models: bool = False  # remove a run's model once it is finished


def run_local(runs: Sequence[Run], run_options: RunOptions, reporter: Reporter) -> Iterator[tuple[Run, str | None]]:
    """Work on runs; one that another process is at is left for the end, and waited for.

    Yields:
        each run when it has ended, with a line where it failed.

    Raises:
        Interrupted: Ctrl-C or SIGTERM.
    """
    left = list(runs)
    for wait in (False, True):
        taken = []
        for run in left:
            with run.lock(wait) as mine:
                if mine:
                    yield run, attempt(run, run_options, reporter)
                else:
                    taken.append(run)
        left = taken


def attempt(run: Run, run_options: RunOptions, reporter: Reporter) -> str | None:
    """Work on one run whose lock is held; None, or a line on why it failed: the other runs go on.

    Raises:
        Interrupted: Ctrl-C or SIGTERM.
    """
    try:
        compute(run, reporter, reevaluate=run_options.reevaluate, drop_model=run_options.drop_models)
    except Interrupted as error:
        raise Interrupted(f"stopped in {run.title}: the same command goes on from there") from error
    except ShiftproofError as error:
        return f"{run.title}: {' '.join(str(error).split())}"
    except (MemoryError, torch.OutOfMemoryError):
        return f"{run.title}: out of memory: lower --image-size or --set batch_size=N"
    except OSError as error:
        if error.errno == errno.ENOMEM:
            return f"{run.title}: out of memory: lower --image-size or --set batch_size=N"
        return f"{run.title}: {error.filename or run.out}: {error.strerror or error}"
    return None
