"""What ``shiftproof export`` does: write the graphs, run the gate, and only then put them into the model folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.artefact import WEIGHTS, environment, load_manifest, package_version, save_export
from shiftproof.calibration import Calibration
from shiftproof.data import decode_images, good_images, labelled_images, synthetic_images
from shiftproof.errors import BackendError, DataError, ExportError, ModelError, UsageError, unknown
from shiftproof.export.graph import OPSET, Judged, files_of, to_onnx
from shiftproof.export.parity import FLOAT, GateImages, compare, exceeded
from shiftproof.methods import Inspector
from shiftproof.runtime import BACKENDS, GRAPH_VERSION, installed, open_graph
from shiftproof.torch_engine import TorchEngine, build_method

TARGETS = ("onnx", "openvino")
SYNTHETIC = 16  # images for the gate where none are given


@dataclass(frozen=True)
class Exported:
    """A graph that lies in the model folder now."""

    name: str  # of the backend that runs it
    bytes: int  # on disk
    record: Mapping[str, Any]  # what model.json keeps of it


def export_model(
    model: str | Path,
    to: Sequence[str] = TARGETS,
    *,
    data: str | Path | None = None,
    layout: str = "auto",
    force: bool = False,
    warn: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Exported]:
    """Export a model and hold each graph against it; all of them are written, or none.

    Args:
        model: its folder.
        to: "onnx", "openvino".
        data: images for the gate, good ones or a labelled set; by default images made from a seed.
        layout: of ``data``.
        force: write a graph that is outside the tolerance as well. The manifest says so, and ``auto`` passes it over.
        warn: is told of images that were left out, and of what was forced.
        on_progress: is told (images compared, images in all).

    Raises:
        ExportError: an operation that does not export, or a graph outside the tolerance. BackendError: a package is
            missing. ModelError, DataError, UsageError: model, data or options that cannot be used.
    """
    folder = Path(model)
    for target in to:
        if target not in TARGETS:
            raise unknown("export", target, TARGETS)
    if not to:
        raise UsageError(f"nothing to export to: name {' or '.join(TARGETS)}")
    _need("onnx", "onnxscript", *(BACKENDS[name].package for name in to))
    manifest = load_manifest(folder)
    calibration = Calibration.from_json(manifest["calibration"])
    try:
        method = build_method(folder, manifest)
        height, width = manifest["config"]["image_size"]
    except (KeyError, TypeError, RuntimeError) as error:
        written = manifest.get("shiftproof")
        raise ModelError(f"{folder} was written by shiftproof {written}: export it with that version") from error
    images = _gate_images(data, layout, (height, width), warn)
    metadata = {
        "graph": str(GRAPH_VERSION),
        "shiftproof": str(package_version("shiftproof")),
        "method": manifest["method"],
        "image_size": f"{height}x{width}",
        "weights_sha256": manifest["files"][WEIGHTS]["sha256"],
        "input": f"uint8 [B, {height}, {width}, 3], RGB; resize bilinear with antialiasing, as Pillow does",
        "threshold": repr(calibration.threshold),
    }
    inspector = Inspector(method)
    graph = to_onnx(Judged(inspector, calibration.scores), (height, width), metadata)
    files = {name: files_of(name, graph, metadata) for name in dict.fromkeys(to)}
    with tempfile.TemporaryDirectory() as scratch:
        engines = {name: _open(name, files[name], Path(scratch), manifest) for name in files}
        reference = TorchEngine(inspector, (height, width))
        found = compare(reference, engines, images, calibration, on_progress)
    failed = {name: wrong for name, one in found.items() if (wrong := exceeded(one, FLOAT))}
    for name, wrong in failed.items():
        line = f"{name}'s graph differs from the model on {images.source}: {', '.join(wrong)}"
        if not np.isfinite(found[name]["map"]):
            raise ExportError(f"{line}; values that are not finite cannot be exported: train again")
        if not force:
            raise ExportError(f"{line}; nothing was written; --force writes it all the same, with this warning")
        warn(line)
    exported = []
    for name, contents in files.items():
        record = {
            "precision": "float32",
            "graph": GRAPH_VERSION,
            "opset": OPSET,
            "environment": environment(),
            "parity": {
                **found[name],
                "tolerance": asdict(FLOAT),
                "passed": name not in failed,
                "warnings": failed.get(name, []),
            },
        }
        save_export(folder, name, contents, record)
        exported.append(Exported(name, sum(map(len, contents.values())), record))
    return exported


def _open(name: str, files: Mapping[str, bytes], scratch: Path, manifest: Mapping[str, Any]) -> Any:
    """The graph as the runtime will open it, from files."""
    for path, content in files.items():
        (scratch / path).parent.mkdir(parents=True, exist_ok=True)
        (scratch / path).write_bytes(content)
    return open_graph(name, scratch, manifest)


def _gate_images(
    data: str | Path | None, layout: str, size: tuple[int, int], warn: Callable[[str], None]
) -> GateImages:
    """A labelled set with its labels, or else good images; images out of a seed where there is no data."""
    if data is None:
        return GateImages(synthetic_images(size, SYNTHETIC), None, f"{SYNTHETIC} synthetic images")
    data = Path(data)
    try:
        truth = {item.path: item.defective for item in labelled_images(data, layout).images}
    except DataError:
        truth = {}
    decoded = decode_images(list(truth) or good_images(data, layout), size)
    for _, reason in decoded.failures:
        warn(f"left out: {reason}")
    count = len(decoded.paths)
    if truth:
        defective = np.array([truth[path] for path in decoded.paths])
        return GateImages(decoded.pixels, defective, f"{count} labelled images of {data.resolve().name}")
    return GateImages(decoded.pixels, None, f"{count} good images of {data.resolve().name}")


def _need(*packages: str) -> None:
    missing = [package for package in packages if not installed(package)]
    if missing:
        raise BackendError(f"export needs the package {missing[0]}: pip install 'shiftproof[export]'")
