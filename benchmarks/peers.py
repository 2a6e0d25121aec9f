r"""The race: shiftproof beside anomalib on the same images, threads and teacher, in every backend that each can export to.

    python benchmarks/peers.py --out runs/race --peers runs/peers --data SCREW --weights RESNET18 \
        --ours rd-lite0=MODEL rd-resnet18=MODEL [--threads 2] [--rounds 3] [--seconds 4]
    python benchmarks/peers.py --out runs/race_short --no-wide --rounds 1 --seconds 1

Without ``--data`` the images come from a seed and all weights are random: for speed alone.

1. *Prepare*, once, kept under ``--out``: anomalib's PaDiM, PatchCore, CFA and ReverseDistillation are fitted on the images
   that ours was trained on, with the teacher of ``--weights`` (``peers_shift.py`` does the same, and its fits serve here);
   EfficientAD (whose fit fetches a teacher and a part of ImageNet) and the WideResNet-50-2 pair have random weights, for
   speed alone (no AUROC). Each is exported with its own
   exporter; one that refuses is listed with its reason. anomalib's OpenVINO graphs also run in bfloat16, where the processor
   has that, and in 8 bits, made as its own exporter makes them: NNCF's defaults on images that it was fitted on.
2. *Race*: in each round every contender runs once in a process of its own; odd rounds go backwards. A process loads the
   model, inspects one image at a time for ``--seconds``, then eight at a time. Pixels lie decoded in memory, 256x256.
3. *Score*: the test images through each contender, once: image AUROC of what it says in that very backend.

Prints ratios first, then the figures: medians over the rounds. anomalib's models are read back from its own files, which
are pickles: do not point this at files of others.

needs ``pip install anomalib==2.7.0`` beside shiftproof[export].
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (256, 256)
WARM_UP, AT_LEAST, TOGETHER = 3, 20, 8
LOST = 0.002  # of image AUROC, at most, for a backend to count as a contender's best
IMAGES = 32  # to fit on where there is no data
TRAINED = ("padim", "patchcore", "cfa", "reverse_distillation")
WIDE = "wide_resnet50_2"
Scores = Callable[[np.ndarray], np.ndarray]  # uint8 [B, H, W, 3] to image scores [B]


@dataclass(frozen=True)
class Contender:
    """A model in one backend."""

    name: str
    backend: str  # torch, onnx, openvino, and with less precise numbers
    path: str  # shiftproof's model folder, or the file that anomalib exported
    ours: bool
    accuracy: bool  # whether its weights are trained, so that an AUROC says something
    bytes: int | None = None  # on disk, of all that this backend needs
    fit_seconds: float | None = None
    failure: str | None = None  # why there is none
    sound: bool = True  # whether it says what the model says: shiftproof's gate

    def __str__(self) -> str:
        return f"{self.name}, {self.backend}"


def main() -> None:
    """Prepare what is missing, race, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="category with test images; without, nothing is trained")
    parser.add_argument("--weights", type=Path, help="file with the ResNet-18 teacher's weights")
    parser.add_argument("--peers", type=Path, help="kept cells of peers_shift.py, whose fits are used again")
    parser.add_argument("--ours", nargs="+", default=[], metavar="NAME=MODEL", help="trained model folders")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="0 prints the last race again")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--only", nargs="+", help="names to race; all without")
    parser.add_argument("--no-wide", action="store_true", help="leave the WideResNet-50-2 pair out")
    parser.add_argument("--epochs", type=int, default=20, help="of anomalib's ReverseDistillation and CFA")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--score", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run or arguments.score:
        task = Contender(**json.loads(arguments.run or arguments.score))
        print(json.dumps(run(task, arguments) if arguments.run else score(task, arguments)))
        return
    if (arguments.data is None) != (arguments.weights is None):
        parser.error("--data and --weights go together: give both, or neither")
    arguments.trained = arguments.data is not None
    contenders = prepare(arguments)
    if arguments.only:
        contenders = [one for one in contenders if one.name in arguments.only]
    figures = race(contenders, arguments)
    print_tables(contenders, figures, scored(list(figures), arguments), arguments)


# --- prepare ---------------------------------------------------------------------------------------------------------


