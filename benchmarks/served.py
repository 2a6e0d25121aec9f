"""A station in a process of its own, for the scripts beside this one."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

_READY = re.compile(r"serving .* at (http://\S+);")


class Served:
    """``shiftproof serve`` on a free port, from its ready line on.

    Args:
        model: folder.
        data: the station's.
        options: further ones of the command.
    """

    def __init__(self, model: Path, data: Path, *options: str):
        command = [
            sys.executable,
            "-m",
            "shiftproof",
            "serve",
            str(model),
            "--data-dir",
            str(data),
            "--port",
            "0",
            *options,
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "400"}
        )
        self.lines: list[str] = []
        self.url = self._url()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """As a power switch would: SIGKILL."""
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(90)
        self._reader.join(10)
        return code

    def _url(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if found := _READY.match(line):
                return found[1]
        raise SystemExit(f"the station did not start: {' '.join(self.lines)[-2000:]}")

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += [line.rstrip() for line in self.process.stdout]


@contextlib.contextmanager
def served(model: Path, data: Path, *options: str) -> Iterator[Served]:
    """A station that is stopped at the end, whatever happens."""
    station = Served(model, data, *options)
    try:
        yield station
    finally:
        if station.process.poll() is None:
            station.kill()


def picture(seed: int, size: tuple[int, int] = (64, 64), kind: str = "PNG") -> bytes:
    """An image of slanting stripes and noise; each seed is another one."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    stripes = 110 + 40 * np.sin((x + 2 * y) / 5 + random.uniform(0, 6))
    pixels = np.clip(stripes[..., None] + random.normal(0, 4, (*size, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()
