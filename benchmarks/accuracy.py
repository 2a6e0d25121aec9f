r"""Accuracy on real categories: trains and evaluates each cell once, keeps it, and prints the table of all kept cells.

    python benchmarks/accuracy.py --out runs/accuracy --data SCREW KSDD \
        --methods rd rdpp --seeds 0 1 2 [--image-size 256] [--backbone B --weights FILE] [--set ssot=off]

A cell is a category, a backbone, a method, its settings and a seed. The protocol is blind: the fixed schedule, the last
weights, no test image before the evaluation. A cell that is there is never computed again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from shiftproof.loading import CALIBRATION_WITHOUT_CORRECTION, load
from shiftproof.pipelines import evaluate
from shiftproof.pipelines import train as pipeline


def compute(cell: Path, data: Path, method: str, arguments: argparse.Namespace, seed: int) -> None:
    """Train and evaluate one cell; its folder keeps the model, ``metrics.json`` and the report."""
    options = {name: _value(text) for name, _, text in (pair.partition("=") for pair in arguments.set)}
    processor_seconds = None
    if (cell / "model" / "weights.safetensors").is_file():  # trained before, to be evaluated (again)
        detector = load(cell / "model")
    else:
        started = time.process_time()
        detector = pipeline.train(
            data,
            cell / "model",
            method=method,
            backbone=arguments.backbone,
            weights=arguments.weights,
            image_size=arguments.image_size,
            seed=seed,
            overwrite=True,
            **options,
            textures=arguments.textures,
            **({"steps": arguments.steps} if arguments.steps else {}),
        )
        processor_seconds = time.process_time() - started  # what else the machine does counts for less in it
    results = {"metrics": evaluate(detector, data, cell, shifts=arguments.shifts).metrics}
    if CALIBRATION_WITHOUT_CORRECTION in detector.manifest:
        bare = load(cell / "model", correction=False)
        results["without_correction"] = evaluate(
            bare, data, cell / "without_correction", shifts=arguments.shifts
        ).metrics
    facts = {
        "data": data.name,
        "backbone": arguments.backbone.split(".")[0],
        "method": " ".join([method, *arguments.set]),
        "size": "x".join(map(str, detector.image_size)),
        "seed": seed,
        "steps": detector.manifest["training"]["steps"],
        "seconds": detector.manifest["training"]["seconds"],
        "processor_seconds": processor_seconds,
        "precision": detector.manifest["training"]["precision"],
        **results,
    }
    (cell / "cell.json").write_text(json.dumps(facts, indent=1))


def _value(text: str) -> Any:
    """A setting's value as JSON reads it; what is no JSON is a word."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def print_shifts(out: Path) -> None:
    """Every kept cell that was evaluated under shifts: image AUROC and false alarms for each condition; seeds together."""
    groups: dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]] = {}
    for path in sorted(out.glob("*/cell.json")):
        cell = json.loads(path.read_text())
        for key, suffix in (("metrics", ""), ("without_correction", " --no-correction")):
            if "mean_shift" in cell.get(key, {}):
                group: tuple[str, ...] = (cell["data"], cell["backbone"], cell["method"] + suffix, str(cell["steps"]))
                groups.setdefault(group, []).append((str(cell["seed"]), cell[key]))
    if not groups:
        return
    names = list(next(iter(groups.values()))[0][1])
    print("| data | backbone | method | steps | seeds | " + " | ".join(names) + " | AUPRO 0.3: clean, mean |")
    print("|" + "---|" * (len(names) + 6))
    for about, found in groups.items():
        metrics = [each for _, each in found]
        values = [", ".join(seed for seed, _ in found)]
        for name in names:
            alarms = statistics.mean(each[name]["threshold"]["false_alarm_rate"] for each in metrics)
            values.append(f"{_spread([each[name]['image']['auroc'] for each in metrics], 3)}, {100 * alarms:.0f} %")
        pro = [_spread([each[name]["pixel"]["aupro_30"] for each in metrics], 3) for name in ("clean", "mean_shift")]
        print("| " + " | ".join([*about, *values, ", ".join(pro)]) + " |")


def print_table(out: Path) -> None:
    """Every kept cell, seeds together: mean, and standard deviation where there are several."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for path in sorted(out.glob("*/cell.json")):
        cell = json.loads(path.read_text())
        key = (cell["data"], cell["size"], cell["backbone"], cell["method"], str(cell["steps"]))
        groups.setdefault(key, []).append(cell)
    columns = [("image", "auroc"), ("pixel", "auroc"), ("pixel", "aupro_30"), ("pixel", "aupro_05")]
    rates = [("threshold", "false_alarm_rate"), ("threshold", "detection_rate")]
    print(
        "| data | size | backbone | method | steps | seeds | image AUROC | pixel AUROC | AUPRO 0.3 | AUPRO 0.05", end=""
    )
    print(" | false alarms | detected |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
    for group, cells in sorted(groups.items()):
        seeds = ", ".join(str(cell["seed"]) for cell in cells)
        values = [[cell["metrics"]["clean"][a][b] for cell in cells] for a, b in columns + rates]
        print("| " + " | ".join([*group, seeds, *map(_spread, values)]) + " |")


def _spread(values: list[float | None], digits: int = 4) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    text = f"{statistics.mean(known):.{digits}f}"
    return text if len(known) == 1 else f"{text} ± {statistics.stdev(known):.{digits}f}"


def main() -> None:
    """Compute what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--methods", nargs="*", default=["rd", "rdpp"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--backbone", default=pipeline.DEFAULT_BACKBONE)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--image-size", default="256")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--shifts", default="clean")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the method")
    parser.add_argument("--again", action="store_true", help="evaluate kept models again, with the code of today")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        for data in arguments.data:
            for method in arguments.methods:
                parts = [
                    data.name,
                    arguments.backbone.split(".")[0],
                    method,
                    *arguments.set,
                    str(arguments.steps),
                    str(seed),
                ]
                cell = arguments.out / "_".join(parts)
                if arguments.again or not (cell / "cell.json").is_file():
                    compute(cell, data, method, arguments, seed)
                    print(f"# done: {cell.name}", flush=True)
    print_table(arguments.out)
    print()
    print_shifts(arguments.out)


if __name__ == "__main__":
    main()
