from __future__ import annotations

import errno
import os

import pytest
import torch
from safetensors import SafetensorError

from shiftproof.errors import ModelError
from shiftproof.training import checkpoint as module
from shiftproof.training.checkpoint import FILE, Checkpoint, load_checkpoint, save_checkpoint

ABOUT = {"seed": 0, "image_size": [64, 64], "epochs": None, "learning_rate": 4e-3}


def example(step: int = 5) -> Checkpoint:
    return Checkpoint(
        step=step,
        about=ABOUT,
        weights={
            "student.a.weight": torch.randn(3, 4, 2, 2).to(memory_format=torch.channels_last),
            "n": torch.tensor(7),
        },
        optimizer={0: {"step": torch.tensor(5.0), "exp_avg": torch.randn(3)}, 11: {"step": torch.tensor(5.0)}},
        seconds=12.5,
    )


def test_what_is_loaded_is_what_was_saved(tmp_path):
    saved = example()
    save_checkpoint(tmp_path / "new" / "folder", saved)
    loaded = load_checkpoint(tmp_path / "new" / "folder")
    assert (loaded.step, loaded.about, loaded.seconds) == (5, ABOUT, 12.5)
    assert loaded.weights.keys() == saved.weights.keys()
    assert all(torch.equal(loaded.weights[key], value) for key, value in saved.weights.items())
    assert loaded.optimizer.keys() == saved.optimizer.keys()
    for number, state in saved.optimizer.items():
        assert loaded.optimizer[number].keys() == state.keys()
        assert all(torch.equal(loaded.optimizer[number][key], value) for key, value in state.items())


def test_there_is_none_in_an_empty_folder_or_in_none(tmp_path):
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "missing") is None


def test_the_last_one_counts_and_nothing_else_stays(tmp_path):
    save_checkpoint(tmp_path, example(5))
    save_checkpoint(tmp_path, example(9))
    assert load_checkpoint(tmp_path).step == 9
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("damage", ["cut", "empty", "header", "text", "foreign"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, damage):
    save_checkpoint(tmp_path, example())
    path = tmp_path / FILE
    content = path.read_bytes()
    if damage == "foreign":  # a safetensors file, but no checkpoint
        from safetensors.torch import save_file

        save_file({"weight": torch.zeros(2)}, path)
    else:
        path.write_bytes(
            {
                "cut": content[:-10],
                "empty": b"",
                "header": content[:20] + b"\0\0\0\0" + content[24:],
                "text": b"this is not a checkpoint, whatever its name says",
            }[damage]
        )
    with pytest.raises(ModelError, match="is damaged") as raised:
        load_checkpoint(tmp_path)
    assert str(path) in str(raised.value)
    assert "--overwrite" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [SafetensorError("I/O error: No space left on device (os error 28)"), OSError(errno.ENOSPC, "No space left")],
)
def test_a_full_disk_is_an_os_error_and_leaves_the_one_before(tmp_path, monkeypatch, error):
    save_checkpoint(tmp_path, example(5))

    def full(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, example(9))
    assert load_checkpoint(tmp_path).step == 5
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_os_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="denied"):
        save_checkpoint(tmp_path, example())
