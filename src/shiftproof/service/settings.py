"""What a station is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from shiftproof.loading import LoadOptions

MEBIBYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """What a client may send, at most."""

    files: int = 64  # in one request
    file_bytes: int = 32 * MEBIBYTE  # of one file
    body_bytes: int = 128 * MEBIBYTE  # of one request
    waiting_bytes: int = 512 * MEBIBYTE  # of uploads that are in memory at once, over all requests
    pixels: int = 50_000_000  # that an image's header may claim
    silence: float = 20.0  # seconds that a client may send nothing in the middle of its request
    duration: float = 300.0  # seconds that a request may take to come


@dataclass(frozen=True)
class Settings:
    """What a station is told when it starts."""

    models: tuple[Path, ...]  # model folders; a model's name is its folder's
    data: Path  # folder of images, maps and the SQLite file
    database: str | None = None  # SQLAlchemy URL of SQLite or PostgreSQL; None: SQLite in `data`
    host: str = "127.0.0.1"  # address to listen on
    port: int = 8000  # 0: any that is free
    token: str | None = None  # that clients must show; None only on loopback
    public_hosts: tuple[str, ...] = ()  # names under which a reverse proxy makes a station on loopback known
    options: LoadOptions = field(default_factory=LoadOptions)  # how the models are loaded
    queue: int = 256  # images that may wait for a model
    batch: int = 8  # images that go through a model at once, at most
    batch_wait: float = 0.002  # seconds that an image waits for others to join it
    retention_bytes: int = 20 * 1024 * MEBIBYTE  # of images and maps on disk, at most
    reload_seconds: float = 2.0  # between two looks at the model folders
    limits: Limits = field(default_factory=Limits)