def prepare(arguments: argparse.Namespace) -> list[Contender]:
    """All contenders, fitted and exported; what is there from before is used again."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    fitted, tests = arguments.out / "fit.npy", arguments.out / "test.npz"
    if not arguments.trained:
        make_up(arguments)
    elif not tests.is_file():
        from shiftproof.calibration import split_calibration
        from shiftproof.data import decode_images, good_images, labelled_images

        paths = good_images(arguments.data)
        chosen, _ = split_calibration(len(paths), 0)
        np.save(fitted, decode_images([paths[i] for i in chosen], SIZE).pixels)
        samples = labelled_images(arguments.data).images
        pixels = decode_images([sample.path for sample in samples], SIZE).pixels
        np.savez(tests, pixels=pixels, defective=[sample.defective for sample in samples])
    found: list[Contender] = []
    for pair in arguments.ours:
        name, _, folder = pair.partition("=")
        found += ours(f"shiftproof {name}", Path(folder), arguments)
    for name in TRAINED:
        found += theirs(name, arguments)
    found += theirs("efficient_ad", arguments)
    if not arguments.no_wide:
        found += ours(f"shiftproof rdpp {WIDE}", untrained(arguments.out, WIDE, "rdpp"), arguments, wide=True)
        found += theirs(f"reverse_distillation {WIDE}", arguments)
    return found


def ours(name: str, folder: Path, arguments: argparse.Namespace, wide: bool = False) -> list[Contender]:
    """A model folder in torch and in all that it exports to."""
    from shiftproof.export import export_model
    from shiftproof.model_io import load_manifest
    from shiftproof.runtime import BACKENDS, has_bfloat16

    copy = arguments.out / name.replace(" ", "-")
    if not (copy / "exported").is_file():
        if not copy.is_dir():
            shutil.copytree(folder, copy)
        data = None if wide else arguments.data
        export_model(copy, int8=not wide, bf16=has_bfloat16(), data=data, force=True)
        (copy / "exported").touch()
    manifest, trained = load_manifest(copy), arguments.trained and not wide
    about: dict[str, Any] = {"ours": True, "accuracy": trained, "path": str(copy)}
    about["fit_seconds"] = manifest["training"]["seconds"] if trained else None
    found = [Contender(name, "torch", bytes=(copy / "weights.safetensors").stat().st_size, **about)]
    for backend in manifest["exports"]:
        size = sum((copy / file).stat().st_size for file in BACKENDS[backend].files)
        sound = manifest["exports"][backend]["parity"]["passed"]
        found.append(Contender(name, backend, bytes=size, sound=sound, **about))
    return found


def make_up(arguments: argparse.Namespace) -> None:
    """Images, teacher and models of ours for a race without data."""
    from shiftproof.data import synthetic_images

    out = arguments.out
    fit, test = synthetic_images(SIZE, IMAGES, seed=0), synthetic_images(SIZE, TOGETHER, seed=1)
    np.save(out / "fit.npy", fit)
    np.savez(out / "test.npz", pixels=test, defective=[False] * len(test))
    for name, backbone in (("rd-lite0", "tf_efficientnet_lite0"), ("rd-resnet18", "resnet18")):
        arguments.ours.append(f"{name}={untrained(out, backbone, 'rd')}")
    arguments.data, arguments.weights = out / "images", out / "resnet18.safetensors"


def untrained(out: Path, backbone: str, method: str) -> Path:
    """A model with random weights, trained for one step: for speed alone."""
    folder, weights, images = out / f"untrained-{backbone}", out / f"{backbone}.safetensors", out / "images"
    if not (folder / "weights.safetensors").is_file():
        import timm
        import torch
        from safetensors.torch import save_file

        from shiftproof.data import synthetic_images, write_image
        from shiftproof.pipelines import train as pipeline

        torch.manual_seed(0)
        network = timm.create_model(backbone, pretrained=False, features_only=True, out_indices=(1, 2, 3))
        save_file(network.state_dict(), weights)
        for number, image in enumerate(synthetic_images(SIZE, IMAGES, seed=0)):
            write_image(images / f"{number}.png", image)
        options: dict[str, Any] = {"weights": weights, "steps": 1, "image_size": f"{SIZE[0]}x{SIZE[1]}"}
        name = f"{backbone}.{'in1k' if backbone.startswith('tf') else 'tv_in1k'}"
        if backbone == WIDE:  # as anomalib builds its bottleneck
            options["student"] = "narrow"
        pipeline.train(images, folder, method=method, backbone=name, overwrite=True, **options)
    return folder


def theirs(name: str, arguments: argparse.Namespace) -> list[Contender]:
    """One of anomalib's models, in torch and in all that it exports to."""
    folder = arguments.out / f"anomalib-{name.replace(' ', '-')}"
    kept = folder / "contenders.json"
    if kept.is_file():
        return [Contender(**each) for each in json.loads(kept.read_text())]
    module, fit_seconds = fit_theirs(name, arguments)
    about: dict[str, Any] = {
        "name": f"anomalib {name}",
        "ours": False,
        "accuracy": arguments.trained and name in TRAINED,
    }
    found = []
    fixed = {"dynamic_shapes": None}  # one image at a time: left to itself it fixes some graphs to two
    exporters: dict[str, Callable[[], Path]] = {
        "torch": lambda: module.to_torch(folder),
        "onnx": lambda: module.to_onnx(folder, input_size=SIZE, **fixed),
        "openvino": lambda: module.to_openvino(folder, input_size=SIZE, onnx_kwargs=fixed),
    }
    for backend, export in exporters.items():
        try:
            path = export()
            size = sum(file.stat().st_size for file in path.parent.glob("*"))
            one = Contender(backend=backend, path=str(path), bytes=size, fit_seconds=fit_seconds, **about)
        except Exception as error:  # whatever its exporter comes to is a finding
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            one = Contender(backend=backend, path="", fit_seconds=fit_seconds, failure=reason, **about)
        found.append(one)
    if found[-1].failure is None:
        found += rounded(found[-1], arguments)
    kept.write_text(json.dumps([asdict(one) for one in found], indent=1))
    return found


