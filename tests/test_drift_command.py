"""`shiftproof drift` and `shiftproof watch`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import shiftproof as package
from shiftproof.drift import GROUPS
from shiftproof.model_io import MANIFEST, load_manifest, model_folder, write_json_atomic

from .parts import read_csv, read_json, save, texture
from .test_evaluate import assert_self_contained


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """40 good parts, then 20 under a lamp that has aged; and 40 others for a reference."""
    root = tmp_path_factory.mktemp("stream")
    for number in range(60):
        image = texture(300 + number)
        save(root / "in" / f"{number}.png", image if number < 40 else (0.8 * image).astype(np.uint8))
    for number in range(40):
        save(root / "good" / f"{number}.png", texture(400 + number))
    return root


def test_a_drift_is_found_named_and_written_down(shiftproof, model, stream, tmp_path):
    arguments = ("--out", tmp_path, "--reference", stream / "good", "--no-verdicts")
    said = shiftproof("drift", model, stream / "in", *arguments)
    assert said.code == 0 and not said.warnings
    (line,) = [line for line in said.out.splitlines() if line.startswith("drift found at image")]
    assert "darker by" in line and "verdicts not known" in line
    assert "alert at evidence 4, reference: 40 good images" in said.out
    rows = read_csv(tmp_path / "drift.csv")
    assert [os.path.basename(row["path"]) for row in rows] == [f"{number}.png" for number in range(60)]  # noqa: PTH119
    (alert,) = [number for number, row in enumerate(rows, start=1) if row["alert"]]
    assert 41 <= alert <= 50 and f"image {alert}:" in line
    assert {row["drift"] for row in rows[: alert - 1]} <= {"steady", "watch"}
    assert {row["drift"] for row in rows[alert - 1 :]} == {"drift"}
    assert all(0 < float(row["p_value"]) <= 1 and row["status"] == "ok" and not row["score"] for row in rows)
    assert (
        np.median([float(row["light"]) for row in rows[40:]])
        < -3
        < np.median([float(row["light"]) for row in rows[:40]])
    )
    found = read_json(tmp_path / "drift.json")
    (episode,) = found["episodes"]
    assert (episode["alert_index"], episode["end_index"], episode["path"]) == (alert, None, rows[alert - 1]["path"])
    assert abs(episode["start_index"] - 41) <= 3 and episode["findings"][0]["description"] == "darker"
    assert (found["images"], found["unreadable"], found["alpha"], found["reference_images"]) == (60, 0, 1e-4, 40)
    assert found["last"]["status"] == "drift" and set(found["last"]["levels"]) == set(GROUPS)
    text = assert_self_contained(tmp_path / "drift.html")
    assert "darker" in text and "1 in 10,000" in text
    assert shiftproof("drift", model, stream / "in", *arguments).code == 0
    assert read_csv(tmp_path / "drift.csv") == rows, "the same images, the same numbers"


def test_verdicts_say_what_a_drift_does_and_unreadable_images_are_rows(shiftproof, model, product, stream, tmp_path):
    folder = tmp_path / "in"
    for number in range(30):
        save(folder / f"{number}.png", (0.5 * texture(300 + number)).astype(np.uint8))
    (folder / "5.png").write_bytes(b"")
    said = shiftproof("drift", model, folder, "--out", tmp_path / "out", "--reference", stream / "good")
    assert said.code == 3 and "is empty (0 bytes)" in said.warnings[0]
    rows = read_csv(tmp_path / "out" / "drift.csv")
    assert rows[5]["status"] == "error" and rows[5]["error"] and not rows[5]["distance"]
    scores = {row["path"]: float(row["score"]) for row in rows if row["status"] == "ok"}
    seen = package.load(model).inspect(str(folder / "7.png"))
    assert scores[str(folder / "7.png")] == pytest.approx(seen.score, rel=1e-5)
    assert seen.pixels.shape == (64, 64, 3)
    (episode,) = read_json(tmp_path / "out" / "drift.json")["episodes"]
    assert episode["effect"]["inspected"] >= 16 and episode["effect"]["false_alarms"] is not None


def test_a_model_has_a_reference_of_its_own_training(shiftproof, model, product):
    said = shiftproof("drift", model, product / "test" / "good", "--no-verdicts", "--order", "time")
    assert said.code == 0
    assert "the reference holds 10 good images" in said.warnings[0]
    assert "no drift in 4 images: nothing to do" in said.out
    assert load_manifest(model)["drift"]["images"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("MODEL", "nowhere"), "nowhere: no such file or folder"),
        (("MODEL", "DATA", "--order", "size"), "order 'size'; expected one of: name, time"),
        (("MODEL", "DATA", "--alpha", "2"), "false-alert rate 2.0; expected a number between 0 and 1"),
        (("nowhere", "DATA"), "no model at nowhere"),
        (("MODEL", "DATA", "--reference", "DATA/0.png"), "1 good image for a reference"),
    ],
)
def test_wrong_use_of_drift_is_one_line(shiftproof, model, stream, arguments, message):
    places = {"MODEL": str(model), "DATA": str(stream / "in")}
    said = shiftproof(
        "drift",
        *(a.replace("DATA", places["DATA"]) if "DATA" in a else places.get(a, a) for a in arguments),
        "--no-verdicts",
    )
    assert (said.code, said.out) == (2, "")
    assert message in said.error


def test_a_model_from_before_there_was_a_reference_says_what_to_do(shiftproof, own_model, stream, tmp_path):
    manifest = load_manifest(own_model)
    del manifest["drift"]
    write_json_atomic(own_model / MANIFEST, model_folder._signed(manifest))
    said = shiftproof("drift", own_model, stream / "in", "--no-verdicts")
    assert said.code == 2 and "holds no reference for drift" in said.error and "train it again" in said.error
    said = shiftproof("watch", own_model, stream / "good", "--out", tmp_path / "out.csv", "--once", "--settle", 0)
    assert said.code == 0 and "no watch for drift" in said.warnings[0]
    assert len(read_csv(tmp_path / "out.csv")) == 40


def test_watch_says_what_predict_says_once_each(shiftproof, model, product, tmp_path):
    out = tmp_path / "out.csv"
    for _ in range(2):
        said = shiftproof("watch", model, product / "test", "--out", out, "--once", "--settle", 0)
        assert said.code == 0
    assert "0 images: 0 defective" in said.out
    rows = read_csv(out)
    assert sorted(int(row["number"]) for row in rows) == list(range(1, 8))
    assert {row["path"] for row in rows} == {
        p.relative_to(product / "test").as_posix() for p in (product / "test").rglob("*.png")
    }
    assert shiftproof("predict", model, product / "test", "--out", tmp_path / "p").code == 0
    for row in read_csv(tmp_path / "p" / "predictions.csv"):
        (mine,) = [each for each in rows if row["path"].endswith(each["path"])]
        assert (
            float(mine["score"]) == pytest.approx(float(row["score"]), rel=1e-5) and mine["verdict"] == row["verdict"]
        )
        assert mine["drift"] in ("steady", "watch")


def test_ctrl_c_ends_a_watch_with_all_that_is_in_hand_written(shiftproof, model, tmp_path):
    out = tmp_path / "out.jsonl"
    (tmp_path / "in").mkdir()

    def work():
        for number in range(3):
            save(tmp_path / "in" / f"{number}.png", texture(number))
        end = time.monotonic() + 60
        while time.monotonic() < end and (not out.exists() or len(out.read_text().splitlines()) < 3):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.5, work).start()
    former = signal.getsignal(signal.SIGINT)
    said = shiftproof("watch", model, tmp_path / "in", "--out", out, "--settle", 0.1)
    assert said.code == 0 and "3 images: " in said.out
    assert len(out.read_text().splitlines()) == 3
    assert signal.getsignal(signal.SIGINT) is former


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "out.txt"), "expected .csv or .jsonl"),
        (("--out", "out.csv", "--settle", "-1"), "--settle -1.0: expected seconds, 0 or more"),
        (("--out", "out.csv", "--webhook", "host"), "expected an address such as https://host/path"),
        (("--out", "out.csv", "--mqtt", "host"), "expected HOST[:PORT]/TOPIC"),
        (("--out", "out.csv", "--move-to", "DIR"), "is the folder that is watched"),
    ],
)
def test_wrong_use_of_watch_is_one_line(shiftproof, model, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    said = shiftproof("watch", model, tmp_path, *(str(tmp_path) if a == "DIR" else a for a in arguments))
    assert (said.code, said.out) == (2, "")
    assert message in said.error


def test_drift_and_watch_need_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import shiftproof.pipelines.drift, shiftproof.watch, shiftproof.cli"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
