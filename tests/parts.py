"""A made-up product: slanting stripes; its defect is a bright scratch."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
# What makes a training last a second: as few pixels, steps and images as there can be.
QUICK = ("--image-size", str(SIDE), "--steps", "6", "--batch-size", "4", "--precision", "32")


def texture(seed: int, side: int = SIDE) -> NDArray[np.uint8]:
    """A good part, uint8 [side, side, 3]: slanting stripes and a little noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    stripes = 110 + 40 * np.sin((x + 2 * y) / 5 + random.uniform(0, 6))
    return np.clip(stripes[..., None] + random.normal(0, 4, (side, side, 3)), 0, 255).astype(np.uint8)


def scratched(seed: int, side: int = SIDE) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A defective part, and its mask uint8 [side, side] of 0 and 255: a bright scratch, three pixels wide."""
    image = texture(seed, side)
    y, x = np.mgrid[:side, :side]
    scratch = (abs(x - y - seed % 9) <= 1) & (x > 16) & (x < 44)
    image[scratch] = (250, 245, 240)
    return image, scratch.astype(np.uint8) * 255


def save(path: Path, pixels: NDArray[Any]) -> Path:
    """Write pixels as an image; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def lay_out(root: Path) -> Path:
    """A category as MVTec AD lays it out: 10 images to train on, 4 good and 3 scratched ones to test on, with masks."""
    for number in range(10):
        save(root / "train" / "good" / f"{number:03}.png", texture(number))
    for number in range(4):
        save(root / "test" / "good" / f"{number:03}.png", texture(100 + number))
    for number in range(3):
        image, mask = scratched(200 + number)
        save(root / "test" / "scratch" / f"{number:03}.png", image)
        save(root / "ground_truth" / "scratch" / f"{number:03}_mask.png", mask)
    return root


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def weights_sha256(model: Path) -> str:
    """What the manifest says of the weights."""
    return str(read_json(model / "model.json")["files"]["weights.safetensors"]["sha256"])
