from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shiftproof.cli.console import Bar
from shiftproof.model_io import model_folder
from shiftproof.training.checkpoint import FILE

from .parts import QUICK, read_json, save, texture, weights_sha256

FILES = ["drift.safetensors", "model.json", "weights.safetensors"]


@pytest.fixture
def stop_at_step_3(monkeypatch):
    """SIGTERM while the bar shows step 3."""
    shown = Bar.__call__

    def show(self, phase, done, total, note=""):
        shown(self, phase, done, total, note)
        if (phase, done) == ("training", 3):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Bar, "__call__", show)
    yield
    monkeypatch.undo()


def test_the_model_folder_says_how_it_was_made(model):
    assert sorted(path.name for path in model.iterdir()) == FILES
    manifest = read_json(model / "model.json")
    assert manifest["format"] == 1
    assert manifest["method"] == "rd"
    assert manifest["seed"] == 0
    assert manifest["config"]["image_size"] == [64, 64]
    assert (manifest["config"]["steps"], manifest["config"]["batch_size"]) == (6, 4)
    assert manifest["config"]["method"]["correction"] == "image"
    assert manifest["teacher"]["name"] == "tf_efficientnet_lite0.in1k"
    assert len(manifest["teacher"]["sha256"]) == 64
    assert (manifest["data"]["train_images"], manifest["data"]["calibration_images"]) == (7, 3)
    assert manifest["data"]["unreadable"] == []
    assert manifest["training"]["steps"] == 6
    assert len(manifest["calibration"]["scores"]) == 3
    assert manifest["calibration"]["threshold"] == max(manifest["calibration"]["scores"])
    assert manifest["environment"]["torch"]
    assert weights_sha256(model) == model_folder.sha256_file(model / "weights.safetensors")


def test_the_same_again_gives_the_same_weights_and_no_test_image_has_a_part_in_it(
    shiftproof, model, own_product, tmp_path
):
    for path in [path for folder in ("test", "ground_truth") for path in (own_product / folder).rglob("*.png")]:
        path.write_text("whoever reads this has read a test image")
    result = shiftproof("train", own_product, tmp_path / "again", *QUICK)
    assert (result.code, result.warnings) == (0, [])
    assert weights_sha256(tmp_path / "again") == weights_sha256(model)
    again, first = (read_json(folder / "model.json") for folder in (tmp_path / "again", model))
    assert again["calibration"] == first["calibration"]
    assert again["data"]["fingerprint"] == first["data"]["fingerprint"]
    assert "trained rd on 7 good images: 6 steps" in result.out
    assert "3 calibration images: expected at most 25 % false alarms; with 95 % confidence at most 64 %; " in result.out


def test_a_model_that_exists_is_not_touched(shiftproof, product, own_model):
    before = {path.name: path.read_bytes() for path in own_model.iterdir()}
    result = shiftproof("train", product, own_model, *QUICK)
    assert result.code == 2
    assert result.error.endswith("exists; --overwrite replaces it, --resume continues it")
    result = shiftproof("train", product, own_model, "--resume", *QUICK)
    assert result.code == 0
    assert "is finished: there is nothing to resume" in result.out
    assert {path.name: path.read_bytes() for path in own_model.iterdir()} == before


def test_overwrite_replaces_a_model_by_one_of_another_seed(shiftproof, product, own_model, model):
    result = shiftproof("train", product, own_model, "--overwrite", "--seed", 1, "--method", "rd", *QUICK)
    assert result.code == 0
    manifest = read_json(own_model / "model.json")
    assert (manifest["seed"], manifest["method"]) == (1, "rd")
    assert weights_sha256(own_model) != weights_sha256(model)
    assert sorted(path.name for path in own_model.iterdir()) == FILES


def test_overwrite_never_replaces_what_is_no_model(shiftproof, product, tmp_path):
    kept = save(tmp_path / "pictures" / "holiday.png", texture(0))
    result = shiftproof("train", product, tmp_path / "pictures", "--overwrite", *QUICK)
    assert result.code == 2
    assert "holds other things than a model" in result.error
    assert [path.name for path in kept.parent.iterdir()] == ["holiday.png"]


