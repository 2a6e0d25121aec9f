"""Image size: as it was asked for, or chosen from the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftproof.errors import UsageError
from shiftproof.pipelines.finalize import describe_outlying
from shiftproof.pipelines.image_size import resolve_size, typical_size
from shiftproof.reporter import Reporter

QUIET = Reporter()


def files(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    paths = []
    for number, (height, width) in enumerate(sizes):
        paths.append(folder / f"{number}.png")
        Image.fromarray(np.zeros((height, width), np.uint8)).save(paths[-1])
    return paths


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 512), (512, 512)), ((384, 512), (448, 576)), ((1260, 500), (800, 320)), ((128, 128), (256, 256))],
)
def test_auto_keeps_the_aspect_ratio_and_enlarges_at_most_twice(tmp_path, size, expected):
    assert resolve_size("auto", files(tmp_path, size), 512 * 512, QUIET) == expected


def test_auto_is_256_for_a_method_with_a_training_and_where_nothing_can_be_read(tmp_path):
    assert resolve_size("auto", files(tmp_path, (900, 300)), None, QUIET) == (256, 256)
    (tmp_path / "text.png").write_text("no image")
    assert resolve_size("auto", [tmp_path / "text.png"], 512 * 512, QUIET) == (256, 256)


def test_the_typical_size_is_the_median_as_the_images_are_shown(tmp_path):
    paths = files(tmp_path, (100, 300), (100, 320), (900, 900))
    assert typical_size(paths) == (100, 320)
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    Image.fromarray(np.zeros((100, 300), np.uint8)).save(tmp_path / "turned.jpg", exif=exif)
    assert typical_size([tmp_path / "turned.jpg"]) == (300, 100)


def test_a_size_that_was_asked_for_is_rounded_and_reported():
    lines: list[str] = []
    reporter = Reporter(info=lines.append)
    assert resolve_size("250x300", [], None, reporter) == (256, 288)
    assert "256x288" in lines[0]
    assert resolve_size((64, 96), [], None, reporter) == (64, 96)
    assert len(lines) == 1
    for wrong in ("large", "12x", "-3"):
        with pytest.raises(UsageError, match=wrong):
            resolve_size(wrong, [], None, reporter)


def test_images_that_score_far_above_the_others_are_named(tmp_path):
    scores = [1.0, 1.1, 0.9, 1.2, 1.05, 0.95, 1.15, 1.0, 30.0]
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    (line,) = describe_outlying(scores, paths)
    assert str(paths[8]) in line
    assert "1 of 9" in line
    assert describe_outlying(scores[:8], paths[:8]) == []
