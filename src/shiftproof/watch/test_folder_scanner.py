from __future__ import annotations

import os

import pytest

from shiftproof.watch.folder_scanner import Arrivals, identify

from .conftest import drop, png


@pytest.fixture
def arrivals(tmp_path):
    return Arrivals(tmp_path, 1.0, lambda identity: identity.name == "known.png", without=tmp_path / "done")


def names(found):
    return [identity.name for identity in found]


def test_a_file_is_ready_when_it_has_stayed_as_it_is(tmp_path, arrivals):
    path = drop(tmp_path / "a.png")
    assert arrivals.look(0.0) == []
    assert arrivals.look(0.9) == []
    path.write_bytes(png(3) + b"more")
    assert arrivals.look(1.5) == []
    assert arrivals.waiting == 1
    (ready,) = arrivals.look(2.5)
    assert ready == identify(tmp_path, "a.png")
    arrivals.again(ready, 2.5)
    assert arrivals.look(3.0) == []
    (ready,) = arrivals.look(3.5)
    arrivals.deal(ready)
    assert arrivals.look(9.0) == [] and arrivals.waiting == 0


def test_only_visible_images_that_nobody_knows_are_told_of_the_oldest_first(tmp_path, arrivals):
    for number, name in enumerate(
        ["b.png", "sub/a.JPG", "known.png", "done/x.png", ".hidden.png", "note.txt", "c.png.tmp"]
    ):
        os.utime(drop(tmp_path / name), (100 - number, 100 - number))
    arrivals.look(0.0)
    assert names(arrivals.look(1.0)) == ["sub/a.JPG", "b.png"]


def test_the_same_name_with_other_content_is_another_image(tmp_path, arrivals):
    drop(tmp_path / "a.png", 1)
    arrivals.look(0.0)
    (first,) = arrivals.look(1.0)
    arrivals.deal(first)
    os.utime(drop(tmp_path / "a.png", 2), (5, 5))
    arrivals.look(2.0)
    (second,) = arrivals.look(3.0)
    assert second.name == first.name and second != first


def test_a_file_that_goes_away_is_forgotten(tmp_path, arrivals):
    drop(tmp_path / "a.png").unlink()
    assert arrivals.look(0.0) == [] and identify(tmp_path, "a.png") is None
    drop(tmp_path / "a.png")
    arrivals.look(1.0)
    (tmp_path / "a.png").unlink()
    assert arrivals.look(5.0) == [] and arrivals.waiting == 0
