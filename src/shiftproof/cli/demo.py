"""The demonstration: monocrystalline solar cells under electroluminescence, from the package ``elpv-dataset``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.errors import DataError
from shiftproof.pipelines import evaluate, predict
from shiftproof.pipelines.train import train
from shiftproof.reporter import Reporter

STEPS = 400  # of the schedule's 1,200: what six minutes on two cores allow
SHIFTS = "paper"  # clean, and the papers' five shifts
MARK = ".shiftproof-demo"  # in a folder that may be replaced
TRAINED_SHARE = 0.7  # of the good cells


def run(out: Path, seed: int, reporter: Reporter) -> tuple[dict[str, Any], list[str]]:
    """Lay out the cells, train, evaluate, predict.

    Returns:
        the content of ``metrics.json``, and lines that say what lies where.
    """
    data, model = out / "data", out / "model"
    again = (data / MARK).is_file()
    counts = lay_out_solar_cells(data, seed)
    reporter.info(
        f"solar cells (elpv-dataset, CC BY-NC-SA 4.0: not for commercial use): {counts['train/good']} good to learn from, "
        f"{counts['test/good']} good and {counts['test/defective']} defective to be tested on"
    )
    detector = train(data, model, overwrite=again, seed=seed, steps=STEPS, reporter=reporter)
    reporter.info(detector.calibration.sentence())
    found = evaluate(
        detector,
        data,
        out / "evaluation",
        shifts=SHIFTS,
        title="Solar cells, monocrystalline",
        on_progress=reporter.counter("evaluating"),
    )
    images = sorted((data / "test" / "defective").iterdir())[:24]
    predict(detector, images, out / "prediction", title="24 solar cells")
    lines = [
        f"report: {out / 'evaluation' / 'report.html'}",
        f"heatmaps of 24 cells: {out / 'prediction' / 'report.html'}",
        f"model: {model} (look at your own images: shiftproof predict {model} IMAGES --out DIR)",
    ]
    return found.metrics, lines


def lay_out_solar_cells(data: Path, seed: int) -> dict[str, int]:
    """Lay the cells out as a category: probability 0 is good, 1 defective; those in between are left out.

    70 % of the good are to train on, drawn by the seed. Returns the number of images of each folder.
    """
    try:
        import elpv_dataset
    except ImportError as error:
        raise DataError("the demo's images are in the package elpv-dataset: pip install 'shiftproof[demo]'") from error
    source = Path(elpv_dataset.__file__).parent / "data"
    rows = [line.split() for line in (source / "labels.csv").read_text().splitlines()]
    by_label = {
        wanted: [source / path for path, probability, kind in rows if kind == "mono" and float(probability) == wanted]
        for wanted in (0.0, 1.0)
    }
    good = [by_label[0.0][i] for i in np.random.default_rng(seed).permutation(len(by_label[0.0]))]
    trained = round(TRAINED_SHARE * len(good))
    folders = {"train/good": good[:trained], "test/good": good[trained:], "test/defective": by_label[1.0]}
    if data.exists():
        if not (data / MARK).is_file():
            raise DataError(f"{data} exists and no demo made it: choose another --out")
        shutil.rmtree(data)
    data.mkdir(parents=True)
    (data / MARK).touch()
    for folder, paths in folders.items():
        (data / folder).mkdir(parents=True)
        for path in paths:
            try:
                (data / folder / path.name).symlink_to(path)
            except OSError:  # a file system without links
                shutil.copyfile(path, data / folder / path.name)
    return {folder: len(paths) for folder, paths in folders.items()}