def test_a_training_that_was_stopped_is_resumed_to_the_same_model(
    shiftproof, product, model, tmp_path, request, monkeypatch
):
    folder = tmp_path / "model"
    request.getfixturevalue("stop_at_step_3")
    result = shiftproof("train", product, folder, *QUICK)
    monkeypatch.undo()
    assert result.code == 130
    assert result.error == "shiftproof: stopped at step 3 of 6: go on with --resume"
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*")] == ["training", f"training/{FILE}"]

    assert (
        "exists; --overwrite replaces it, --resume continues it" in shiftproof("train", product, folder, *QUICK).error
    )
    assert "training that has not finished; --resume continues it" in shiftproof("info", folder).error
    for option, value, differs in (
        ("--seed", 1, "seed 0, not 1"),
        ("--learning-rate", 0.01, "learning_rate 0.004, not 0.01"),
        ("--method", "rdpp", "method rd, not rdpp"),
        ("--correction", "none", "rd.correction image, not none"),
    ):
        result = shiftproof("train", product, folder, "--resume", *QUICK, option, value)
        assert result.code == 2
        assert f"was made with {differs}: resume with what it was started with" in result.error

    result = shiftproof("train", product, folder, "--resume", *QUICK)
    assert result.code == 0
    assert weights_sha256(folder) == weights_sha256(model)
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_a_damaged_checkpoint_is_refused(shiftproof, product, tmp_path):
    (tmp_path / "model" / "training").mkdir(parents=True)
    (tmp_path / "model" / "training" / FILE).write_bytes(b"damage")
    result = shiftproof("train", product, tmp_path / "model", "--resume", *QUICK)
    assert result.code == 2
    assert "is damaged" in result.error
    assert "--overwrite" in result.error


def test_there_is_nothing_to_resume_where_nothing_is(shiftproof, product, tmp_path):
    result = shiftproof("train", product, tmp_path / "new", "--resume", *QUICK)
    assert result.code == 2
    assert result.error.endswith("holds no checkpoint to resume from: leave --resume out to start")
    assert not (tmp_path / "new").exists()
    # What a training leaves that was killed before its first checkpoint: the mend that is named must be one.
    (tmp_path / "killed" / "training").mkdir(parents=True)
    result = shiftproof("train", product, tmp_path / "killed", "--resume", *QUICK)
    assert result.error.endswith("start again with --overwrite")


def test_ctrl_c_in_a_terminal_leaves_a_checkpoint(product, tmp_path):
    folder = tmp_path / "model"
    command = [sys.executable, "-m", "shiftproof", "train", str(product), str(folder), *QUICK]
    command[command.index("--steps") + 1] = "300"
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line.strip())
            if line.startswith("training: 30 of 300"):
                process.send_signal(signal.SIGINT)
    assert process.returncode == 130, lines
    assert re.fullmatch(r"shiftproof: stopped at step \d+ of 300: go on with --resume", lines[-1])
    assert "Traceback" not in " ".join(lines)
    assert [path.name for path in (folder / "training").iterdir()] == [FILE]


def test_an_image_that_cannot_be_read_is_left_out_and_reported(shiftproof, own_product, tmp_path):
    damaged = own_product / "train" / "good" / "004.png"
    damaged.write_bytes(damaged.read_bytes()[:400])
    result = shiftproof("train", own_product, tmp_path / "model", *QUICK, "--method", "rd")
    assert result.code == 3
    (warning,) = result.warnings
    assert warning.startswith(f"warning: left out: {damaged}: is damaged or truncated")
    facts = read_json(tmp_path / "model" / "model.json")["data"]
    assert facts["unreadable"] == [str(damaged)]
    assert facts["train_images"] + facts["calibration_images"] == 9


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (0, "no images found; looked for"),
        (1, "holds 1 good image: expected 3 at least"),
        (2, "holds 2 good images: expected 3 at least"),
    ],
)
def test_too_few_images_are_refused(shiftproof, tmp_path, images, message):
    (tmp_path / "data").mkdir()
    for number in range(images):
        save(tmp_path / "data" / f"{number}.png", texture(number))
    result = shiftproof("train", tmp_path / "data", tmp_path / "model", *QUICK)
    assert result.code == 2
    assert message in result.error
    assert not (tmp_path / "model").exists()


