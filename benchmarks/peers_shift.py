r"""anomalib's PaDiM, PatchCore, CFA and reverse distillation under the shifts that ours is evaluated under, by our protocol.

    python benchmarks/peers_shift.py --out runs/peers --weights FILE --data SCREW --peers padim patchcore [--image-size 256]
    python benchmarks/peers_shift.py --out runs/peers --weights FILE --data SCREW --peers reverse_distillation --epochs 20

A cell is a category, a peer, its settings and a seed. What differs from a cell of ``accuracy.py`` is the network alone:
the teacher, the images to fit on, the calibration ones that place the threshold, the shifts, the resizing and the metrics
are shiftproof's; map and image score are the peer's own as its torch model gives them, before any normalisation. A cell
that is there is never computed again. Beside the false alarms at shiftproof's certified threshold stand those at the plain
quantile of the same calibration scores.

needs ``pip install anomalib==2.7.0`` beside shiftproof.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torchvision  # type: ignore[import-untyped]
from anomalib.models.image.cfa import torch_model as cfa
from anomalib.models.image.cfa.loss import CfaLoss
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss
from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor  # type: ignore[import-untyped]

from shiftproof.calibration import Calibration, split_calibration
from shiftproof.data import decode_images, good_images
from shiftproof.detector import Detector
from shiftproof.methods import Inspector
from shiftproof.methods.base import to_images
from shiftproof.model_io import environment, write_json_atomic
from shiftproof.networks.teacher import Teacher, load_teacher
from shiftproof.pipelines import evaluate
from shiftproof.pipelines.finalize import infer
from shiftproof.torch_backend import TorchBackend
from shiftproof.training import fit_size, format_size, parse_size

BACKBONE = "resnet18.tv_in1k"
ARCHITECTURE = "resnet18"  # as anomalib names it
LAYERS = ["layer1", "layer2", "layer3"]
CORESET = 0.01  # of PatchCore's patches
CFA = {  # anomalib's defaults
    "gamma_c": 1,
    "gamma_d": 1,
    "num_nearest_neighbors": 3,
    "num_hard_negative_features": 3,
    "radius": 1e-5,
}
CFA_BATCH = 4  # its paper's: a batch of 16 compares 16 x 4096 x 4096 features
BATCH = 16
FALSE_ALARMS = 0.05  # wanted at either threshold


class Peer(Inspector):
    """A torch model of anomalib where ours stands: pixels in, its own raw maps and image scores out."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, extractor: nn.Module, teacher: Teacher):
        nn.Module.__init__(self)
        extractor.load_state_dict(teacher.pyramid.state_dict(), strict=True)
        self.model = model
        self.register_buffer("mean", teacher.mean)
        self.register_buffer("std", teacher.std)

    def prepare(self, pixels: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] to normalised float32 [B, 3, H, W]; channels first in memory, for its loss takes views."""
        return ((to_images(pixels) - self.mean) / self.std).contiguous()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Maps float32 [B, H, W] and scores float32 [B] of pixels uint8 [B, H, W, 3]."""
        found = self.model(self.prepare(pixels))
        return found.anomaly_map.squeeze(1), found.pred_score.flatten()


def fit_padim(teacher: Teacher, pixels: NDArray[np.uint8], epochs: int) -> Peer:
    """Gaussians of 100 of the 448 channels at each position: anomalib's default."""
    model = PadimModel(ARCHITECTURE, LAYERS, pre_trained=False)
    peer = _fill(Peer(model, model.feature_extractor.feature_extractor, teacher), pixels)
    model.fit()
    return peer


def fit_patchcore(teacher: Teacher, pixels: NDArray[np.uint8], epochs: int) -> Peer:
    """A coreset of the patches of the second and third stage."""
    model = PatchcoreModel(LAYERS[1:], ARCHITECTURE, pre_trained=False)
    peer = _fill(Peer(model, model.feature_extractor.feature_extractor, teacher), pixels)
    model.subsample_embedding(CORESET)
    return peer


def fit_reverse_distillation(teacher: Teacher, pixels: NDArray[np.uint8], epochs: int) -> Peer:
    """The peer's model, loss and optimizer in a bare PyTorch loop; its default is to add the stages' maps."""
    size = (pixels.shape[1], pixels.shape[2])
    model = ReverseDistillationModel(ARCHITECTURE, size, LAYERS, "add", pre_trained=False)
    peer = Peer(model, model.encoder.feature_extractor, teacher).train()
    loss_of = ReverseDistillationLoss()
    parameters = [*model.decoder.parameters(), *model.bottleneck.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.005, betas=(0.5, 0.99))
    for epoch in range(epochs):
        losses = []
        for batch in torch.randperm(len(pixels)).split(BATCH):
            loss = loss_of(*model(peer.prepare(torch.from_numpy(pixels[batch.numpy()]))))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"# epoch {epoch + 1} of {epochs}: loss {statistics.mean(losses):.4f}", flush=True)
    return peer


