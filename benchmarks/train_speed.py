"""Training speed and memory of reverse distillation: shiftproof beside anomalib, same teacher, images, batch size and threads.

Each contender trains in a process of its own, in alternating order. anomalib's model, loss and optimizer run in a bare
PyTorch loop, without what Lightning adds; images lie decoded in memory for both. For us the one-off pass that caches the
teacher's features is reported apart and counted in "to the end".

    python benchmarks/train_speed.py [--data CATEGORY] [--epochs 1] [--repeats 2] [--precision 32]

needs ``pip install anomalib==2.7.0`` beside shiftproof.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch

BACKBONE = "resnet18.tv_in1k"
CONTENDERS = ("shiftproof rd", "shiftproof rdpp", "anomalib rd")


def pixels_of(data: Path | None, size: int, count: int) -> np.ndarray:
    """The first good images of a category, or noise, uint8 [N, size, size, 3]: speed is the same on both."""
    if data is None:
        return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    from shiftproof.data import decode_images, good_images

    return decode_images(good_images(data)[:count], (size, size)).pixels


def teacher_state() -> dict[str, torch.Tensor]:
    """Random weights of the teacher, the same for all: speed does not depend on them, and no file is needed."""
    torch.manual_seed(0)
    return timm.create_model(BACKBONE, pretrained=False, features_only=True, out_indices=(1, 2, 3)).state_dict()


def train_ours(method: str, pixels: np.ndarray, epochs: int, precision: str) -> dict[str, float]:
    """Seconds of the feature pass and of each epoch with our loop."""
    from shiftproof.config import RdConfig
    from shiftproof.methods import method_class
    from shiftproof.networks.teacher import Teacher, describe_teacher
    from shiftproof.training import TrainConfig, fit

    kind = method_class(method)
    settings = RdConfig(augment_share=0.0)  # the peer has no further views of an image
    network = kind(Teacher(describe_teacher(BACKBONE), teacher_state()), settings)
    times: list[float] = []
    started = time.perf_counter()
    config = TrainConfig(epochs=epochs, precision=precision)
    fit(network, pixels, config, on_step=lambda done, total, losses: times.append(time.perf_counter()))
    per_epoch = len(pixels) // config.batch_size
    # The first step carries the feature pass and the warming-up of the kernels: time from its end.
    step = statistics.median(np.diff(times))
    return {"epoch": step * per_epoch, "before": times[0] - started - step}


def train_anomalib(pixels: np.ndarray, epochs: int) -> dict[str, float]:
    """The same with anomalib's model, loss and optimizer."""
    from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss
    from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel

    size = pixels.shape[1:3]
    model = ReverseDistillationModel(
        "resnet18", tuple(size), layers=["layer1", "layer2", "layer3"], anomaly_map_mode="add", pre_trained=False
    )
    model.encoder.feature_extractor.load_state_dict(teacher_state(), strict=True)
    loss_of = ReverseDistillationLoss()
    parameters = [*model.decoder.parameters(), *model.bottleneck.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.005, betas=(0.5, 0.99))
    model.train()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    # Its loss takes views, which want the channels first.
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float() / 255 - mean) / std
    times = []
    started = time.perf_counter()
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for batch in order[: len(order) // 16 * 16].view(-1, 16):
            loss = loss_of(*model(images[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            times.append(time.perf_counter())
    step = statistics.median(np.diff(times))
    return {"epoch": step * (len(pixels) // 16), "before": times[0] - started - step}


def run_one(arguments: argparse.Namespace) -> None:
    """One contender in this process; prints one line of JSON."""
    torch.set_num_threads(arguments.threads)
    pixels = pixels_of(arguments.data, arguments.size, arguments.images)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if arguments.contender.startswith("anomalib"):
        found = train_anomalib(pixels, arguments.epochs)
    else:
        method = arguments.contender.split()[1]
        found = train_ours(method, pixels, arguments.epochs, arguments.precision)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**found, "memory": (peak - before) / 1024, "images": len(pixels)}))


def main() -> None:
    """All contenders, alternating, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="category to take good images of; noise without")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto", help="ours: auto, 32 or bf16")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        run_one(arguments)
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for repeat in range(arguments.repeats):
        for name in CONTENDERS if repeat % 2 == 0 else reversed(CONTENDERS):
            command = [sys.executable, __file__, *sys.argv[1:], "--contender", name]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[name].append(json.loads(output.splitlines()[-1]))
            print(f"# {name}: {found[name][-1]}", flush=True)
    middle = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()
    }
    peer = middle["anomalib rd"]
    images = f"{peer['images']:.0f} images of {arguments.size}x{arguments.size}, batch 16"
    ours = f"ours in precision {arguments.precision}"
    print(f"\n{arguments.threads} threads, torch {torch.__version__}, {BACKBONE}, {images}, {ours}", end="")
    print(f"; medians of {arguments.repeats}\n")
    print("| | seconds an epoch | anomalib / this | before the first step (s) | peak memory above the images (MiB) |")
    print("|---|---|---|---|---|")
    for name, m in middle.items():
        print(
            f"| {name} | {m['epoch']:.1f} | {peer['epoch'] / m['epoch']:.1f} | {m['before']:.1f} | {m['memory']:.0f} |"
        )


if __name__ == "__main__":
    main()
