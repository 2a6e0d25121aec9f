from __future__ import annotations

import os

import pytest

from shiftproof.watch.folder_scanner import FolderScanner, identify

from .conftest import drop, png


@pytest.fixture
def scanner(tmp_path):
    return FolderScanner(tmp_path, 1.0, lambda identity: identity.name == "known.png", excluded=tmp_path / "done")


def names(found):
    return [identity.name for identity in found]


def test_a_file_is_ready_when_it_has_stayed_as_it_is(tmp_path, scanner):
    path = drop(tmp_path / "a.png")
    assert scanner.scan(0.0) == []
    assert scanner.scan(0.9) == []
    path.write_bytes(png(3) + b"more")
    assert scanner.scan(1.5) == []
    assert scanner.waiting == 1
    (ready,) = scanner.scan(2.5)
    assert ready == identify(tmp_path, "a.png")
    scanner.retry_later(ready, 2.5)
    assert scanner.scan(3.0) == []
    (ready,) = scanner.scan(3.5)
    scanner.mark_done(ready)
    assert scanner.scan(9.0) == [] and scanner.waiting == 0


def test_only_visible_images_that_nobody_knows_are_told_of_the_oldest_first(tmp_path, scanner):
    for number, name in enumerate(
        ["b.png", "sub/a.JPG", "known.png", "done/x.png", ".hidden.png", "note.txt", "c.png.tmp"]
    ):
        os.utime(drop(tmp_path / name), (100 - number, 100 - number))
    scanner.scan(0.0)
    assert names(scanner.scan(1.0)) == ["sub/a.JPG", "b.png"]


def test_the_same_name_with_other_content_is_another_image(tmp_path, scanner):
    drop(tmp_path / "a.png", 1)
    scanner.scan(0.0)
    (first,) = scanner.scan(1.0)
    scanner.mark_done(first)
    os.utime(drop(tmp_path / "a.png", 2), (5, 5))
    scanner.scan(2.0)
    (second,) = scanner.scan(3.0)
    assert second.name == first.name and second != first


def test_a_file_that_goes_away_is_forgotten(tmp_path, scanner):
    drop(tmp_path / "a.png").unlink()
    assert scanner.scan(0.0) == [] and identify(tmp_path, "a.png") is None
    drop(tmp_path / "a.png")
    scanner.scan(1.0)
    (tmp_path / "a.png").unlink()
    assert scanner.scan(5.0) == [] and scanner.waiting == 0
