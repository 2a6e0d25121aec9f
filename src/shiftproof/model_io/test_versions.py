"""Versions are found without importing what they are versions of."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import numpy as np

from shiftproof.model_io.versions import environment, package_version


def test_versions_are_those_installed() -> None:
    assert environment()["numpy"] == np.__version__
    assert environment()["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_package_that_is_not_installed_is_left_out(monkeypatch) -> None:
    def version(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", version)
    assert package_version("torch") is None
    assert "torch" not in environment()
    assert environment()["timm"] == "1"


def test_model_io_and_calibration_import_nothing_heavy() -> None:
    script = (
        "import sys, shiftproof.model_io, shiftproof.calibration; shiftproof.model_io.environment();"
        "print(sorted({'torch', 'timm', 'scipy', 'sklearn', 'skimage'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
