"""The command line: ``shiftproof COMMAND ...``.

``--debug`` anywhere shows the traceback of an error; ``--help-all`` shows also the options that ``--help`` leaves out.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from shiftproof.cli.benchmark import benchmark
from shiftproof.cli.commands import COMMANDS
from shiftproof.cli.compare import compare
from shiftproof.cli.console import ERR, encode_leniently, printable
from shiftproof.cli.data import data
from shiftproof.cli.doctor import doctor
from shiftproof.cli.drift import drift
from shiftproof.cli.service import serve
from shiftproof.cli.train import train_command
from shiftproof.cli.watch import watch
from shiftproof.errors import ShiftproofError

REFUSED = 2  # exit code: wrong use, or nothing to work on
STOPPED = 130  # exit code: Ctrl-C


def build_app(*, show_all: bool = False) -> App:
    """Return the application with its commands; with ``show_all`` the help has every option."""
    from shiftproof import __version__

    app = App(
        name="shiftproof",
        help="Train on good parts. Catch defects. Keep catching them when the light changes.",
        version=__version__,
        default_parameter=Parameter(negative=""),
        help_format="plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,  # `run` says a line of its own
    )
    for command in (train_command(show_all=show_all), *COMMANDS, benchmark, compare, data, doctor, drift, serve, watch):
        app.command(command)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code: 0 all well, 2 refused, 3 some inputs failed, 130 stopped."""
    encode_leniently()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; an error becomes one line on standard error and an exit code."""
    debug, show_all = "--debug" in arguments, "--help-all" in arguments
    arguments = ["--help" if each == "--help-all" else each for each in arguments if each != "--debug"]
    warnings.filterwarnings("ignore", module="PIL")  # of metadata; an image that cannot be read is an error of its own
    try:
        result = build_app(show_all=show_all)(arguments, exit_on_error=False, print_error=False)
    except (CycloptsError, ShiftproofError) as error:
        if debug:
            raise
        ERR.print(f"shiftproof: {one_line(error)}", markup=False, style="red")
        return error.exit_code if isinstance(error, ShiftproofError) else REFUSED
    except KeyboardInterrupt:
        if debug:
            raise
        ERR.print("shiftproof: stopped", markup=False)
        return STOPPED
    except (ModuleNotFoundError, MemoryError, OSError, RuntimeError) as error:
        line = _mend(error)
        if debug or line is None:
            raise
        ERR.print(f"shiftproof: {line}", markup=False, style="red")
        return REFUSED
    return result if isinstance(result, int) else 0


def _mend(error: Exception) -> str | None:
    """One line for what the system refuses; None for a fault of ours, whose traceback is wanted."""
    if isinstance(error, ModuleNotFoundError):
        ours = (error.name or "").startswith("shiftproof")
        return None if ours else f"this command needs {error.name}: pip install 'shiftproof[train]'"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory: lower --batch-size or --image-size"
    if isinstance(error, OSError) and error.strerror:
        return printable(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return None


def one_line(error: Exception) -> str:
    """An error's message without line breaks."""
    return printable(" ".join(str(error).split()))


__all__ = ["build_app", "main", "run"]
