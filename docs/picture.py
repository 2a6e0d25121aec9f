"""Makes the README's picture from the demo: python docs/picture.py runs/demo docs/solar_cells.png

Nothing is picked by hand: the first two good cells of the test set, and the defective ones that lie at even steps of the
ranking by score, the highest first.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

import shiftproof
from shiftproof.data import read_image, resize_image, write_image
from shiftproof.report.heatmap import overlay

SIDE, GAP = 176, 6


def main(demo: Path, out: Path) -> None:
    """Compose and write the picture."""
    detector = shiftproof.load(demo / "model")
    with (demo / "evaluation" / "scores.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    good = [row["path"] for row in rows if row["label"] == "good"][:2]
    ranked = sorted((row for row in rows if row["label"] == "defective"), key=lambda row: -float(row["score"]))
    defective = [ranked[round(step * (len(ranked) - 1))]["path"] for step in (0, 0.2, 0.4, 0.6)]
    scale = detector.calibration.map_low, detector.calibration.map_high
    columns = []
    for name in good + defective:
        image = read_image(demo / "data" / name)
        heat = overlay(image, detector.inspect(image).anomaly_map, *scale)
        pair = [resize_image(picture, (SIDE, SIDE)) for picture in (image, heat)]
        columns.append(np.concatenate([pair[0], np.full((GAP, SIDE, 3), 255, np.uint8), pair[1]]))
    gap = np.full((len(columns[0]), GAP, 3), 255, np.uint8)
    row = [part for column in columns for part in (column, gap)][:-1]
    write_image(out, np.concatenate(row, axis=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