def test_too_few_readable_images_are_refused(shiftproof, tmp_path):
    for number in range(4):
        path = save(tmp_path / "data" / f"{number}.png", texture(number))
        if number:
            path.write_bytes(b"")
    result = shiftproof("train", tmp_path / "data", tmp_path / "model", *QUICK)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert result.err.splitlines()[-1].startswith("shiftproof: ")
    assert not (tmp_path / "model").exists()


def test_three_images_are_enough_in_a_flat_folder(shiftproof, tmp_path):
    for number in range(3):
        save(tmp_path / "data" / f"{number}.png", texture(number, side=80))
    result = shiftproof("train", tmp_path / "data", tmp_path / "model", *QUICK)
    assert result.code == 0
    facts = read_json(tmp_path / "model" / "model.json")["data"]
    assert (facts["train_images"], facts["calibration_images"]) == (2, 1)


def test_a_size_that_the_networks_cannot_halve_is_rounded_and_reported(shiftproof, product, tmp_path):
    result = shiftproof("train", product, tmp_path / "model", "--image-size", "70x100", "--steps", 1, "--method", "rd")
    assert result.code == 0
    assert "image size 70x100 is not made of multiples of 32" in result.out
    assert "images are resized to 64x96" in result.out
    assert read_json(tmp_path / "model" / "model.json")["config"]["image_size"] == [64, 96]


def test_parts_of_every_direction_are_rotated_further_and_reported(shiftproof, product, tmp_path):
    y, x = np.mgrid[-32:32, -32:32]
    for number in range(40):
        angle = np.pi * number / 40
        across, along = x * np.sin(angle) - y * np.cos(angle), x * np.cos(angle) + y * np.sin(angle)
        gray = np.where((abs(across) < 6) & (abs(along) < 24), 60, 180) + np.random.default_rng(number).normal(
            0, 3, (64, 64)
        )
        save(tmp_path / "data" / f"{number:02}.png", np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2))
    models = {kind: tmp_path / kind for kind in ("auto", "never")}
    result = {
        kind: shiftproof("train", tmp_path / "data", models[kind], "--random-rotation", kind, *QUICK) for kind in models
    }
    assert [each.code for each in result.values()] == [0, 0]
    assert "the good images have every direction" in result["auto"].out
    assert "every direction" not in result["never"].out
    facts = {kind: read_json(model / "model.json") for kind, model in models.items()}
    assert [facts[kind]["training"]["random_rotation"] for kind in models] == [True, False]
    assert weights_sha256(models["auto"]) != weights_sha256(models["never"])
    assert (
        "unknown random rotation 'alway'"
        in shiftproof("train", tmp_path / "data", tmp_path / "m", "--random-rotation", "alway").error
    )


def test_images_to_calibrate_with_may_lie_elsewhere(shiftproof, product, tmp_path):
    for number in range(5):
        save(tmp_path / "further" / f"{number}.png", texture(300 + number))
    result = shiftproof("train", product, tmp_path / "model", "--calibration", tmp_path / "further", *QUICK)
    assert result.code == 0
    manifest = read_json(tmp_path / "model" / "model.json")
    assert (manifest["data"]["train_images"], manifest["data"]["calibration_images"]) == (10, 5)
    assert len(manifest["calibration"]["scores"]) == 5
    assert manifest["data"]["calibration_from"] == str(tmp_path / "further")


def test_training_images_cannot_place_the_threshold(shiftproof, product, tmp_path):
    linked = tmp_path / "linked"
    save(linked / "new.png", texture(500))
    (linked / "old.png").symlink_to(product / "train" / "good" / "003.png")
    for folder, count in ((product / "train" / "good", 10), (linked, 1)):
        result = shiftproof("train", product, tmp_path / "model", "--calibration", folder, *QUICK)
        assert result.code == 2
        assert f"{count} calibration images are training images as well, e.g. {product}" in result.error
    assert not (tmp_path / "model").exists()


def test_calibration_copies_of_training_images_are_named(shiftproof, tmp_path):
    for number in range(6):
        save(tmp_path / "good" / f"{number}.png", texture(0))
    result = shiftproof("train", tmp_path / "good", tmp_path / "model", *QUICK)
    assert result.code == 0
    assert "2 of 2 calibration images are copies of training images" in result.warnings[0]