def rounded(one: Contender, arguments: argparse.Namespace) -> list[Contender]:
    """One of anomalib's OpenVINO graphs in bfloat16, and those that are fitted here in 8 bits."""
    import nncf
    import openvino

    from shiftproof.runtime import has_bfloat16

    found = [replace(one, backend="openvino-bf16")] if has_bfloat16() else []
    if not one.name.endswith(TRAINED):
        return found
    images = np.load(arguments.out / "fit.npy")
    small = Path(one.path).parent.with_name("openvino-int8") / "model.xml"
    try:
        model = openvino.Core().read_model(one.path)
        calibration = nncf.Dataset(list(images), lambda image: planes(image[None]))
        openvino.save_model(nncf.quantize(model, calibration), small)
        size = sum(file.stat().st_size for file in small.parent.glob("*"))
        return [*found, replace(one, backend="openvino-int8", path=str(small), bytes=size)]
    except Exception as error:  # whatever it comes to is a finding
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        return [*found, replace(one, backend="openvino-int8", path="", bytes=None, failure=reason)]


def fit_theirs(name: str, arguments: argparse.Namespace) -> tuple[Any, float | None]:
    """Anomalib's module with a fitted torch model inside, and the seconds of the fit.

    It has no post-processing, so that scores stay as they are.
    """
    import torch
    from anomalib.models import Cfa, EfficientAd, Padim, Patchcore, ReverseDistillation

    bare = {"post_processor": False, "evaluator": False, "visualizer": False, "pre_processor": True}
    layers = ["layer1", "layer2", "layer3"]
    if name == "efficient_ad":
        return EfficientAd(**bare).eval(), None
    if name.endswith(WIDE):
        torch.manual_seed(0)
        module = ReverseDistillation(backbone=WIDE, layers=layers, pre_trained=False, **bare)
        return module.eval(), None
    from peers_shift import BACKBONE, LAYERS, cell_name, fitted, without_downloads

    from shiftproof.networks.teacher import load_teacher

    torch.set_num_threads(arguments.threads)
    teacher, _ = load_teacher(BACKBONE, arguments.weights)
    settings = argparse.Namespace(epochs=arguments.epochs, image_size=str(SIZE[0]), seed=0)
    cell = (arguments.peers or arguments.out) / cell_name(arguments.data, name, settings)
    peer, seconds, _ = fitted(cell, name, teacher, np.load(arguments.out / "fit.npy"), arguments.epochs, 0)
    if name == "cfa":
        with without_downloads():
            module = Cfa(backbone="resnet18", **bare)
        module.model = peer.model
        return module.eval(), seconds
    kind = {"padim": Padim, "patchcore": Patchcore, "reverse_distillation": ReverseDistillation}[name]
    module = kind(backbone="resnet18", layers=LAYERS[1:] if name == "patchcore" else LAYERS, pre_trained=False, **bare)
    module.model = peer.model
    return module.eval(), seconds


