from __future__ import annotations

import subprocess
import sys

import pytest

from shiftproof.cli import run
from shiftproof.errors import ModelError


def in_a_process(*arguments):
    command = [sys.executable, "-m", "shiftproof", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_an_error_is_one_line_and_debug_shows_where_it_came_from(tmp_path):
    plain = in_a_process("info", tmp_path / "nowhere")
    assert plain.returncode == 2
    assert plain.stdout == ""
    (line,) = plain.stderr.splitlines()
    assert line.startswith(f"shiftproof: no model at {tmp_path / 'nowhere'}: it does not exist")
    debugged = in_a_process("--debug", "info", tmp_path / "nowhere")
    assert debugged.returncode != 0
    assert "Traceback (most recent call last)" in debugged.stderr
    assert "ModelError: no model at" in debugged.stderr


def test_debug_is_taken_anywhere(tmp_path):
    for arguments in (["--debug", "info", str(tmp_path / "x")], ["info", str(tmp_path / "x"), "--debug"]):
        with pytest.raises(ModelError):
            run(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "trian"),
        (["train"], "DATA"),
        (["evaluate", "model", "data"], "--out"),
        (["predict", "model", "image", "--out", "out", "--colour"], "--colour"),
        (["info", "resnet18"], "needs a known pretrained tag"),
        (["info", "tf_efficientnet_lite0.in1k", "--method", "rdpq"], "unknown method 'rdpq'; did you mean rdpp"),
    ],
)
def test_wrong_use_is_one_line(shiftproof, arguments, message):
    said = shiftproof(*arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.error


def test_help_and_version_are_no_errors(shiftproof):
    from shiftproof import __version__

    assert shiftproof("--version").out.strip() == __version__
    text = shiftproof("--help").out
    assert all(command in text for command in ("train", "evaluate", "predict", "info", "demo"))
    for command in ("train", "evaluate", "predict"):
        said = shiftproof(command, "--help")
        assert (said.code, said.err) == (0, "")
        assert "--out" in said.out or command == "train"


def test_ctrl_c_is_one_line_too(shiftproof, monkeypatch, tmp_path):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("shiftproof.loading.open_detector", stopped)
    said = shiftproof("predict", "model", "image.png", "--out", tmp_path)
    assert (said.code, said.error) == (130, "shiftproof: stopped")
