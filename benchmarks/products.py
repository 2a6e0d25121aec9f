r"""The figure of merit over many products: defects found at the false-alarm rate that was asked for, and image AUROC.

    python benchmarks/products.py --out runs/products --data DATA/screw DATA/tire ... --methods memory rd \
        [--image-size auto] [--seeds 0 1 2] [--shifts paper] [--set steps=400] [--threshold-mode conditional]

A cell is a product, a method, its settings and a seed; a finished cell is not computed again. Protocol: blind (one fixed
schedule, last weights, no test image before the evaluation). Products whose names agree up to the first underscore and
begin with a name of --together count as one in the means. Products are categories in the layout
of MVTec AD; only their image labels are used, so that sets with few masks or none count.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.config import CONFIGS, TrainConfig, parse_settings, typed_settings
from shiftproof.data import read_image
from shiftproof.loading import load
from shiftproof.metrics import image_metrics, rates_at
from shiftproof.pipelines.train import train
from shiftproof.shifts import Condition, parse_conditions

COLUMNS = ("auroc", "false_alarm_rate", "detection_rate", "detection_rate_best")


def compute(cell: Path, data: Path, method: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one cell; its folder keeps the model and ``cell.json``."""
    settings = parse_settings(arguments.set)
    schedule = {name: value for name, value in settings.items() if name in TrainConfig.__dataclass_fields__}
    own = {name: value for name, value in settings.items() if name not in schedule}
    typed: dict[str, Any] = {**typed_settings(TrainConfig, schedule), **typed_settings(CONFIGS[method], own)}
    started = time.process_time()
    if not (cell / "model" / "model.json").is_file():
        train(
            data,
            cell / "model",
            method=method,
            image_size=arguments.image_size,
            seed=seed,
            conditional=arguments.conditional,
            overwrite=True,
            **typed,
        )
    seconds = time.process_time() - started
    detector = load(cell / "model")
    conditions = parse_conditions(arguments.shifts)
    labels, scores, flagged = [], defaultdict(list), defaultdict(list)
    for path in sorted(path for folder in (data / "test").iterdir() for path in folder.iterdir()):
        image = read_image(path)
        labels.append(path.parent.name != "good")
        shifted = [_apply(condition, image, seed, path.name) for condition in conditions]
        for condition, result in zip(conditions, detector.stream(iter(shifted)), strict=True):
            scores[condition.name].append(result.score)
            flagged[condition.name].append(result.defective)
    found = {name: {"scores": scores[name], "flagged": flagged[name]} for name in scores}
    entry = {
        "data": data.name,
        "method": " ".join([method, *arguments.set]),
        "size": list(detector.image_size),
        "seed": seed,
        "processor_seconds": seconds,
        "target": detector.calibration.target,
        "labels": labels,
        "conditions": found,
    }
    (cell / "cell.json").write_text(json.dumps(entry))
    return entry


def _apply(condition: Condition, image: np.ndarray, seed: int, name: str) -> np.ndarray:
    return condition.apply(image, None, seed=seed, image_name=name).image


def figures(entry: dict[str, Any]) -> dict[str, list[float]]:
    """The columns of each condition of a cell, and their means over the shifted ones under "shifted"."""
    labels = np.array(entry["labels"], dtype=bool)
    rows = {}
    for name, found in entry["conditions"].items():
        scores, flagged = np.array(found["scores"]), np.array(found["flagged"], dtype=bool)
        rates = rates_at(labels, scores, flagged, entry["target"])
        auroc = image_metrics(labels, scores)["auroc"]
        rows[name] = [float(auroc or 0.0), *(float(rates[column] or 0.0) for column in COLUMNS[1:])]
    shifted = [row for name, row in rows.items() if name != "clean"]
    if shifted:
        rows["shifted"] = np.mean(shifted, axis=0).tolist()
    return rows


def print_table(entries: Sequence[dict[str, Any]], together: Sequence[str]) -> None:
    """A line for each product and a mean for each method, clean and shifted; seeds are averaged."""
    groups: dict[str, dict[str, list[dict[str, list[float]]]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        kind = f"{entry['method']} {'x'.join(map(str, entry['size']))}"
        product = next((name for name in together if entry["data"].startswith(name)), entry["data"])
        groups[entry["method"]][product].append(figures(entry))
        print(f"{kind:40} {entry['data']:16} seed {entry['seed']}  {_line(figures(entry))}")
    for method, products in groups.items():
        means = [
            {name: np.mean([row[name] for row in rows], axis=0).tolist() for name in rows[0]}
            for rows in products.values()
        ]
        total = {name: np.mean([mean[name] for mean in means], axis=0).tolist() for name in means[0]}
        print(f"{method:40} mean of {len(means):<8}         {_line(total)}")


def _line(rows: dict[str, list[float]]) -> str:
    """AUROC; false alarms, found and the best that could be found, in per cent."""
    parts = []
    for name in ("clean", "shifted"):
        if name in rows:
            auroc, *rates = rows[name]
            parts.append(f"{name} {auroc:.3f}; " + ", ".join(f"{100 * rate:4.1f}" for rate in rates))
    return "   ".join(parts)


def main() -> None:
    """Compute the missing cells, and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", default=["memory"])
    parser.add_argument("--image-size", default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--shifts", default="paper")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--conditional", default="none")
    parser.add_argument("--together", nargs="*", default=["piped"], help="products that begin so count as one")
    arguments = parser.parse_args()
    entries = []
    for data in arguments.data:
        for method in arguments.methods:
            for seed in arguments.seeds:
                settings = "_".join([method, str(arguments.image_size), arguments.conditional, *arguments.set])
                cell = arguments.out / f"{data.name}_{settings}_{seed}"
                if (cell / "cell.json").is_file():
                    entries.append(json.loads((cell / "cell.json").read_text()))
                else:
                    entries.append(compute(cell, data, method, seed, arguments))
                    print(f"{cell.name}: {_line(figures(entries[-1]))}", flush=True)
    print_table(entries, arguments.together)


if __name__ == "__main__":
    main()