def without_downloads() -> AbstractContextManager[Any]:
    """While it lasts CFA's feature extractor is built without weights, which the teacher's then replace."""

    def build(backbone: str, layers: list[str]) -> nn.Module:
        return create_feature_extractor(getattr(torchvision.models, backbone)(), layers).eval()

    return patch.object(cfa, "get_feature_extractor", build)


def fit_cfa(teacher: Teacher, pixels: NDArray[np.uint8], epochs: int) -> Peer:
    """A descriptor trained towards the mean features of good images: the peer's model, loss and optimizer in a bare loop."""
    with without_downloads():
        model = cfa.CfaModel(ARCHITECTURE, **CFA)
    peer = Peer(model, model.feature_extractor, teacher).train()
    loss_of = CfaLoss(*(CFA[key] for key in ("num_nearest_neighbors", "num_hard_negative_features", "radius")))
    loss_of.radius = loss_of.radius.detach()  # nothing learns it, and its graph does not last for a second step
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=5e-4, amsgrad=True)
    batches = [peer.prepare(torch.from_numpy(part)) for part in np.array_split(pixels, -(-len(pixels) // BATCH))]
    model.initialize_centroid([argparse.Namespace(image=batch) for batch in batches])
    for epoch in range(epochs):
        losses = []
        for batch in torch.randperm(len(pixels)).split(CFA_BATCH):
            loss = loss_of(model(peer.prepare(torch.from_numpy(pixels[batch.numpy()]))))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"# epoch {epoch + 1} of {epochs}: loss {statistics.mean(losses):.4f}", flush=True)
    return peer


PEERS: dict[str, Callable[[Teacher, NDArray[np.uint8], int], Peer]] = {
    "padim": fit_padim,
    "patchcore": fit_patchcore,
    "cfa": fit_cfa,
    "reverse_distillation": fit_reverse_distillation,
}


TRAINED = {"reverse_distillation": BATCH, "cfa": CFA_BATCH}  # by steps, with their batch sizes


def _fill(peer: Peer, pixels: NDArray[np.uint8]) -> Peer:
    """Show the model its training images: in training mode it keeps their features."""
    peer.train()
    with torch.no_grad():
        for start in range(0, len(pixels), BATCH):
            peer.model(peer.prepare(torch.from_numpy(pixels[start : start + BATCH])))
    return peer


def fitted(
    folder: Path, name: str, teacher: Teacher, pixels: NDArray[np.uint8], epochs: int, seed: int
) -> tuple[Peer, float, float]:
    """A fitted peer with its seconds and processor seconds; kept in ``folder`` as ``peer.pt``, a pickle of ours alone."""
    kept = folder / "peer.pt"
    if not kept.is_file():
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  PatchCore's projection draws from the global generator
        started, processor = time.perf_counter(), time.process_time()
        peer = PEERS[name](teacher, pixels, epochs)
        seconds = (time.perf_counter() - started, time.process_time() - processor)
        print(f"# {folder.name}: fitted in {seconds[0]:.0f} s", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save((peer, *seconds), kept)
    return torch.load(kept, weights_only=False)


def cell_name(data: Path, name: str, arguments: argparse.Namespace) -> str:
    """Of a category, a peer, its settings and a seed."""
    trained = [str(arguments.epochs)] if name in TRAINED else []
    return "_".join([data.name, name, *trained, arguments.image_size, str(arguments.seed)])


def compute(cell: Path, data: Path, name: str, arguments: argparse.Namespace) -> None:
    """Fit, calibrate and evaluate one cell; its folder keeps ``cell.json``, the scores and the report."""
    size, seed = fit_size(parse_size(arguments.image_size)), arguments.seed
    paths = good_images(data)
    chosen, calibration_set = (
        decode_images([paths[i] for i in part], size) for part in split_calibration(len(paths), seed)
    )
    teacher, source = load_teacher(BACKBONE, arguments.weights)
    peer, seconds, processor_seconds = fitted(cell, name, teacher, chosen.pixels, arguments.epochs, seed)
    scores, medians = infer(peer.eval(), calibration_set.pixels)
    calibration = Calibration.from_scores(scores, target=FALSE_ALARMS, map_low=float(np.median(medians)))
    versions = {**environment(), "anomalib": importlib.metadata.version("anomalib")}
    images: dict[str, Any] = {"train_images": len(chosen.pixels), "calibration_images": len(calibration_set.pixels)}
    images |= {"fingerprint": chosen.fingerprint, "calibration_fingerprint": calibration_set.fingerprint}
    manifest: dict[str, Any] = {
        "method": f"anomalib {name}",
        "config": {"backbone": BACKBONE, "image_size": size, "seed": seed},
        "teacher": {"name": BACKBONE, "source": source, "sha256": teacher.digest()},
        "data": images,
        "training": {"seconds": seconds},
        "environment": versions,
    }
    metrics = evaluate(
        Detector(TorchBackend(peer, size), calibration, manifest), data, cell, shifts=arguments.shifts, warn=print
    ).metrics
    quantile = float(np.quantile(calibration.scores, 1 - FALSE_ALARMS))
    facts = {
        "data": data.name,
        "backbone": ARCHITECTURE,
        "method": manifest["method"],
        "size": format_size(size),
        "seed": seed,
        "steps": arguments.epochs * -(-len(chosen.pixels) // TRAINED[name]) if name in TRAINED else None,
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "threads": torch.get_num_threads(),
        "precision": "32-true",
        "teacher": manifest["teacher"],
        "images": images,
        "environment": versions,
        "metrics": metrics,
        "quantile": {"value": quantile, **rates_above(quantile, cell / "scores.csv")},
    }
    write_json_atomic(cell / "cell.json", facts)


def rates_above(threshold: float, scores: Path) -> dict[str, dict[str, float]]:
    """False-alarm and detection rate of each condition at another threshold, from the ``scores.csv`` of an evaluation."""
    flags: dict[tuple[str, str], list[bool]] = {}
    with scores.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["status"] == "ok":
                flags.setdefault((row["condition"], row["label"]), []).append(float(row["score"]) > threshold)
    rates: dict[str, dict[str, float]] = {}
    for (condition, label), flagged in flags.items():
        kind = "false_alarm_rate" if label == "good" else "detection_rate"
        rates.setdefault(condition, {})[kind] = statistics.mean(flagged)
    shifted = [entry for condition, entry in rates.items() if condition != "clean"]
    if shifted:
        rates["mean_shift"] = {kind: statistics.mean(entry[kind] for entry in shifted) for kind in shifted[0]}
    return rates


def print_table(out: Path) -> None:
    """Every kept cell, a line for each condition and one for the mean of the shifts."""
    columns = ["data", "size", "peer", "steps", "seed", "seconds to fit (of processor)", "condition", "image AUROC"]
    columns += ["pixel AUROC", "AUPRO 0.3", "AUPRO 0.05", "false alarms", "detected"]
    columns += ["false alarms, quantile", "detected, quantile"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    rates = ("false_alarm_rate", "detection_rate")
    for path in sorted(out.glob("*/cell.json")):
        cell = json.loads(path.read_text())
        about = [cell["data"], cell["size"], cell["method"], str(cell["steps"] or "-"), str(cell["seed"])]
        about.append(f"{cell['seconds']:.0f} ({cell['processor_seconds']:.0f})")
        for condition, metrics in cell["metrics"].items():
            if condition != "worst_shift":
                values = [
                    metrics["image"]["auroc"],
                    *(metrics["pixel"][key] for key in ("auroc", "aupro_30", "aupro_05")),
                ]
                values += [metrics["threshold"][key] for key in rates]
                values += [cell["quantile"][condition][key] for key in rates]
                shown = ["-" if value is None else f"{value:.4f}" for value in values]
                print("| " + " | ".join([*about, condition, *shown]) + " |")


def main() -> None:
    """Compute what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=["padim", "patchcore"])
    parser.add_argument("--weights", type=Path, help=f"file with the teacher's weights ({BACKBONE})")
    parser.add_argument("--image-size", default="256")
    parser.add_argument("--epochs", type=int, default=20, help="of reverse_distillation and cfa")
    parser.add_argument("--shifts", default="paper")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the fit")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for data in arguments.data:
        for name in arguments.peers:
            cell = arguments.out / cell_name(data, name, arguments)
            if not (cell / "cell.json").is_file():
                compute(cell, data, name, arguments)
                print(f"# done: {cell.name}", flush=True)
    print_table(arguments.out)


if __name__ == "__main__":
    import peers_shift  # so that what is kept says "peers_shift.Peer", which peers.py can read as well

    peers_shift.main()