# --- race ------------------------------------------------------------------------------------------------------------


def race(contenders: list[Contender], arguments: argparse.Namespace) -> dict[Contender, dict[str, float]]:
    """Median figures over the rounds, kept in ``race.json``; a contender that does not run is left out, and said."""
    kept = arguments.out / "race.json"
    if not arguments.rounds:
        known: dict[str, dict[str, float]] = json.loads(kept.read_text())
        return {one: known[str(one)] for one in contenders if str(one) in known}
    runs: dict[Contender, list[dict[str, float]]] = {one: [] for one in contenders if one.failure is None}
    for number in range(arguments.rounds):
        for one in list(runs) if number % 2 == 0 else list(reversed(runs)):
            try:
                runs[one].append(ask("--run", one, arguments))
            except subprocess.CalledProcessError:
                del runs[one]
                print(f"# {one}: exported, but does not run", flush=True)
                continue
            print(f"# round {number + 1}: {one}: {runs[one][-1]['p50']:.1f} ms", flush=True)
    medians = {
        one: {key: statistics.median(run[key] for run in found) for key in found[0]} for one, found in runs.items()
    }
    kept.write_text(json.dumps({str(one): found for one, found in medians.items()}, indent=1))
    return medians


def scored(contenders: list[Contender], arguments: argparse.Namespace) -> dict[Contender, float]:
    """Image AUROC of each trained contender on the test images; kept, for it does not depend on the clock."""
    kept = arguments.out / "auroc.json"
    known: dict[str, float] = json.loads(kept.read_text()) if kept.is_file() else {}
    for one in contenders:
        if one.accuracy and one.failure is None and str(one) not in known:
            known[str(one)] = ask("--score", one, arguments)["auroc"]
            kept.write_text(json.dumps(known, indent=1))
    return {one: known[str(one)] for one in contenders if str(one) in known}


