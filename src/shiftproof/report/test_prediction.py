from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shiftproof.report.page import Picture
from shiftproof.report.prediction import MOST_PICTURES, PredictionSummary, write_prediction_report

SUMMARY = PredictionSummary("line 3", "60 held-out good images: at most 4.9 %", threshold=0.5, low=0.0, high=1.0)


def row(name: str, score: float) -> dict[str, str]:
    verdict = "defective" if score > 0.5 else "good"
    cells = {"path": name, "status": "ok", "score": repr(score), "p_value": "0.25", "verdict": verdict}
    return cells | {"threshold": "0.5", "milliseconds": "21.5", "error": ""}


def failure(name: str, why: str) -> dict[str, str]:
    empty = dict.fromkeys(("score", "p_value", "verdict", "threshold", "milliseconds"), "")
    return {"path": name, "status": "error", "error": why} | empty


def pictures(count: int) -> Iterator[Picture]:
    for index in range(count):
        image = np.full((8, 8, 3), index, np.uint8)
        yield Picture(f"{index:03d}.png", "", index / count, image, image)


def written(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_most_anomalous_come_first_and_the_rest_are_counted(tmp_path: Path) -> None:
    rows = [row(f"{index:03d}.png", index / 100) for index in range(100)]
    write_prediction_report(tmp_path / "report.html", rows, pictures(100), SUMMARY)
    html = written(tmp_path / "report.html")
    named = re.findall(r'<figcaption>\s*<span class="name">(\d+)\.png', html)
    assert [int(name) for name in named] == list(range(99, 99 - MOST_PICTURES, -1))
    assert f"{MOST_PICTURES} of 100 shown; 40 with lower scores" in html
    listed = re.findall(r'<th scope="row" class="name">(\d+)\.png', html)
    assert [int(name) for name in listed] == list(range(99, -1, -1))
    assert "<b>49</b> of 100 images are called <b>defective</b>" in html


def test_what_could_not_be_read_is_listed_with_its_reason_and_escaped(tmp_path: Path) -> None:
    rows = [row("a.png", 0.1), failure("<i>b</i>.png", "b.png is cut short & unreadable")]
    write_prediction_report(tmp_path / "report.html", rows, pictures(1), SUMMARY)
    html = written(tmp_path / "report.html")
    assert "&lt;i&gt;b&lt;/i&gt;.png" in html
    assert "<i>b</i>" not in html
    assert "cut short &amp; unreadable" in html
    assert "1 could not be read" in html
    assert "<b>None</b> of 1 images" in html


def test_nothing_readable_is_a_page_too(tmp_path: Path) -> None:
    write_prediction_report(tmp_path / "report.html", [failure("a.png", "empty file")], [], SUMMARY)
    html = written(tmp_path / "report.html")
    assert "No image could be inspected." in html
    assert "<svg" not in html


def test_numbers_may_be_numbers_and_cells_may_be_none(tmp_path: Path) -> None:
    cells = row("a.png", 0.75) | {"score": 0.75, "p_value": None, "milliseconds": None}
    write_prediction_report(tmp_path / "report.html", [cells], [], SUMMARY)
    assert "<b>1</b> of 1 images is called <b>defective</b>" in written(tmp_path / "report.html")


def test_pages_are_written_without_the_learning_libraries() -> None:
    check = (
        "import sys, shiftproof.report.evaluation, shiftproof.report.prediction;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'sklearn', 'skimage', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
