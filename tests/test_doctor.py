"""``shiftproof doctor`` prints what is there and what is not, and ends with what to do."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

doctors = importlib.import_module("shiftproof.cli.doctor")


def test_it_prints_packages_backends_memory_and_what_to_do(shiftproof):
    said = shiftproof("doctor")
    assert said.code == 0
    for name in (
        "numpy",
        "torch",
        "onnxruntime",
        "processor:",
        "backends that run here",
        "free memory:",
        "free disk at",
    ):
        assert name in said.out
    last = said.out.strip().splitlines()[-1]
    assert last.startswith("to do: ") or "nothing to do" in last


def test_what_is_missing_is_told_with_what_for_and_how_to_get_it(shiftproof, monkeypatch):
    known = doctors.package_version
    monkeypatch.setattr(doctors, "package_version", lambda name: None if name == "ray" else known(name))
    said = shiftproof("doctor")
    assert said.code == 0
    assert any(
        line.startswith("to do: ") and "--executor ray" in line and "shiftproof[scale]" in line
        for line in said.out.splitlines()
    )


def test_what_is_broken_is_told_and_fails(shiftproof, monkeypatch):
    known = importlib.import_module

    def broken(name):
        if name == "timm":
            raise ImportError("libcudart.so.12: cannot open\nshared object file")
        return known(name)

    monkeypatch.setattr(doctors.importlib, "import_module", broken)
    said = shiftproof("doctor")
    assert said.code == doctors.FAILED
    assert any("timm" in line and "libcudart" in line for line in said.out.splitlines())


def test_little_room_is_told(shiftproof, monkeypatch):
    monkeypatch.setattr(doctors, "free_memory_gib", lambda: 0.5)
    assert "to do: 0.5 GiB of memory are free" in shiftproof("doctor").out


@pytest.mark.parametrize("extra", [extra for extra in doctors.PURPOSES if extra])
def test_it_knows_the_extras_of_the_project(extra):
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = " ".join(project["optional-dependencies"][extra])
    assert all(name in wanted for name, _ in doctors.PURPOSES[extra])
