from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftproof.data import write_image
from shiftproof.errors import DataError
from shiftproof.synthesis.textures import PATTERNS, Textures, load_textures, turned_grid


def parts(height: int = 64, width: int = 96, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).random((count, height, width, 3), dtype=np.float32)


def folder_of(path, levels: dict[str, int]):
    for name, level in levels.items():
        write_image(path / name, np.full((20, 30, 3), level, np.uint8))
    return path


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(17, 80), width=st.integers(17, 80))
def test_made_textures_have_the_parts_size_and_range(seed, height, width):
    texture = Textures().draw(parts(height, width), np.random.default_rng(seed))
    assert texture.shape == (height, width, 3) and texture.dtype == np.float32
    assert texture.min() >= 0 and texture.max() <= 1
    assert texture.std(axis=(0, 1)).max() > 0, "a texture is not one color"


def test_same_state_same_texture_and_another_state_another():
    for textures in (
        Textures(),
        Textures(np.random.default_rng(1).integers(256, size=(9, 64, 96, 3)).astype(np.uint8)),
    ):
        first, again, other = (textures.draw(parts(), np.random.default_rng(seed)) for seed in (5, 5, 6))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__)
def test_each_pattern_spans_most_of_its_range(pattern):
    rng = np.random.default_rng(2)
    drawn = [pattern(*turned_grid((60, 91), (12, 7), rng), rng) for _ in range(10)]
    assert all(values.shape == (60, 91) and values.min() >= 0 and values.max() <= 1 for values in drawn)
    assert all(np.ptp(values) > 0.5 for values in drawn)


def test_a_grid_is_square_to_itself_and_as_long_as_asked():
    u, v = turned_grid((40, 50), (8, 5), np.random.default_rng(0))
    along, across = (np.array([field[0, 1] - field[0, 0], field[1, 0] - field[0, 0]]) for field in (u, v))
    assert np.linalg.norm(along) == pytest.approx(1 / 8) and np.linalg.norm(across) == pytest.approx(1 / 5)
    assert along @ across == pytest.approx(0)


def test_a_third_of_the_made_textures_is_cut_from_the_parts():
    levels = np.zeros((1, 32, 32, 3), np.float32)  # a cut of one level has one level; patterns have more
    textures = [Textures().draw(levels, np.random.default_rng(seed)) for seed in range(300)]
    assert 70 < sum(np.ptp(texture, axis=(0, 1)).max() == 0 for texture in textures) < 130


def test_bank_is_read_from_nested_folders_and_drawn_from(tmp_path):
    folder = folder_of(tmp_path, {"banded/a.png": 10, "dotted/b.png": 20, "dotted/deep/c.png": 30})
    (folder / "readme.txt").write_text("no picture")
    textures = load_textures(folder, (32, 64))
    assert textures.bank.shape == (3, 32, 64, 3) and textures.bank.dtype == np.uint8
    rng = np.random.default_rng(0)
    drawn = [textures.draw(parts(32, 64), rng) for _ in range(60)]
    assert {round(float(texture.mean()) * 255) for texture in drawn} == {10, 20, 30}
    assert all(texture.shape == (32, 64, 3) and texture.dtype == np.float32 for texture in drawn)


def test_a_bank_is_bounded_and_its_choice_seeded(tmp_path):
    folder = folder_of(tmp_path, {f"{k}.png": 5 * k for k in range(40)})
    levels = {seed: load_textures(folder, (32, 32), limit=8, seed=seed).bank[:, 0, 0, 0].tolist() for seed in (0, 1)}
    assert all(len(set(chosen)) == 8 for chosen in levels.values())
    assert levels[0] != levels[1]
    assert levels[0] == load_textures(folder, (32, 32), limit=8, seed=0).bank[:, 0, 0, 0].tolist()


def test_bank_pictures_are_mirrored_too():
    picture = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(1, 32, 32, 3) % 251
    textures = Textures(picture.astype(np.uint8))
    corners = {float(textures.draw(parts(32, 32), np.random.default_rng(seed))[0, 0, 0]) for seed in range(40)}
    assert len(corners) == 4


def test_textures_survive_the_way_to_another_process():
    bank = np.random.default_rng(1).integers(256, size=(3, 64, 96, 3)).astype(np.uint8)
    for textures in (Textures(), Textures(bank)):
        sent = pickle.loads(pickle.dumps(textures))
        first, second = (source.draw(parts(), np.random.default_rng(4)) for source in (textures, sent))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (None, "no such file or folder.*expected textures.*without a folder they are made"),
        ({}, "no images found.*expected textures.*without a folder they are made"),
        ({"notes.txt": b"x"}, "no images found.*expected textures.*without a folder they are made"),
        ({"torn.png": b"\x89PNG\r\n\x1a\n"}, "none of 1 images could be read.*torn.png"),
    ],
)
def test_a_folder_that_will_not_do_is_refused_in_one_line(tmp_path, files, wanted):
    folder = tmp_path / "textures"
    if files is not None:
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=wanted) as refusal:
        load_textures(folder, (32, 32))
    assert "\n" not in str(refusal.value) and str(folder) in str(refusal.value)


def test_one_unreadable_picture_among_good_ones_is_named(tmp_path):
    folder_of(tmp_path, {"a.png": 1})
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"torn\.png.*take it out of the folder"):
        load_textures(tmp_path, (32, 32))