def test_epochs_and_steps_together_are_refused(shiftproof, product, tmp_path):
    result = shiftproof("train", product, tmp_path / "model", "--epochs", 2, "--steps", 3)
    assert result.code == 2
    assert "--epochs and --steps" in result.error
    assert not (tmp_path / "model").exists()


def test_the_demo_leaves_a_folder_alone_that_no_demo_made(shiftproof, tmp_path):
    kept = save(tmp_path / "data" / "mine.png", texture(0))
    result = shiftproof("demo", "--out", tmp_path)
    assert result.code == 2
    assert "no demo made it" in result.error
    assert kept.is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "rdp"), "unknown method 'rdp'; did you mean rdpp, rd?"),
        (("--backbone", "resnet18.tv_in1"), "needs a known pretrained tag: "),
        (("--backbone", "tf_eficientnet_lite0.in1k"), "did you mean tf_efficientnet_lite0.in1k"),
        (("--weights", "nowhere.safetensors"), "no weights file at nowhere.safetensors"),
        (("--layout", "visaa"), "unknown layout 'visaa'"),
        (("--image-size", "big"), "image size 'big' is not understood"),
        (("--steps", "0"), "steps 0 is too small"),
        (("--steps", "many"), "many"),
        (("--seed", "-1"), "seed -1 is negative"),
        (("--learning-rate", "-1"), "learning rate -1.0 is out of range"),
        (("--false-alarm-rate", "2"), "false-alarm rate 2.0 is out of range"),
        (("--schedule", "cosine"), "unknown schedule 'cosine'"),
        (("--precision", "8"), "unknown precision '8'"),
        (("--student", "heavy"), "unknown student 'heavy'"),
        (("--calibration", "nowhere"), "nowhere"),
        (("--epoch", "3"), "--epoch"),
    ],
)
def test_wrong_use_is_refused_in_a_line_before_any_work(shiftproof, product, tmp_path, options, message):
    result = shiftproof("train", product, tmp_path / "model", *options)
    assert result.code == 2
    assert result.error == result.err.strip()  # nothing was read, nothing was trained
    assert message in result.error
    assert not (tmp_path / "model").exists()


def test_a_place_that_cannot_be_written_is_refused_before_training(shiftproof, product, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    result = shiftproof("train", product, tmp_path / "file" / "model", *QUICK)
    assert result.code == 2
    assert "cannot be written (Not a directory)" in result.error
    real = Path.mkdir

    def read_only(self, *rest, **options):
        if "sealed" in self.parts:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        real(self, *rest, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    result = shiftproof("train", product, tmp_path / "sealed" / "model", *QUICK)
    assert result.code == 2
    assert "cannot be written (Read-only file system)" in result.error


def test_a_disk_that_is_full_at_the_end_harms_nothing(shiftproof, product, own_model, tmp_path, small_disk):
    before = {path.name: path.read_bytes() for path in own_model.iterdir()}
    small_disk(100_000)  # less than the weights
    for options in ((tmp_path / "new",), (own_model, "--overwrite")):
        result = shiftproof("train", product, *options, *QUICK, "--method", "rd")
        assert result.code == 2
        assert "no checkpoint could be written" in result.warnings[0]
        error = result.err.splitlines()[-1]
        assert error.startswith("shiftproof: cannot write")
        assert "File too large" in error
    assert {path.name: path.read_bytes() for path in own_model.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own-model"]


def test_a_copy_of_a_model_is_a_model(shiftproof, model, tmp_path):
    shutil.copytree(model, tmp_path / "copied")
    result = shiftproof("info", tmp_path / "copied")
    assert result.code == 0
    for fact in ("rd", "tf_efficientnet_lite0.in1k", "7 to train on, 3 for calibration", "64x64", "6 steps", "seed 0"):
        assert fact in result.out


def test_info_counts_what_a_method_builds_on_a_backbone(shiftproof):
    result = shiftproof("info", "tf_efficientnet_lite0.in1k", "--method", "rd")
    assert result.code == 0
    rows = dict(line.split() for line in result.out.splitlines()[1:])
    parts = {name: int(count.replace(",", "")) for name, count in rows.items() if name not in ("rd", "total")}
    assert parts.keys() == {"teacher", "bottleneck", "decoder"}
    assert sum(parts.values()) == int(rows["total"].replace(",", ""))
