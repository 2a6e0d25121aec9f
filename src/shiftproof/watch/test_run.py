from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from shiftproof.drift import Monitor, Reference
from shiftproof.errors import DataError
from shiftproof.watch import Journal, Watch
from shiftproof.watch.folder_scanner import identify
from shiftproof.watch.output import OutputTable
from shiftproof.watch.run import DRIFT_STATE, resume_monitor

from .conftest import drop, png
from .test_delivery import http_server

CHILD = """
import signal, sys, threading, time
from pathlib import Path
from shiftproof.watch import Journal, Watch
from shiftproof.watch.output import OutputTable
from shiftproof.watch.conftest import BrightnessDetector

folder, out, move_to = map(Path, sys.argv[1:])
with Journal(out.with_name("journal")) as journal:
    Watch(BrightnessDetector(), folder, OutputTable(out), journal, settle=0.0, move_to=move_to).run(threading.Event())
"""


def rows(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def watch_once(detector, folder, out, **options):
    with Journal(out.with_name("journal")) as journal:
        options = {"settle": 0.0, **options}
        return Watch(detector, folder, OutputTable(out), journal, **options).run(threading.Event(), once=True)


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_each_image_has_one_line_also_after_a_restart(detector, tmp_path, name):
    folder, out = tmp_path / "in", tmp_path / name
    for number in range(12):
        os.utime(drop(folder / f"{number}.png", 20 * number), (number, number))
    totals = watch_once(detector, folder, out)
    assert (totals.images, totals.defective, totals.failures) == (12, 5, 0)
    assert watch_once(detector, folder, out).images == 0
    os.utime(drop(folder / "3.png", 200), (99, 99))  # the same name, another part
    assert watch_once(detector, folder, out).images == 1
    lines = rows(out)
    assert [str(row["number"]) for row in lines] == [str(number) for number in range(1, 14)]
    assert [row["path"] for row in lines] == [*(f"{number}.png" for number in range(12)), "3.png"]
    assert lines[0]["verdict"] == "good" and lines[12]["verdict"] == "defective"
    assert float(lines[12]["score"]) == 200 and lines[0]["time"].endswith("+00:00")


def test_a_file_is_not_touched_before_it_is_complete(detector, tmp_path):
    """A producer writes in pieces with pauses; there is one line, of the whole image."""
    folder, out, stop = tmp_path / "in", tmp_path / "out.csv", threading.Event()
    folder.mkdir()
    content = png(77)
    with Journal(tmp_path / "journal") as journal:
        watching = Watch(detector, folder, OutputTable(out), journal, settle=0.3)
        thread = threading.Thread(target=watching.run, args=(stop,))
        thread.start()
        with (folder / "slow.png").open("wb", buffering=0) as file:
            for start in range(0, len(content), 40):
                file.write(content[start : start + 40])
                time.sleep(0.05)
        end = time.monotonic() + 30
        while (not out.exists() or len(rows(out)) == 0) and time.monotonic() < end:
            time.sleep(0.02)
        stop.set()
        thread.join()
    (row,) = rows(out)
    assert (row["status"], row["score"]) == ("ok", "77.0")


def test_what_cannot_be_read_is_tried_again_and_then_a_line(detector, tmp_path):
    folder, out, warned = tmp_path / "in", tmp_path / "out.csv", []
    drop(folder / "good.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "half.png").write_bytes(png(9)[:60])
    totals = watch_once(detector, folder, out, warn=warned.append)
    assert (totals.images, totals.failures) == (3, 2)
    lines = {row["path"]: row for row in rows(out)}
    assert lines["empty.png"]["status"] == lines["half.png"]["status"] == "error"
    assert "is empty (0 bytes)" in lines["empty.png"]["message"] and lines["half.png"]["score"] == ""
    assert lines["good.png"]["status"] == "ok" and len(warned) == 2


def test_a_file_that_becomes_readable_in_time_is_no_error(detector, tmp_path):
    folder, out, stop = tmp_path / "in", tmp_path / "out.csv", threading.Event()
    folder.mkdir()
    (folder / "late.png").write_bytes(png(60)[:60])
    with Journal(tmp_path / "journal") as journal:
        watching = Watch(detector, folder, OutputTable(out), journal, settle=0.4)
        thread = threading.Thread(target=watching.run, args=(stop,))
        thread.start()
        time.sleep(0.7)
        (folder / "late.png").write_bytes(png(60))
        end = time.monotonic() + 30
        while (not out.exists() or len(rows(out)) == 0) and time.monotonic() < end:
            time.sleep(0.02)
        stop.set()
        thread.join()
    assert [(row["status"], row["score"]) for row in rows(out)] == [("ok", "60.0")]


def test_files_that_were_dealt_with_are_moved(detector, tmp_path):
    folder, out, move_to = tmp_path / "in", tmp_path / "out.csv", tmp_path / "in" / "done"
    drop(folder / "sub" / "a.png", 1)
    watch_once(detector, folder, out, move_to=move_to)
    os.utime(drop(folder / "sub" / "a.png", 2), (7, 7))
    watch_once(detector, folder, out, move_to=move_to)
    assert len(list((move_to / "sub").iterdir())) == 2 and not list((folder / "sub").iterdir())
    left = drop(folder / "left.png")
    os.utime(left, (8, 8))
    with Journal(tmp_path / "journal") as journal, journal.transaction():  # killed between the line and the move
        journal.mark_inspected(identify(folder, "left.png"), 3)
    assert watch_once(detector, folder, out, move_to=move_to).images == 0
    assert (move_to / "left.png").exists() and not left.exists() and len(rows(out)) == 2


def test_lines_go_to_the_webhook_with_keys_of_their_own(detector, tmp_path):
    from shiftproof.watch import Webhook

    for number in range(3):
        drop(tmp_path / "in" / f"{number}.png")
    out = tmp_path / "out.csv"
    with http_server(answers=[503] * 99) as (port, refused):
        hook = Webhook(f"http://127.0.0.1:{port}/")
        assert watch_once(detector, tmp_path / "in", out, receivers=[hook], model="screw").undelivered == 3
    with http_server(port) as (_, got):
        hook = Webhook(f"http://127.0.0.1:{port}/")
        assert watch_once(detector, tmp_path / "in", out, receivers=[hook]).undelivered == 0
    assert {key for key, _, _ in refused} == {got[0][0]}
    bodies = [body for _, _, body in got]
    assert [body["number"] for body in bodies] == [1, 2, 3]
    assert [key for key, _, _ in got] == [body["key"] for body in bodies]
    assert bodies[0]["model"] == "screw" and bodies[0]["status"] == "ok" and bodies[0]["score"] == 50.0


def test_a_drift_is_a_line_and_its_monitor_outlives_a_restart(detector, tmp_path):
    folder, out, said = tmp_path / "in", tmp_path / "out.jsonl", []
    noise = np.random.default_rng(0)

    def monitor():
        pixels = (np.full((32, 32, 3), 50 + level, np.uint8) for level in np.random.default_rng(1).integers(0, 9, 80))
        few = list(pixels)
        return Monitor(Reference.from_images(few[:60], few[60:]))

    for number in range(24):
        os.utime(drop(folder / f"{number:02}.png", 50 + int(noise.integers(0, 9))), (number, number))
    watch_once(detector, folder, out, monitor=monitor())
    for number in range(24, 40):
        os.utime(drop(folder / f"{number:02}.png", 90), (number, number))
    with Journal(tmp_path / "journal") as journal:
        resumed = resume_monitor(journal, monitor(), pytest.fail)
        assert resumed.images == 24
        watching = Watch(detector, folder, OutputTable(out), journal, settle=0.0, monitor=resumed, say=said.append)
        assert watching.run(threading.Event(), once=True).alerts == 1
        journal.put(DRIFT_STATE, json.dumps({**resumed.to_json(), "reference": "another"}))
        warned = []
        assert resume_monitor(journal, monitor(), warned.append).images == 0 and "begins anew" in warned[0]
    lines = rows(out)
    (drift,) = [row for row in lines if row["status"] == "drift"]
    assert "brighter" in drift["message"] and 24 < drift["number"] < 40 and said == [f"drift: {drift['message']}"]
    assert [row["number"] for row in lines] == list(range(1, 42))
    assert {row["drift"] for row in lines[:20]} <= {"steady", "watch"} and lines[-1]["drift"] == "drift"


def test_a_folder_that_is_not_there_is_refused(detector, tmp_path):
    with pytest.raises(DataError, match="no folder that could be watched"):
        watch_once(detector, tmp_path / "nowhere", tmp_path / "out.csv")


def test_a_full_disk_ends_the_watch_and_the_next_start_goes_on(detector, tmp_path, monkeypatch):
    folder, out, append = tmp_path / "in", tmp_path / "out.csv", OutputTable.append
    for number in range(5):
        os.utime(drop(folder / f"{number}.png", number), (number, number))

    def fail_at_the_third(self, lines):
        if lines[0].startswith("3,"):
            raise DataError("no space left")
        append(self, lines)

    monkeypatch.setattr(OutputTable, "append", fail_at_the_third)
    with pytest.raises(DataError, match="no space left"):
        watch_once(detector, folder, out)
    assert len(rows(out)) == 2
    monkeypatch.undo()
    assert watch_once(detector, folder, out).images == 2, "the third was inspected before"
    assert [row["path"] for row in rows(out)] == [f"{number}.png" for number in range(5)]


def test_killed_again_and_again_each_image_is_in_the_table_once(tmp_path):
    """Kill -9 at random moments while images arrive; then the table holds every image, each once, and whole lines."""
    folder, out, move_to = tmp_path / "in", tmp_path / "out.csv", tmp_path / "done"
    folder.mkdir()
    chance, count = random.Random(0), 0
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", CHILD, folder, out, move_to], stderr=subprocess.PIPE)
        before = len(list(move_to.rglob("*.png"))) if move_to.exists() else 0
        for _ in range(40):
            drop(folder / f"{count:04}.png", count % 200)
            count += 1
        end = time.monotonic() + 60
        while (len(list(move_to.rglob("*.png"))) if move_to.exists() else 0) == before and time.monotonic() < end:
            assert child.poll() is None, child.stderr.read().decode()
            time.sleep(0.005)
        time.sleep(chance.random() * 0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stderr.close()
    killed = len(out.read_bytes().splitlines()) - 1
    assert 0 < killed < count, "killed while there was work left"
    from .conftest import BrightnessDetector

    watch_once(BrightnessDetector(), folder, out, move_to=move_to)
    lines = rows(out)
    assert [int(row["number"]) for row in lines] == list(range(1, count + 1))
    assert sorted(row["path"] for row in lines) == [f"{number:04}.png" for number in range(count)]
    assert all(float(row["score"]) == int(row["path"][:4]) % 200 for row in lines)
    assert len(list(move_to.iterdir())) == count and not list(folder.iterdir())


def test_a_copy_that_stalls_waits_and_has_one_line(tmp_path):
    """The file has its full length at once, as copies over a network have; its second half comes late."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name, format in (("a.png", "PNG"), ("b.jpg", "JPEG"), ("c.bmp", "BMP")):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, format)
        data = buffer.getvalue()
        half = len(data) // 2 + 37
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data[:half] + bytes(len(data) - half))
        (tmp_path / "rest" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "rest" / name).write_bytes(data)
    from .conftest import BrightnessDetector

    journal = Journal(tmp_path / "journal.sqlite")
    output = OutputTable(tmp_path / "out.csv")
    watcher = Watch(BrightnessDetector(), tmp_path / "in", output, journal, settle=0.1)
    stop = threading.Event()
    thread = threading.Thread(target=watcher.run, args=(stop,))
    thread.start()
    time.sleep(1)
    assert len((tmp_path / "out.csv").read_text().splitlines()) <= 1
    for path in (tmp_path / "rest").iterdir():
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    deadline = time.monotonic() + 20
    while len((tmp_path / "out.csv").read_text().splitlines()) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join()
    lines = (tmp_path / "out.csv").read_text().splitlines()[1:]
    assert sorted(line.split(",")[2] for line in lines) == ["a.png", "b.jpg", "c.bmp"]
    assert all(line.split(",")[3] == "ok" for line in lines)
