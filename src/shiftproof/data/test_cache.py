from __future__ import annotations

import errno
import gc
import hashlib
import io
import itertools
import shutil
import tempfile
import threading
from collections import Counter, namedtuple
from pathlib import Path

import numpy as np
import pytest

from shiftproof.data import cache
from shiftproof.data.cache import decode_images, iter_images
from shiftproof.data.images import read_image, resize_image, write_image
from shiftproof.errors import DataError, ImageError

SIZE = (16, 24)


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    generator = np.random.default_rng(0)
    found = [tmp_path / "data" / f"{i % 2}" / f"{i}.png" for i in range(12)]
    for path in found:
        write_image(path, generator.integers(0, 256, (20, 30, 3), dtype=np.uint8))
    return found


@pytest.fixture
def opened(monkeypatch) -> Counter:
    counts: Counter = Counter()
    read = Path.read_bytes

    def counting(self):
        counts[self] += 1
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", counting)
    return counts


@pytest.mark.parametrize("limit", [cache.MEMORY_LIMIT_BYTES, 0], ids=["memory", "file"])
@pytest.mark.parametrize("workers", [1, 4, None])
def test_pixels_are_those_of_reading_and_resizing_one_by_one(paths, tmp_path, opened, limit, workers):
    progress = []
    result = decode_images(
        paths,
        SIZE,
        memory_limit_bytes=limit,
        scratch=tmp_path / "scratch",
        workers=workers,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    assert set(opened.values()) == {1} and len(opened) == 12, "each file is opened once"
    assert isinstance(result.pixels, np.memmap) == (limit == 0)
    assert result.pixels.dtype == np.uint8 and result.pixels.flags.writeable
    expected = np.stack([resize_image(read_image(path), SIZE) for path in paths])
    np.testing.assert_array_equal(result.pixels, expected)
    assert result.paths == tuple(paths) and result.failures == ()
    assert progress == [(done, 12) for done in range(1, 13)]


def test_copies_are_told_by_their_digests_whatever_their_names(paths):
    paths[5].write_bytes(paths[1].read_bytes())
    paths[0].write_bytes(b"")
    result = decode_images(paths, SIZE)
    digests = dict(zip(result.paths, result.digests, strict=True))
    assert digests[paths[5]] == digests[paths[1]] == hashlib.sha256(paths[1].read_bytes()).hexdigest()
    assert len(set(digests.values())) == len(paths) - 2


def test_one_image(paths):
    result = decode_images(paths[:1], SIZE)
    assert result.pixels.shape == (1, *SIZE, 3)
    assert len(result.fingerprint) == 64


def test_no_images():
    with pytest.raises(DataError, match=r"^no images to decode; expected one at least$"):
        decode_images([], SIZE)
    assert list(iter_images([])) == []


@pytest.mark.parametrize("limit", [cache.MEMORY_LIMIT_BYTES, 0], ids=["memory", "file"])
def test_unreadable_images_are_left_out_and_named(paths, tmp_path, limit):
    paths[0].write_bytes(b"")
    paths[5].write_bytes(paths[5].read_bytes()[:100])
    paths[11].unlink()
    result = decode_images(paths, SIZE, memory_limit_bytes=limit, scratch=tmp_path)
    assert result.pixels.shape == (9, *SIZE, 3)
    assert result.paths == tuple(path for i, path in enumerate(paths) if i not in (0, 5, 11))
    for image, path in zip(result.pixels, result.paths, strict=True):
        np.testing.assert_array_equal(image, resize_image(read_image(path), SIZE))
    reasons = dict(result.failures)
    assert list(reasons) == [paths[0], paths[5], paths[11]]
    assert reasons[paths[0]] == f"{paths[0]}: is empty (0 bytes); save or copy it again"
    assert reasons[paths[5]].startswith(f"{paths[5]}: is damaged or truncated (")
    assert reasons[paths[11]] == f"{paths[11]}: no such file"


def test_none_readable(paths):
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"^none of 12 images could be read; the first: .*/0\.png: is empty \(0 bytes\)"
    ):
        decode_images(paths, SIZE)


# --- fingerprint -------------------------------------------------------------------------------------------------


