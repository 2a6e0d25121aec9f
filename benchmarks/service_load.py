"""Sustained inspections in a second through the station, beside the bare runtime on the same images.

    python benchmarks/service_load.py MODEL [--seconds 20] [--rounds 3] [--clients 8] [--size 256] [--db URL]

Bare is ``Detector.predict`` on files: decoding, networks and verdict, as `shiftproof predict` has them, without drawing.
Served is one image a request over keep-alive connections, in a closed loop; each image is another one, so that each is
hashed, written, and committed. The two alternate on the same machine, the client's work included in what is served.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from served import picture, served

import shiftproof

DIFFERENT = 64  # images; copies of them differ in bytes behind their end, which no reader looks at


def bare(detector: shiftproof.Detector, images: list[Path], seconds: float) -> float:
    """Images in a second."""

    def endless() -> Iterator[Path]:
        end = time.perf_counter() + seconds
        for number in count():
            if time.perf_counter() > end:
                return
            yield images[number % len(images)]

    started = time.perf_counter()
    done = sum(1 for _ in detector.predict(endless()))
    return done / (time.perf_counter() - started)


async def client(
    host: str, port: int, path: str, images: list[bytes], numbers: count[int], end: float, latencies: list[float]
) -> None:
    """One keep-alive connection, one request after the other; as little work as a client can do."""
    reader, writer = await asyncio.open_connection(host, port)
    while time.perf_counter() < end:
        number = next(numbers)
        body = images[number % len(images)] + number.to_bytes(8, "big")
        head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
        started = time.perf_counter()
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(answer.split("content-length:")[1].split("\r\n")[0])
        content = await reader.readexactly(length)
        if " 200 " not in answer.split("\r\n")[0]:
            raise SystemExit(f"{answer.splitlines()[0]}: {content[:300]!r}")
        latencies.append(time.perf_counter() - started)
    writer.close()


async def load(
    url: str, model: str, images: list[bytes], numbers: count[int], seconds: float, clients: int
) -> tuple[float, list[float]]:
    """Inspections in a second, and the seconds that each took."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    latencies: list[float] = []
    started = time.perf_counter()
    path = f"/v1/models/{model}/inspect"
    await asyncio.gather(
        *(
            client(address.hostname, address.port, path, images, numbers, started + seconds, latencies)
            for _ in range(clients)
        )
    )
    return len(latencies) / (time.perf_counter() - started), latencies


def main() -> None:
    """Alternate, and print each round and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--db", default=None)
    parser.add_argument("--json", type=Path, default=None, help="file to write the figures to")
    given = parser.parse_args()
    images = [picture(seed, (given.size, given.size)) for seed in range(DIFFERENT)]
    options = ["--backend", given.backend, "--batch", str(given.batch)]
    options += ["--threads", str(given.threads)] if given.threads else []
    options += ["--db", given.db] if given.db else []
    detector = shiftproof.load(given.model, given.backend, threads=given.threads)
    rates: dict[str, list[float]] = {"bare": [], "served": []}
    latencies: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, image in enumerate(images):
            files.append(Path(folder) / f"{number}.png")
            files[-1].write_bytes(image)
        with served(given.model, Path(folder) / "data", *options) as station:
            numbers = count()
            warm = min(given.seconds, 3.0)
            bare(detector, files, warm)
            asyncio.run(load(station.url, given.model.name, images, numbers, warm, given.clients))
            for number in range(given.rounds):
                rates["bare"].append(bare(detector, files, given.seconds))
                rate, found = asyncio.run(
                    load(station.url, given.model.name, images, numbers, given.seconds, given.clients)
                )
                rates["served"].append(rate)
                latencies += found
                print(f"round {number + 1}: bare {rates['bare'][-1]:.1f}/s, served {rate:.1f}/s", flush=True)
            _, alone = asyncio.run(load(station.url, given.model.name, images, numbers, given.seconds, 1))
            station.stop()
    ratio = statistics.median(rates["served"]) / statistics.median(rates["bare"])
    milliseconds = {
        f"{name} p{percent}": float(np.percentile(values, percent)) * 1000
        for name, values in (("under load", latencies), ("one client", alone))
        for percent in (50, 99)
    }
    print(
        f"{detector.backend.name}, {given.size}x{given.size} images, {given.clients} clients, {len(latencies)} inspections"
    )
    print(f"ratio of the medians: {ratio:.3f}")
    print("; ".join(f"{name} {value:.1f} ms" for name, value in milliseconds.items()))
    if given.json:
        content = {"rates": rates, "ratio": ratio, "milliseconds": milliseconds, "backend": detector.backend.name}
        given.json.write_text(json.dumps({**content, "clients": given.clients, "size": given.size}, indent=2) + "\n")


if __name__ == "__main__":
    main()
