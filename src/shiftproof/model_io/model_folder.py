"""A model is a folder: ``model.json`` says what it is and hashes the rest, ``weights.safetensors`` holds its tensors.

Nothing in it is a pickle, so opening a model runs no code. It appears in one step and whole, or not at all, and damage
to it is refused before anything is computed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from shiftproof.errors import ModelError, ShiftproofError
from shiftproof.model_io.versions import package_version

FORMAT_VERSION = 1
MANIFEST = "model.json"
WEIGHTS = "weights.safetensors"
TRAINING = "training"  # what an unfinished training keeps inside the folder, for --resume


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. OSError passes through."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text_atomic(path: Path, text: str) -> None:
    """Write a text file (UTF-8) so that a reader sees the old one or the new one, never half of it.

    Parent folders are made. Lone surrogates (bytes of a file name that are no Unicode) are escaped, as JSON reads back.

    Raises:
        ShiftproofError: the disk is full, the folder cannot be written.
    """
    path = Path(path)
    beside = _beside(path, "tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_bytes(beside, text.encode("utf-8", "backslashreplace"))
        beside.replace(path)
    except OSError as error:
        raise ShiftproofError(_cannot_write(path, error)) from error
    finally:
        with contextlib.suppress(OSError):  # gone after the rename, or never made
            beside.unlink()


def write_json_atomic(path: Path, obj: Any) -> None:
    """Write JSON as :func:`write_text_atomic` does: floats in full, ValueError on NaN and infinity."""
    write_text_atomic(path, _json_text(obj))


def save_model(
    folder: Path,
    manifest: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    files: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder beside its place and rename it there in one step.

    Args:
        folder: where the model shall be; parent folders are made.
        manifest: what ``model.json`` shall hold (JSON values). Added to it: ``format``, ``shiftproof`` (version),
            ``files`` ({name: {"sha256", "bytes"}}) and ``manifest_sha256`` (over the canonical JSON of all the rest).
        tensors: name -> array, any shape, of a dtype that safetensors knows.
        files: name -> content of further files to keep beside the weights.
        overwrite: replace a model or an unfinished training that is there, with everything in it. A folder that is
            neither is never replaced. The old one is moved aside first, so a crash loses neither.

    Raises:
        ModelError: the folder exists, the disk is full, the place cannot be written. What was there is still there.
    """
    folder = Path(folder)
    place = folder.resolve()  # a link keeps pointing at its model; "." gets a name
    beside = _beside(place, "tmp")
    try:
        refuse_occupied(folder, overwrite)
        beside.mkdir(parents=True)
        weights = safetensors.numpy.save({name: np.asarray(array, order="C") for name, array in tensors.items()})
        kept = {WEIGHTS: weights, **(files or {})}
        for name, bytes_ in kept.items():
            _write_bytes(beside / name, bytes_)
        content = {
            **manifest,
            "format": FORMAT_VERSION,
            "shiftproof": package_version("shiftproof"),
            "files": {name: _listed(bytes_) for name, bytes_ in kept.items()},
        }
        _write_bytes(beside / MANIFEST, _json_text(_signed(content)).encode("utf-8", "backslashreplace"))
        _move_into_place(beside, place)
    except OSError as error:
        raise ModelError(_cannot_write(folder, error)) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def save_export(folder: Path, name: str, files: Mapping[str, bytes], record: Mapping[str, Any]) -> None:
    """Add an exported graph to a model folder, or replace it; a crash at any point leaves a model that is whole.

    The manifest first forgets the former graph of that name, then its files are written, then it is told of the new one:
    what it does not list is not looked at.

    Args:
        folder: a folder that :func:`save_model` wrote.
        name: of the export, such as "onnx".
        files: path below the folder -> content; folders are made.
        record: JSON values to keep under ``exports``; added to it: ``files``, the names.

    Raises:
        ModelError: no such model, the disk is full, the place cannot be written.
    """
    manifest = load_manifest(folder, verify=False)
    exports = dict(manifest.get("exports", {}))
    former = exports.pop(name, {"files": []})["files"]
    told = {"exports": {**exports, name: {**record, "files": sorted(files)}}}
    _add_files(Path(folder), {**manifest, "exports": exports}, former, files, told)


def save_reference(folder: Path, key: str, name: str, content: bytes, record: Mapping[str, Any]) -> None:
    """Add a file of reference values to a model folder, or replace it; as safe as :func:`save_export`.

    Args:
        folder: a folder that :func:`save_model` wrote.
        key: of ``model.json``, to keep ``record`` under.
        name: of the file.
        content: of the file.
        record: JSON values.

    Raises:
        ModelError: no such model, the disk is full, the place cannot be written.
    """
    manifest = load_manifest(folder, verify=False)
    manifest.pop(key, None)
    _add_files(Path(folder), manifest, [name], {name: content}, {key: dict(record)})


def update_manifest(folder: Path, changes: Mapping[str, Any]) -> None:
    """Change keys of ``model.json`` in one step; files stay as they are.

    Args:
        folder: a folder that :func:`save_model` wrote.
        changes: JSON values by key.

    Raises:
        ModelError: no such model, the disk is full, the place cannot be written.
    """
    _add_files(Path(folder), load_manifest(folder, verify=False), (), {}, changes)


