"""A detector that needs no networks, and parts that arrive."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftproof.data import ImageProfile
from shiftproof.results import Inspection


class BrightnessDetector:
    """Scores an image by its mean level; above 128 it is defective."""

    bits = None
    profile: ImageProfile | None = None

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[Inspection]:
        for image in images:
            score = float(image.mean())
            yield Inspection(
                score=score,
                p_value=1 - score / 256,
                threshold=128.0,
                defective=score > 128,
                anomaly_map=np.zeros(image.shape[:2], np.float32),
                mask=np.zeros(image.shape[:2], bool),
                latency_ms=1.0,
                pixels=np.resize(image, (32, 32, 3)),
            )


def png(level: int) -> bytes:
    """An image of one level."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def drop(path: Path, level: int = 50) -> Path:
    """A file that appears at once, as after a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}")
    hidden.write_bytes(png(level))
    hidden.rename(path)
    return path


@pytest.fixture
def detector() -> BrightnessDetector:
    return BrightnessDetector()
