"""A station with a detector that is quick and does what a test tells it, on both databases."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from shiftproof.calibration import Calibration
from shiftproof.detector import Detector
from shiftproof.errors import ModelError
from shiftproof.service.api import create_app
from shiftproof.service.settings import Settings
from shiftproof.service.station import Station

SIZE = (32, 64)
CALIBRATION = Calibration.from_scores(np.linspace(0.3, 0.5, 100), map_low=0.0)
GOOD, BAD = 60, 250  # brightness of parts


@dataclass
class Brightness:
    """A backend whose anomaly map is how bright each pixel is; it stops where a test holds it."""

    name: str = "torch"
    image_size: tuple[int, int] = SIZE
    calls: int = 0  # those that a test holds included
    batches: list[int] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    fault: Exception | None = None

    def __post_init__(self) -> None:
        self.open.set()

    def maps_and_scores(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        self.calls += 1
        assert self.open.wait(30)
        if self.fault is not None:
            raise self.fault
        self.batches.append(len(pixels))
        maps = pixels.mean(axis=3, dtype=np.float32) / 255
        return maps, maps.max(axis=(1, 2)).astype(np.float64)


def png(brightness: int = GOOD, size: tuple[int, int] = (40, 60), seed: int = 0) -> bytes:
    """A part as PNG: dark noise, with a spot of some brightness; each seed is another image."""
    pixels = np.random.default_rng(seed).integers(40, 60, (*size, 3), dtype=np.uint8)
    pixels[8:16, 24:36] = brightness
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_model(folder: Path, **content: object) -> Path:
    """A model folder as far as a station looks: other content is another version."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(content))
    return folder


@dataclass
class Bench:
    """A station for tests, and what it is made of."""

    settings: Settings
    backend: Brightness

    def load(self, folder: Path) -> Detector:
        content = json.loads((folder / "model.json").read_text())
        if "damaged" in content:
            raise ModelError(f"{folder} is damaged: copy it again")
        backend = replace(self.backend, image_size=tuple(content["size"])) if "size" in content else self.backend
        manifest = {"method": "rd", "config": {"backbone": "toy", "image_size": list(backend.image_size)}, **content}
        return Detector(backend, CALIBRATION, manifest)

    @contextmanager
    def running(self, **changes: Any) -> Iterator[TestClient]:
        """The station with other settings, and a client; `client.app.state.station` is the station."""
        station = Station(replace(self.settings, **changes), self.load)
        with TestClient(create_app(station), base_url="http://localhost") as client:
            yield client


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """The URL of an empty database: None for the default, SQLite; and one of PostgreSQL."""
    if request.param == "sqlite":
        return None
    make: Callable[[], str] = request.getfixturevalue("postgresql")
    return make()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """On SQLite."""
    settings = Settings(models=(make_model(tmp_path / "models" / "part"),), data=tmp_path / "data", reload_seconds=0.05)
    return Bench(settings, Brightness())


@pytest.fixture
def client(bench: Bench, database: str | None) -> Iterator[TestClient]:
    """Of a station on each database."""
    with bench.running(database=database) as client:
        yield client


@pytest.fixture
def part() -> Callable[..., bytes]:
    """Makes a PNG; see :func:`png`."""
    return png