def _add_files(
    folder: Path,
    manifest: Mapping[str, Any],
    former: Iterable[str],
    files: Mapping[str, bytes],
    told: Mapping[str, Any],
) -> None:
    """Write files into a model folder: unlisted first, then written, then listed with what is ``told`` of them."""
    listed = {path: entry for path, entry in manifest["files"].items() if path not in {*former, *files}}
    try:
        if len(listed) < len(manifest["files"]):
            write_json_atomic(folder / MANIFEST, _signed({**manifest, "files": listed}))
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            _write_bytes(folder / path, content)
            listed[path] = _listed(content)
        write_json_atomic(folder / MANIFEST, _signed({**manifest, **told, "files": listed}))
    except OSError as error:
        raise ModelError(_cannot_write(folder, error)) from error


def load_manifest(folder: Path, *, verify: bool = True) -> dict[str, Any]:
    """Read ``model.json`` and check the folder against it.

    Args:
        folder: a folder that :func:`save_model` wrote.
        verify: hash every listed file too. Without it only presence and sizes are checked, and the manifest itself.

    Raises:
        ModelError: no model there, not JSON, written by a newer shiftproof, a file missing or changed (it is named).
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(_no_model(folder)) from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; make it readable") from error
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is not UTF-8 text") from error
    try:
        manifest = json.loads(text)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
            raise ModelError(
                f'{path} has no "format" number, so it is no shiftproof model; train one, or check the path'
            )
        if manifest["format"] > FORMAT_VERSION:
            raise ModelError(
                f"{folder} was written by a newer shiftproof (format {manifest['format']}, this one reads "
                f"{FORMAT_VERSION}): pip install -U shiftproof"
            )
        signature = manifest.pop("manifest_sha256", None)
        intact = signature == manifest_sha256(manifest)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "it is not JSON") from error
    if not intact:
        raise _damaged(path, "its content does not match its own hash")
    for name, listed in manifest["files"].items():
        _check_file(folder / name, listed, verify)
    return manifest


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of a model folder; call :func:`load_manifest` first: it checks that they are the ones saved.

    Raises:
        ModelError: the file is missing or no safetensors file.
    """
    path = Path(folder) / WEIGHTS
    try:
        return safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(path, "it cannot be read as safetensors") from error


def refuse_occupied(folder: Path, overwrite: bool) -> None:
    """Refuse a place for a model that holds something already; an empty folder is free.

    Raises:
        ModelError: there is a model and ``overwrite`` is not set, or something else than a model.
    """
    place = Path(folder).resolve()
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not overwrite:
        raise ModelError(f"{folder} exists; --overwrite replaces it, --resume continues it")
    if not place.is_dir():
        raise ModelError(f"{folder} is a file, expected a model folder to replace; choose another name")
    # --overwrite with a mistyped path must not delete somebody's images.
    if not any((place / name).exists() for name in (MANIFEST, TRAINING)):
        raise ModelError(f"{folder} holds other things than a model, so it is not replaced; choose another name")


def _move_into_place(beside: Path, place: Path) -> None:
    """Rename a finished folder to its place; what is there moves aside and goes only when the new one stands."""
    if not place.exists():
        beside.rename(place)
        return
    aside = _beside(place, "old")
    place.rename(aside)
    try:
        beside.rename(place)
    except OSError:
        aside.rename(place)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _check_file(path: Path, listed: Mapping[str, Any], verify: bool) -> None:
    try:
        size = path.stat().st_size
        if size != listed["bytes"]:
            raise _damaged(path, f"it has {size} bytes, {listed['bytes']} were written")
        if verify and sha256_file(path) != listed["sha256"]:
            raise _damaged(path, f"its bytes are not those that were written (sha256 differs from {MANIFEST})")
    except FileNotFoundError as error:
        raise _damaged(path, "it is missing") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; make it readable") from error


def _listed(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _signed(content: Mapping[str, Any]) -> dict[str, Any]:
    return {**content, "manifest_sha256": manifest_sha256(content)}


def manifest_sha256(content: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's content in canonical JSON: white space and order, which mean nothing, do not count."""
    # Through JSON once: what is hashed is what a reader gets (tuples are lists, keys are strings and sort as such).
    plain = json.loads(json.dumps(content, allow_nan=False))
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _json_text(obj: Any) -> str:
    return json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _beside(path: Path, purpose: str) -> Path:
    """A new hidden name in the same folder, hence on the same disk, where a rename is one step."""
    return path.with_name(f".{path.name}.{purpose}-{uuid.uuid4().hex[:8]}")


def _write_bytes(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # before the rename: after a power cut the new name must not hold an empty file


def _cannot_write(path: Path, error: OSError) -> str:
    fix = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose a place that can be written"
    return f"cannot write {path}: {error.strerror or error}; {fix}"


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{path} is damaged: {what}; copy the model folder again, or train it again")


def _no_model(folder: Path) -> str:
    if (folder / TRAINING).is_dir():
        return f"{folder} holds a training that has not finished; --resume continues it"
    found = f"has no {MANIFEST}" if folder.exists() else "does not exist"
    return f"no model at {folder}: it {found}; check the path, or make one with: shiftproof train DATA {folder}"
