"""What ``shiftproof export`` does: write the graphs, run the gate, and only then put them into the model folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.calibration import Calibration
from shiftproof.data import DecodedImages, decode_images, good_images, labelled_images, synthetic_images
from shiftproof.errors import BackendError, DataError, ExportError, ModelError, UsageError, unknown
from shiftproof.export.graph import OPSET, Judged, files_of, to_onnx, to_openvino
from shiftproof.export.int8 import AT_MOST, kept_in_float, quantise
from shiftproof.export.parity import FLOAT, ROUNDED, GateImages, compare, exceeded
from shiftproof.methods import Inspector
from shiftproof.model_io import WEIGHTS, environment, load_manifest, package_version, save_export
from shiftproof.runtime import BACKENDS, GRAPH_VERSION, has_bfloat16, installed, open_graph
from shiftproof.torch_backend import TorchBackend, build_method

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
    int8: bool = False,
    bf16: bool = False,
    data: str | Path | None = None,
    layout: str = "auto",
    force: bool = False,
    warn: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Exported]:
    """Export a model and hold each graph against it; those that pass are written, whatever becomes of the others.

    Args:
        model: its folder.
        to: "onnx", "openvino".
        int8: write a quantised graph beside each; needs ``data`` with good images, of which some are used for that and
            not for the gate.
        bf16: write a graph to be computed in bfloat16 beside each of OpenVINO's; the processor here must have that.
        data: images for the gate, good ones or a labelled set; by default images made from a seed.
        layout: of ``data``.
        force: write a graph that is outside the tolerance as well. The manifest says so, and ``auto`` passes it over.
        warn: receives lines about images that were left out, and of what was forced.
        on_progress: receives (images compared, images in all).

    Raises:
        ExportError: an operation that does not export, or graphs outside the tolerance, which are not written.
            BackendError: a package is missing. ModelError, DataError, UsageError: model, data or options that cannot be used.
    """
    folder = Path(model)
    for target in to:
        if target not in TARGETS:
            raise unknown("export", target, TARGETS)
    if not to:
        raise UsageError(f"nothing to export to: name {' or '.join(TARGETS)}")
    if int8 and data is None:
        raise UsageError("--int8 takes the ranges of activations from good images: give some with --data")
    if bf16 and "openvino" not in to:
        raise UsageError(f"--bf16 is for OpenVINO, and --to is {' '.join(to)}: add openvino, or leave --bf16 out")
    _need("onnx", "onnxscript", *(BACKENDS[name].package for name in to), *(["nncf"] if int8 else []))
    if bf16 and not has_bfloat16():
        raise BackendError("this processor does not compute in bfloat16: export on one that does, or without --bf16")
    manifest = load_manifest(folder)
    calibration = Calibration.from_json(manifest["calibration"])
    try:
        method = build_method(folder, manifest)
        height, width = manifest["config"]["image_size"]
    except (KeyError, TypeError, RuntimeError) as error:
        written = manifest.get("shiftproof")
        raise ModelError(f"{folder} was written by shiftproof {written}: export it with that version") from error
    images, good = _images(data, layout, (height, width), int8, warn)
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
    graph = to_onnx(Judged(inspector, calibration.scores), (height, width))
    serialised, kept = graph.SerializeToString(), kept_in_float(graph, height)
    files: dict[str, dict[str, bytes]] = {}
    for name in dict.fromkeys(to):
        network = graph if name == "onnx" else to_openvino(serialised)
        networks = {name: network, **({f"{name}-int8": quantise(network, good, kept)} if good is not None else {})}
        for backend, network in networks.items():
            files[backend] = files_of(backend, network, metadata)
            if bf16 and name == "openvino":
                files[f"{backend}-bf16"] = files_of(f"{backend}-bf16", network, metadata)
    with tempfile.TemporaryDirectory() as scratch:
        engines = {name: _open(name, files[name], Path(scratch), manifest) for name in files}
        reference = TorchBackend(inspector, (height, width))
        found = compare(reference, engines, images, calibration, on_progress)
    tolerances = {name: FLOAT if BACKENDS[name].precision == "float32" else ROUNDED for name in files}
    failed = {name: wrong for name, comparison in found.items() if (wrong := exceeded(comparison, tolerances[name]))}
    refused = {}
    for name, wrong in failed.items():
        line = f"{name}'s graph differs from the model on {images.source}: {', '.join(wrong)}"
        if not np.isfinite(found[name]["map"]):
            refused[name] = f"{line}; values that are not finite cannot be exported: train again"
        elif not force:
            sorts = (
                "feature correction sorts features, and rounding changes their order; "
                if method.feature_correction
                else ""
            )
            refused[name] = f"{line}; {sorts}--force writes it all the same, with this warning"
        else:
            warn(line)
    exported = []
    for name, contents in files.items():
        if name in refused:
            continue
        record = {
            "precision": BACKENDS[name].precision,
            "graph": GRAPH_VERSION,
            "opset": OPSET,
            "environment": environment(),
            "parity": {
                **found[name],
                "tolerance": asdict(tolerances[name]),
                "passed": name not in failed,
                "warnings": failed.get(name, []),
            },
        }
        save_export(folder, name, contents, record)
        exported.append(Exported(name, sum(map(len, contents.values())), record))
    if refused:
        written = f"{' and '.join(graph.name for graph in exported)} written" if exported else "nothing was written"
        refusal = ExportError(f"{written}; {'; '.join(refused.values())}")
        if exported:
            refusal.exit_code = 3  # finished, but not with all
        raise refusal
    return exported


def _open(name: str, files: Mapping[str, bytes], scratch: Path, manifest: Mapping[str, Any]) -> Any:
    """The graph as the runtime will open it, from files."""
    for path, content in files.items():
        (scratch / path).parent.mkdir(parents=True, exist_ok=True)
        (scratch / path).write_bytes(content)
    return open_graph(name, scratch, manifest)


def _images(
    data: str | Path | None, layout: str, size: tuple[int, int], int8: bool, warn: Callable[[str], None]
) -> tuple[GateImages, NDArray[np.uint8] | None]:
    """Images for the gate: a labelled set with its labels, or else good images, or images out of a seed where there is no
    data; and, for int8, good images uint8 [N, H, W, 3] that are not among them.
    """
    if data is None:
        return GateImages(synthetic_images(size, SYNTHETIC), None, f"{SYNTHETIC} synthetic images"), None
    data = Path(data)

    def decode(paths: list[Path]) -> DecodedImages:
        decoded = decode_images(paths, size)
        for _, reason in decoded.failures:
            warn(f"left out: {reason}")
        return decoded

    try:
        truth = {item.path: item.defective for item in labelled_images(data, layout).images}
    except DataError:
        truth = {}
    good = good_images(data, layout) if int8 or not truth else []
    every_other = good[::2]
    selected = dict.fromkeys(every_other[:: max(1, -(-len(every_other) // AT_MOST))] if int8 else [])
    decoded = decode([path for path in truth or good if path not in selected])
    count = f"{len(decoded.paths)} {'labelled' if truth else 'good'} images of {data.resolve().name}"
    defective = np.array([truth[path] for path in decoded.paths]) if truth else None
    return GateImages(decoded.pixels, defective, count), decode(list(selected)).pixels if int8 else None


def _need(*packages: str) -> None:
    missing = [package for package in packages if not installed(package)]
    if missing:
        raise BackendError(f"export needs the package {missing[0]}: pip install 'shiftproof[export]'")
