"""Every damage to a model folder is refused with one line that names the file; a failed write leaves what was there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shiftproof.errors import ModelError, ShiftproofError
from shiftproof.model_io import model_folder
from shiftproof.model_io.model_folder import (
    MANIFEST,
    WEIGHTS,
    load_manifest,
    load_weights,
    save_export,
    save_model,
    sha256_file,
    write_json_atomic,
    write_text_atomic,
)
from shiftproof.model_io.versions import environment

TENSORS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "steps": np.array(7, dtype=np.int64),  # no dimensions
    "empty": np.zeros((0, 4), dtype=np.float16),
}
CONTENT = {
    "method": "rd",
    "size": (256, 320),
    "by_size": {10: 0.1, 2: 1e-05},
    "name": "Schraube ö \udc80",
    "none": None,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "screw", CONTENT, TENSORS)
    return tmp_path / "screw"


def refusal(folder: Path, *, verify: bool = True) -> str:
    """The message with which a folder is refused; it is one line."""
    with pytest.raises(ModelError) as caught:
        load_manifest(folder, verify=verify)
    message = str(caught.value)
    assert "\n" not in message
    return message


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_fsync(monkeypatch: pytest.MonkeyPatch, code: int, *, at_call: int = 1) -> None:
    calls = []

    def fsync(_: int) -> None:
        calls.append(1)
        if len(calls) >= at_call:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(model_folder.os, "fsync", fsync)


def test_what_is_saved_comes_back(folder: Path) -> None:
    manifest = load_manifest(folder)
    assert manifest["method"] == "rd"
    assert manifest["size"] == [256, 320]
    assert manifest["by_size"] == {"10": 0.1, "2": 1e-05}
    assert manifest["name"] == CONTENT["name"]
    assert manifest["format"] == 1
    assert manifest["shiftproof"] == environment()["shiftproof"]
    weights = load_weights(folder)
    assert weights.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert weights[name].dtype == tensor.dtype
        np.testing.assert_array_equal(weights[name], tensor)
    assert manifest["files"][WEIGHTS] == {
        "sha256": sha256_file(folder / WEIGHTS),
        "bytes": (folder / WEIGHTS).stat().st_size,
    }
    assert listing(folder) == [MANIFEST, WEIGHTS]
    assert listing(folder.parent) == ["screw"]


def test_the_same_content_gives_the_same_bytes(folder: Path) -> None:
    save_model(folder.parent / "again", CONTENT, dict(reversed(TENSORS.items())))
    for name in (MANIFEST, WEIGHTS):
        assert sha256_file(folder / name) == sha256_file(folder.parent / "again" / name)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_in_the_weights_is_refused(folder: Path, data: st.DataObject) -> None:
    path = folder / WEIGHTS
    intact = path.read_bytes()
    changed = bytearray(intact)
    changed[data.draw(st.integers(0, len(intact) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        assert str(path) in refusal(folder)
        load_manifest(folder, verify=False)  # sizes agree, so only the hash can tell
    finally:
        path.write_bytes(intact)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_byte_in_the_manifest_is_refused_or_means_nothing(folder: Path, data: st.DataObject) -> None:
    path = folder / MANIFEST
    intact, manifest = path.read_bytes(), load_manifest(folder)
    changed = bytearray(intact)
    changed[data.draw(st.integers(0, len(intact) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        assert load_manifest(folder) == manifest  # white space, e for E
    except ModelError as error:
        assert str(folder) in str(error)
    finally:
        path.write_bytes(intact)


def test_a_changed_value_in_the_manifest_is_refused_without_verify_too(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"method": "rd"', '"method": "rx"'))
    assert str(path) in refusal(folder, verify=False)
    assert "damaged" in refusal(folder)


def test_white_space_in_the_manifest_does_not_count(folder: Path) -> None:
    manifest, path = load_manifest(folder), folder / MANIFEST
    path.write_bytes(json.dumps(json.loads(path.read_text()), indent=7).replace("\n", "\r\n").encode())
    assert load_manifest(folder) == manifest


@pytest.mark.parametrize("verify", [True, False])
def test_missing_weights_are_named(folder: Path, verify: bool) -> None:
    (folder / WEIGHTS).unlink()
    message = refusal(folder, verify=verify)
    assert str(folder / WEIGHTS) in message
    assert "missing" in message
    with pytest.raises(ModelError, match=WEIGHTS):
        load_weights(folder)


@pytest.mark.parametrize("verify", [True, False])
def test_truncated_weights_are_named(folder: Path, verify: bool) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])
    assert "bytes" in refusal(folder, verify=verify)
    with pytest.raises(ModelError, match=WEIGHTS):
        load_weights(folder)


def test_an_unreadable_file_is_named(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).mkdir()
    assert f"cannot read {folder / MANIFEST}" in refusal(folder)


def test_a_newer_format_says_to_upgrade(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    assert refusal(folder).endswith(
        "was written by a newer shiftproof (format 2, this one reads 1): pip install -U shiftproof"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"format": 1, "x": NaN}', "not JSON"),
        (b'{"format": 1, "x": 1e999}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[]", "no shiftproof model"),
        (b"{}", "no shiftproof model"),
        (b'{"format": "one"}', "no shiftproof model"),
        (b'{"format": 1}', "own hash"),
    ],
)
def test_what_is_no_manifest_is_refused(folder: Path, content: bytes, expected: str) -> None:
    (folder / MANIFEST).write_bytes(content)
    assert expected in refusal(folder)
    assert str(folder / MANIFEST) in refusal(folder)


def test_no_model_there(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "nowhere")
    assert f"has no {MANIFEST}" in refusal(tmp_path)
    (tmp_path / "file").write_text("x")
    assert f"has no {MANIFEST}" in refusal(tmp_path / "file")
    (tmp_path / "training").mkdir()
    assert "--resume" in refusal(tmp_path)


def test_an_existing_folder_is_kept_unless_told(folder: Path) -> None:
    before = load_manifest(folder)
    with pytest.raises(ModelError, match=r"exists; --overwrite replaces it, --resume continues it"):
        save_model(folder, {"method": "gnl"}, {})
    assert load_manifest(folder) == before
    (folder / "training").mkdir()
    (folder / "training" / "state").write_text("x")
    save_model(folder, {"method": "gnl"}, {}, overwrite=True)
    assert load_manifest(folder)["method"] == "gnl"
    assert load_weights(folder) == {}
    assert listing(folder) == [MANIFEST, WEIGHTS]
    assert listing(folder.parent) == ["screw"]


def test_overwrite_replaces_an_unfinished_training_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "unfinished" / "training").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("unfinished", "empty"):
        save_model(tmp_path / name, {}, TENSORS, overwrite=True)
        assert listing(tmp_path / name) == [MANIFEST, WEIGHTS]


def test_overwrite_never_deletes_what_is_no_model(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "0.png").write_bytes(b"x")
    for path in (images, images / "0.png"):
        with pytest.raises(ModelError, match="choose another name"):
            save_model(path, {}, TENSORS, overwrite=True)
    assert listing(images) == ["0.png"]
    assert listing(tmp_path) == ["images"]


def test_a_link_keeps_pointing_at_its_model(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder, target_is_directory=True)
    save_model(link, {"method": "gnl"}, TENSORS, overwrite=True)
    assert link.is_symlink()
    assert load_manifest(folder)["method"] == "gnl"


@pytest.mark.parametrize("at_call", [1, 2])  # the weights, then the manifest
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_full_disk_leaves_what_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, at_call: int, overwrite: bool
) -> None:
    before = load_manifest(folder)
    target = folder if overwrite else folder.parent / "new"
    fail_fsync(monkeypatch, errno.ENOSPC, at_call=at_call)
    with pytest.raises(ModelError) as caught:
        save_model(target, {"method": "gnl"}, TENSORS, overwrite=overwrite)
    assert str(caught.value) == f"cannot write {target}: No space left on device; free some space"
    assert load_manifest(folder) == before
    assert listing(folder.parent) == ["screw"]


def test_a_rename_that_fails_puts_the_old_model_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, rename = load_manifest(folder), Path.rename

    def refuse_the_new(self: Path, target: Path) -> Path:
        if ".tmp-" in self.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(ModelError, match="cannot write"):
        save_model(folder, {"method": "gnl"}, TENSORS, overwrite=True)
    assert load_manifest(folder) == before
    assert listing(folder.parent) == ["screw"]


def test_a_read_only_place_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(ModelError) as caught:
        save_model(tmp_path / "new", {}, TENSORS)
    assert (
        str(caught.value)
        == f"cannot write {tmp_path / 'new'}: Read-only file system; choose a place that can be written"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ModelError, match="Permission denied"):
        save_model(tmp_path / "new", {}, TENSORS)


def test_a_parent_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="cannot write"):
        save_model(tmp_path / "file" / "model", {}, TENSORS)
    with pytest.raises(ShiftproofError, match="cannot write"):
        write_text_atomic(tmp_path / "file" / "a.txt", "x")


def test_values_that_json_lacks_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        save_model(tmp_path / "new", {"score": float("nan")}, TENSORS)
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomic(tmp_path / "a.json", {"score": float("inf")})
    assert listing(tmp_path) == []


def test_atomic_text_keeps_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "metrics.json"
    write_json_atomic(path, {"auroc": 1 / 3})
    assert json.loads(path.read_text()) == {"auroc": 1 / 3}
    fail_fsync(monkeypatch, errno.ENOSPC)
    with pytest.raises(ShiftproofError, match="No space left on device; free some space"):
        write_json_atomic(path, {"auroc": 0.5})
    assert json.loads(path.read_text()) == {"auroc": 1 / 3}
    assert listing(path.parent) == ["metrics.json"]


def test_file_names_that_are_no_unicode_survive_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad-\xff.png") + " größer"
    write_json_atomic(tmp_path / "a.json", [name])
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == [name]
    assert "größer" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_a_rename_makes_the_permissions_of_a_plain_folder(folder: Path) -> None:
    plain = folder.parent / "plain"
    plain.mkdir()
    assert folder.stat().st_mode == plain.stat().st_mode


def test_an_export_joins_the_model_and_is_guarded_as_the_weights_are(folder: Path) -> None:
    before = load_manifest(folder)
    save_export(folder, "onnx", {"model.onnx": b"graph"}, {"precision": "float32"})
    save_export(folder, "openvino", {"openvino/model.xml": b"<net/>", "openvino/model.bin": b"\0"}, {})
    manifest = load_manifest(folder)
    assert manifest["exports"] == {
        "onnx": {"precision": "float32", "files": ["model.onnx"]},
        "openvino": {"files": ["openvino/model.bin", "openvino/model.xml"]},
    }
    assert {key: manifest[key] for key in before if key != "files"} == {k: before[k] for k in before if k != "files"}
    assert manifest["files"][WEIGHTS] == before["files"][WEIGHTS]
    save_export(folder, "onnx", {"model.onnx": b"other graph"}, {})
    assert load_manifest(folder)["exports"]["onnx"] == {"files": ["model.onnx"]}
    (folder / "openvino" / "model.bin").write_bytes(b"\1")
    assert "openvino/model.bin is damaged: its bytes" in refusal(folder)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_an_export_that_is_cut_short_leaves_a_whole_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    save_export(folder, "onnx", {"model.onnx": b"graph"}, {})
    done = []

    def fsync(descriptor: int) -> None:
        if len(done) == writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done.append(descriptor)

    monkeypatch.setattr(model_folder.os, "fsync", fsync)
    with pytest.raises(ShiftproofError, match="No space left on device; free some space"):
        save_export(folder, "onnx", {"model.onnx": b"another graph"}, {})
    assert ("onnx" in load_manifest(folder).get("exports", {})) == (writes == 0)
    np.testing.assert_array_equal(load_weights(folder)["steps"], 7)
