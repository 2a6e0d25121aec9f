"""`examples/quickstart.ipynb`: it runs, and what it shows is kept with it, small."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "examples" / "quickstart.ipynb"


def shown(notebook, kind):
    """What its cells show of a kind, in order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    if kind == "text":
        return "".join(output.text for output in outputs if output.output_type == "stream")
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def check(notebook):
    lines = shown(notebook, "text").splitlines()
    verdicts = [
        line.split(":")[1].split(",")[0].strip() for line in lines if line.startswith(("good/", "scratch_head/"))
    ]
    assert verdicts == ["good"] * 3 + ["defective"] * 3 + ["good", "defective", "defective"]
    assert any(line.startswith("step ") for line in lines)
    assert lines[-1].startswith("onnx: ")
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in shown(notebook, "image/jpeg")]
    assert [picture.size for picture in pictures] == [(6 * 128, 2 * 128), (3 * 128, 2 * 128)]
    assert all(np.ptp(np.asarray(picture)[128:], axis=2).max() > 100 for picture in pictures)  # heat has colours


def test_what_is_kept_is_small_and_shows_all():
    assert NOTEBOOK.stat().st_size < 300_000
    check(nbformat.read(NOTEBOOK, 4))


def test_it_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, 4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    check(notebook)