def test_fingerprint_knows_names_and_bytes_but_neither_order_nor_place(paths, tmp_path, monkeypatch):
    first = decode_images(paths, SIZE).fingerprint
    assert decode_images(paths[::-1], (8, 8), memory_limit_bytes=0, scratch=tmp_path).fingerprint == first
    moved = shutil.copytree(tmp_path / "data", tmp_path / "elsewhere" / "deep")
    copies = [moved / path.relative_to(tmp_path / "data") for path in paths]
    assert decode_images(copies, SIZE).fingerprint == first
    monkeypatch.chdir(moved)
    assert decode_images([path.relative_to(moved) for path in copies], SIZE).fingerprint == first

    assert decode_images(paths[1:], SIZE).fingerprint != first
    content = copies[0].read_bytes()
    copies[0].write_bytes(content + b"\0")  # the same pixels, other bytes
    assert decode_images(copies, SIZE).fingerprint != first
    copies[0].write_bytes(content)
    copies[0] = copies[0].rename(copies[0].with_name("renamed.png"))
    assert decode_images(copies, SIZE).fingerprint != first


# --- the file above the memory limit -----------------------------------------------------------------------------


def test_the_limit_is_the_size_of_the_pixels(paths, tmp_path):
    needed = 12 * 16 * 24 * 3
    assert not isinstance(decode_images(paths, SIZE, memory_limit_bytes=needed).pixels, np.memmap)
    above = decode_images(paths, SIZE, memory_limit_bytes=needed - 1, scratch=tmp_path)
    assert isinstance(above.pixels, np.memmap)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="counts mappings by /proc")
def test_the_file_disappears_with_its_last_user(paths, tmp_path):
    scratch = tmp_path / "scratch"

    def mappings() -> int:
        return Path("/proc/self/maps").read_text().count(str(scratch))

    result = decode_images(paths, SIZE, memory_limit_bytes=0, scratch=scratch)
    assert mappings() == 1 and not list(scratch.iterdir()), "mapped, but without a name that could stay behind"
    part = result.pixels[3:4]
    del result
    gc.collect()
    assert part.any() and mappings() == 1
    del part
    gc.collect()
    assert mappings() == 0


def test_too_little_space_is_seen_before_any_work(paths, tmp_path, monkeypatch, opened):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(2**40, 2**40, 1000))
    with pytest.raises(DataError) as caught:
        decode_images(paths, SIZE, memory_limit_bytes=0, scratch=tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: cannot hold 0.0 GiB of decoded images: only 0.0 GiB are free; "
        "free some space, choose another scratch folder or a smaller image size"
    )
    assert not opened


def test_a_disk_that_fills_up_on_the_way(paths, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: Full())
    with pytest.raises(DataError, match=r"decoded images: No space left on device; free some space"):
        decode_images(paths, SIZE, memory_limit_bytes=0, scratch=tmp_path)


def test_scratch_that_cannot_be_made(paths, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"/file/scratch: cannot hold .*: Not a directory; free some space"):
        decode_images(paths, SIZE, memory_limit_bytes=0, scratch=tmp_path / "file" / "scratch")


# --- one after the other -----------------------------------------------------------------------------------------


def test_iter_images_keeps_order_and_size_and_yields_errors(paths, opened):
    paths[3].write_bytes(b"no image")
    results = list(iter_images(paths, workers=3))
    assert [path for path, _ in results] == paths
    assert set(opened.values()) == {1}
    for i, (path, image) in enumerate(results):
        if i == 3:
            assert isinstance(image, ImageError) and "3.png: is not an image" in str(image)
        else:
            np.testing.assert_array_equal(image, read_image(path))


@pytest.mark.parametrize("ahead", [1, 3, 8])
def test_iter_images_reads_only_a_few_ahead_even_of_an_endless_source(paths, opened, ahead):
    images = iter_images(itertools.cycle(paths), workers=4, ahead=ahead)
    for consumed in range(1, 30):
        next(images)
        assert sum(opened.values()) <= consumed + ahead - 1
    images.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("shiftproof")]


def test_decoding_happens_in_several_threads_at_once(paths, monkeypatch):
    together = threading.Barrier(4, timeout=20)  # breaks unless four are under way at the same time
    read = Path.read_bytes

    def meeting(self):
        together.wait()
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", meeting)
    assert decode_images(paths, SIZE, workers=4).pixels.shape[0] == 12
