from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from shiftproof.report.page import Picture, thumbnail
from shiftproof.report.prediction import (
    MOST_FAILURES,
    MOST_PICTURES,
    MOST_ROWS,
    PredictionReport,
    write_prediction_report,
)


def row(name: str, score: float) -> dict[str, str]:
    verdict = "defective" if score > 0.5 else "good"
    cells = {"path": name, "status": "ok", "score": repr(score), "p_value": "0.25", "verdict": verdict}
    return cells | {"threshold": "0.5", "latency_ms": "21.5"}


def failure(name: str, why: str) -> dict[str, str]:
    return {"path": name, "status": "error", "error": why}


def report(count: int, failures: list[dict[str, str]], failed: int | None = None) -> PredictionReport:
    """A run over `count` images, the scores of which rise from 0 to 1, and some that could not be read."""
    highest = range(count - 1, -1, -1)
    image = np.zeros((8, 8, 3), np.uint8)
    return PredictionReport(
        title="line 3",
        calibration_sentence="60 calibration images: at most 4.9 %",
        threshold=0.5,
        low=0.0,
        high=1.0,
        scores=np.arange(count) / count if count else np.zeros(0),
        latency_ms=np.full(count, 21.5),
        defective=sum(index / count > 0.5 for index in highest),
        rows=[row(f"{index:03d}.png", index / count) for index in highest][:MOST_ROWS],
        pictures=[
            Picture(f"{i:03d}.png", "", i / count, image, image, verdict="defective" if i / count > 0.5 else "good")
            for i in highest
        ][:MOST_PICTURES],
        failures=failures,
        failed=len(failures) if failed is None else failed,
    )


def written(tmp_path: Path, shown: PredictionReport) -> str:
    write_prediction_report(tmp_path / "report.html", shown)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_most_anomalous_come_first_and_the_rest_are_counted(tmp_path: Path) -> None:
    html = written(tmp_path, report(100, []))
    named = re.findall(r'<figcaption>\s*<span class="name">(\d+)\.png', html)
    assert [int(name) for name in named] == list(range(99, 99 - MOST_PICTURES, -1))
    assert f"{MOST_PICTURES} of 100 shown; 40 with lower scores" in html
    listed = re.findall(r'<th scope="row" class="name">(\d+)\.png', html)
    assert [int(name) for name in listed] == list(range(99, -1, -1))
    assert "<b>49</b> of 100 images are called <b>defective</b>" in html
    assert "100 images, highest first</small>" in html


def test_a_table_that_is_cut_says_where_the_rest_is(tmp_path: Path) -> None:
    failures = [failure(f"bad{index}.png", "empty file") for index in range(MOST_FAILURES)]
    html = written(tmp_path, report(MOST_ROWS + 500, failures, failed=MOST_FAILURES + 7))
    assert f"{MOST_ROWS} of {MOST_ROWS + 500} images, highest first; the rest is in predictions.csv" in html
    assert f"{MOST_FAILURES} of {MOST_FAILURES + 7}; the rest is in predictions.csv" in html
    assert f"{MOST_FAILURES + 7} could not be read" in html
    assert "<b>749</b> of 1500 images" in html  # counted over all, not over what is listed


def test_what_could_not_be_read_is_listed_with_its_reason_and_escaped(tmp_path: Path) -> None:
    html = written(tmp_path, report(1, [failure("<i>b</i>.png", "b.png is cut short & unreadable")]))
    assert "&lt;i&gt;b&lt;/i&gt;.png" in html
    assert "<i>b</i>" not in html
    assert "cut short &amp; unreadable" in html
    assert "1 could not be read" in html
    assert "<b>None</b> of 1 images" in html


def test_nothing_readable_is_a_page_too(tmp_path: Path) -> None:
    html = written(tmp_path, report(0, [failure("a.png", "empty file")]))
    assert "No image could be inspected." in html
    assert "<svg" not in html


def test_a_thumbnail_is_as_large_as_the_page_shows_and_keeps_nothing_of_the_image() -> None:
    image = np.zeros((1000, 2000, 3), np.uint8)
    small = thumbnail(image)
    assert small.shape == (210, 420, 3)
    assert np.array_equal(thumbnail(small), small)  # the page makes it no smaller
    assert not np.shares_memory(thumbnail(image[:20, :20]), image)


def test_pages_are_written_without_the_learning_libraries() -> None:
    check = (
        "import sys, shiftproof.report.evaluation, shiftproof.report.prediction;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'scipy', 'sklearn', 'skimage', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
