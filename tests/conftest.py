"""A tiny product, one model of it, and the command line to look at it with."""

from __future__ import annotations

import re
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shiftproof.cli import run

from .parts import QUICK, lay_out


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of one command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that an error is; anything else on standard error fails the test."""
        lines = [line for line in self.err.splitlines() if not re.match(r"[a-z -]+: \d+ of \d+, ", line)]  # no progress
        assert len(lines) == 1, self.err
        assert lines[0].startswith("shiftproof: ")
        assert "Traceback" not in self.err
        return lines[0]

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("warning: ")]


@pytest.fixture
def shiftproof(capsys: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Runs a command in this process."""

    def command(*arguments: object) -> CommandResult:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return CommandResult(code, *capsys.readouterr())

    return command


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The category; not to be changed."""
    return lay_out(tmp_path_factory.mktemp("data") / "part")


@pytest.fixture(scope="session")
def model(product: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of it; not to be changed."""
    folder = tmp_path_factory.mktemp("models") / "part"
    assert run(["train", str(product), str(folder), *QUICK]) == 0
    return folder


@pytest.fixture(scope="session")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model with its graphs; not to be changed."""
    folder = Path(shutil.copytree(model, tmp_path_factory.mktemp("exported") / "part"))
    assert run(["export", str(folder), "--to", "onnx", "openvino"]) == 0
    return folder


@pytest.fixture
def own_product(product: Path, tmp_path: Path) -> Path:
    """A copy of the category that a test may damage."""
    return Path(shutil.copytree(product, tmp_path / "own-part"))


@pytest.fixture
def own_model(model: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may damage."""
    return Path(shutil.copytree(model, tmp_path / "own-model"))


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Makes every file end in an error beyond a number of bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