def ask(what: str, one: Contender, arguments: argparse.Namespace) -> dict[str, float]:
    """One contender in a process of its own."""
    settings = ["--out", arguments.out, "--data", arguments.data, "--weights", arguments.weights]
    settings += ["--threads", arguments.threads, "--seconds", arguments.seconds]
    command = [sys.executable, __file__, *map(str, settings), what, json.dumps(asdict(one))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(one: Contender, arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds until the first verdict, latency one by one, throughput by eights, peak memory."""
    from shiftproof.profiling.measure import peak_memory

    pixels = np.load(arguments.out / "test.npz")["pixels"][:TOGETHER]
    started = time.perf_counter()
    scores = open_contender(one, arguments.threads)
    scores(pixels[:1])
    cold = time.perf_counter() - started
    for _ in range(WARM_UP):
        scores(pixels[:1])
    times: list[float] = []
    end = time.perf_counter() + arguments.seconds
    while len(times) < AT_LEAST or time.perf_counter() < end:
        turn = len(times) % TOGETHER
        started = time.perf_counter()
        scores(pixels[turn : turn + 1])
        times.append(1000 * (time.perf_counter() - started))
    found = {"cold": cold, "p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}
    scores(pixels)
    images, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < arguments.seconds:
        images += len(scores(pixels))
    return {**found, "throughput": images / taken, "memory": (peak_memory() or 0) / 2**20}


def score(one: Contender, arguments: argparse.Namespace) -> dict[str, float]:
    """Image AUROC on the test images."""
    from shiftproof.metrics import image_metrics

    tests = np.load(arguments.out / "test.npz")
    pixels, defective = tests["pixels"], tests["defective"]
    scores = open_contender(one, arguments.threads)
    values = [float(scores(pixels[i : i + 1])[0]) for i in range(len(pixels))]
    return {"auroc": image_metrics(defective, values)["auroc"] or 0.0}


def open_contender(one: Contender, threads: int) -> Scores:
    """What looks at pixels, uint8 [B, H, W, 3], and gives image scores [B]."""
    if one.ours:
        from shiftproof.loading import load

        detector = load(one.path, one.backend, threads=threads)
        return lambda pixels: detector.maps_and_scores(pixels)[1]
    if one.backend == "torch":
        import torch

        torch.set_num_threads(threads)
        module = torch.load(one.path, weights_only=False)["model"].eval()

        @torch.inference_mode()
        def in_torch(pixels: np.ndarray) -> np.ndarray:
            return module(torch.from_numpy(planes(pixels))).pred_score.flatten().numpy()

        return in_torch
    if one.backend == "onnx":
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(one.path, options, providers=["CPUExecutionProvider"])
        inlet = session.get_inputs()[0].name
        return one_by_one(lambda image: session.run(["pred_score"], {inlet: image})[0])
    import openvino

    precision = "bf16" if one.backend.endswith("bf16") else "f32"
    hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(one.path, "CPU", hints)
    return one_by_one(lambda image: compiled({0: image})["pred_score"])


def one_by_one(call: Callable[[np.ndarray], np.ndarray]) -> Scores:
    """A graph with a fixed batch of one, for any number of images."""
    return lambda pixels: np.concatenate([np.ravel(call(planes(image[None]))) for image in pixels])


def planes(pixels: np.ndarray) -> np.ndarray:
    """What anomalib's modules take: float32 [B, 3, H, W] in [0, 1]; they normalise themselves."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)


# --- print -----------------------------------------------------------------------------------------------------------


def print_tables(
    contenders: list[Contender],
    figures: dict[Contender, dict[str, float]],
    accuracy: dict[Contender, float],
    arguments: argparse.Namespace,
) -> None:
    """Ratios of latency to each peer at its best, then all figures, then what could not be exported."""
    names = dict.fromkeys(one.name for one in figures)
    in_torch = {one.name: accuracy[one] for one in accuracy if one.backend == "torch"}
    refused = {one for one in figures if not one.sound or in_torch.get(one.name, 0) - accuracy.get(one, 1) > LOST}
    limit = f"loses at most {LOST} of image AUROC"
    if not arguments.trained:  # what fewer bits cost is not known here
        refused |= {one for one in figures if one.backend.endswith(("int8", "bf16"))}
        limit = "computes in float32"
    sound = [one for one in figures if one not in refused]
    best = {name: min((one for one in sound if one.name == name), key=lambda o: figures[o]["p50"]) for name in names}
    peers = [one for one in best.values() if not one.ours]
    print(f"\n{arguments.threads} threads, 256x256, medians of {arguments.rounds} alternating rounds\n")
    print(f"Times as fast, one image at a time, each at its best backend that {limit}:\n")
    print("| | " + " | ".join(f"{one.name} ({one.backend})" for one in peers) + " |\n|" + "---|" * (len(peers) + 1))
    for one in (each for each in best.values() if each.ours):
        ratios = [f"{figures[peer]['p50'] / figures[one]['p50']:.1f}" for peer in peers]
        print(f"| {one.name} ({one.backend}) | " + " | ".join(ratios) + " |")
    print(
        "\n| model | backend | p50 ms | p99 ms | images/s | load + first s | peak MiB | disk MiB | fit s | image AUROC |"
    )
    print("|" + "---|" * 10)
    for one, found in figures.items():
        row = [f"{found[key]:.{digits}f}" for key, digits in FIGURES]
        row.append("-" if one.bytes is None else f"{one.bytes / 2**20:.1f}")
        row.append("-" if one.fit_seconds is None else f"{one.fit_seconds:.0f}")
        row.append(f"{accuracy[one]:.4f}" if one in accuracy else "-")
        backend = (
            f"{one.backend} ({'loses too much' if arguments.trained else 'unchecked'})"
            if one in refused
            else one.backend
        )
        print("| " + " | ".join([one.name, backend, *row]) + " |")
    for one in contenders:
        if one.failure:
            print(f"\n{one.name} to {one.backend}: {one.failure}")


FIGURES = (("p50", 2), ("p99", 2), ("throughput", 1), ("cold", 2), ("memory", 0))

if __name__ == "__main__":
    main()
