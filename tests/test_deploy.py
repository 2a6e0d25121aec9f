"""`shiftproof export`, what then runs, and `shiftproof profile`."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

import shiftproof as package
from shiftproof.errors import BackendError

from .parts import read_csv, read_json

ROOT = Path(__file__).parents[1]
OFFLINE = ("No matching distribution", "Could not find a version", "ConnectionError", "Connection to", "timed out")


def scores(out):
    return np.array([float(row["score"]) for row in read_csv(out / "predictions.csv")])


def test_predict_and_evaluate_say_the_same_with_every_backend(shiftproof, exported, product, tmp_path):
    metrics = {}
    for backend in ("torch", "onnx", "openvino", "auto"):
        out = tmp_path / backend
        assert shiftproof("predict", exported, product / "test", "--out", out, "--backend", backend).code == 0
        assert shiftproof("evaluate", exported, product, "--out", out, "--backend", backend).code == 0
        metrics[backend] = read_json(out / "metrics.json")["clean"]
        np.testing.assert_allclose(scores(out), scores(tmp_path / "torch"), rtol=1e-3)
        assert metrics[backend]["image"] == pytest.approx(metrics["torch"]["image"])
    assert package.load(exported).backend.name == "openvino"
    np.testing.assert_array_equal(scores(tmp_path / "auto"), scores(tmp_path / "openvino"))
    with pytest.raises(BackendError, match=r"inside openvino's graph: shiftproof.load\(model, backend='torch'\)"):
        package.load(exported).method  # noqa: B018


def test_info_names_the_graphs(shiftproof, model, exported):
    assert "onnx (score within" in shiftproof("info", exported).out
    assert "none; shiftproof export writes them" in shiftproof("info", model).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export", "MODEL", "--to", "onxn"), "unknown export 'onxn'; did you mean onnx"),
        (("export", "nowhere"), "no model at nowhere"),
        (("predict", "MODEL", "x.png", "--out", "out", "--backend", "onnx"), "holds no graph for onnx (nothing is"),
        (("predict", "MODEL", "x.png", "--out", "out", "--backend", "tensorrt"), "unknown backend 'tensorrt'"),
        (("profile", "MODEL", "--threads", "4096"), "4096 threads: expected 1 to"),
        (("profile", "MODEL", "--threads", "0"), "0 threads: expected 1 to"),
        (("profile", "MODEL", "--seconds", "0"), "0.0 seconds: expected a time above 0"),
        (("profile", "MODEL", "--backends", "openvino"), "holds no graph for openvino (nothing is exported yet)"),
        (("profile", "MODEL", "--data", "nowhere"), "nowhere: no such file"),
    ],
)
def test_wrong_use_is_one_line(shiftproof, model, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = shiftproof(*(model if argument == "MODEL" else argument for argument in arguments))
    assert (said.code, said.out) == (2, "")
    assert message in said.error
    assert not (tmp_path / "out").exists()


def test_a_bench_has_a_row_for_every_backend_and_number_of_threads(shiftproof, exported, product, tmp_path):
    said = shiftproof(
        *("profile", exported, "--backends", "onnx", "torch", "--threads", 1, "--seconds", 0.01),
        *("--data", product / "test", "--json", tmp_path / "profile.json"),
    )
    assert said.code == 0
    found = read_json(tmp_path / "profile.json")
    assert found["images"] == "7 images of test"
    assert [(one["backend"], one["threads"]) for one in found["results"]] == [("onnx", 1), ("torch", 1)]
    light, heavy = found["results"]
    for one in found["results"]:
        assert 0 < one["cold_start"] < 100
        for part in (one["network"], one["end_to_end"]):
            assert 0 < part["p50"] <= part["p90"] <= part["p99"]
            assert part["throughput"] > 0
            assert part["runs"] >= 20
    assert 20e6 < light["peak_memory"] < heavy["peak_memory"]  # torch is not in the light one
    assert "peak memory" in said.out


def test_the_base_install_alone_inspects_an_image(model, exported, product, tmp_path):
    """A clean environment, the base dependencies from the package index, and the command line."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", ROOT / "constraints.txt", ROOT]
    installed = subprocess.run(pip, capture_output=True, text=True, check=False)
    if installed.returncode and any(sign in installed.stderr for sign in OFFLINE):
        pytest.skip(f"no package index within reach: {installed.stderr.strip().splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    missing = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    assert missing.returncode != 0
    images = product / "test" / "scratch"
    command = [python, "-m", "shiftproof", "predict", exported, images, "--out", tmp_path / "light"]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    subprocess.run(
        [sys.executable, *command[1:-1], tmp_path / "torch", "--backend", "torch"], check=True, capture_output=True
    )
    np.testing.assert_allclose(scores(tmp_path / "light"), scores(tmp_path / "torch"), rtol=1e-3)
    for rest in (("drift", exported, images), ("watch", exported, images, "--once", "--out", tmp_path / "watched.csv")):
        subprocess.run([python, "-m", "shiftproof", *rest], check=True, cwd=tmp_path, capture_output=True)
    np.testing.assert_allclose(
        [float(row["score"]) for row in read_csv(tmp_path / "watched.csv")], scores(tmp_path / "light"), rtol=1e-5
    )
    packages = next((tmp_path / "env").rglob("site-packages"))
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    assert size < 250e6
    command[4] = model
    refused = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert refused.returncode == 2
    assert "holds no exported graph, and torch is not installed" in refused.stderr
    assert f"shiftproof export {model} --to onnx" in refused.stderr
