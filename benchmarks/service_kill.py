"""kill -9 under load, again and again: is every answered inspection in the database, and in it once?

    python benchmarks/service_kill.py MODEL [--times 20] [--clients 4] [--db URL]

Clients send images, each image another one, some with an Idempotency-Key; the station is killed at a random moment and
started again on the same data. What was sent with a key and not answered is sent again. In the end the whole history is
read: an image that was answered, or sent with a key, must be there exactly once, any other at most once, and the file
of every answered one must be what was sent.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
from served import picture, served


@dataclass
class Sent:
    """What the clients know."""

    numbers: count[int] = field(default_factory=count)
    answered: dict[str, int] = field(default_factory=dict)  # SHA-256 of the image -> id that was answered
    open: dict[str, bytes] = field(default_factory=dict)  # key -> image: sent and not answered
    all: set[str] = field(default_factory=set)  # SHA-256 of every image that was sent
    faults: list[str] = field(default_factory=list)


def send(client: httpx.Client, model: str, image: bytes, key: str | None) -> int:
    """One image; returns its id. httpx.HTTPError where the station is gone."""
    headers = {"Idempotency-Key": key} if key else {}
    answer = client.post(f"/v1/models/{model}/inspect", files={"files": ("part.png", image)}, headers=headers)
    answer.raise_for_status()
    return int(answer.json()["results"][0]["id"])


def work(url: str, model: str, sent: Sent, stop: threading.Event) -> None:
    """Send images until the station is gone."""
    with httpx.Client(base_url=url, timeout=30) as client:
        while not stop.is_set():
            number = next(sent.numbers)
            image = picture(number)
            digest = hashlib.sha256(image).hexdigest()
            key = f"key-{number}" if number % 2 else None
            sent.all.add(digest)
            if key:
                sent.open[key] = image
            try:
                sent.answered[digest] = send(client, model, image, key)
            except httpx.TransportError:
                return
            except httpx.HTTPStatusError as error:
                sent.faults.append(str(error))
                return
            sent.open.pop(key or "", None)


def again(url: str, model: str, sent: Sent) -> int:
    """What was sent with a key and not answered; returns how many."""
    left = dict(sent.open)
    with httpx.Client(base_url=url, timeout=30) as client:
        for key, image in left.items():
            sent.answered[hashlib.sha256(image).hexdigest()] = send(client, model, image, key)
            del sent.open[key]
    return len(left)


def check(url: str, sent: Sent) -> list[str]:
    """What is wrong; nothing, one hopes."""
    found: Counter[str] = Counter()
    ids: dict[str, int] = {}
    wrong = list(sent.faults)
    with httpx.Client(base_url=url, timeout=60) as client:
        before: int | None = None
        while True:
            wanted = {"limit": 200} | ({} if before is None else {"before": before})
            page = client.get("/v1/inspections", params=wanted).json()
            for one in page["items"]:
                found[one["image_sha256"]] += 1
                ids[one["image_sha256"]] = one["id"]
            before = page["next"]
            if before is None:
                break
        for digest, number in sent.answered.items():
            if found[digest] != 1 or ids[digest] != number:
                wrong.append(f"answered as {number}, found {found[digest]} times (last as {ids.get(digest)}): {digest}")
            elif hashlib.sha256(client.get(f"/v1/inspections/{number}/image").content).hexdigest() != digest:
                wrong.append(f"the image of {number} is not what was sent")
    wrong += [f"found {times} times: {digest}" for digest, times in found.items() if times > 1]
    wrong += [f"never sent: {digest}" for digest in found if digest not in sent.all]
    return wrong


def main() -> None:
    """Kill, look, report; exit code 1 if anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--db", default=None)
    parser.add_argument("--data", type=Path, default=None, help="the station's folder; a temporary one by default")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance, sent, repeated = random.Random(given.seed), Sent(), 0
    options = ("--db", given.db) if given.db else ()
    with tempfile.TemporaryDirectory() as folder:
        data = given.data or Path(folder)
        for number in range(given.times):
            with served(given.model, data, *options) as station:
                repeated += again(station.url, given.model.name, sent)
                stop = threading.Event()
                clients = [
                    threading.Thread(target=work, args=(station.url, given.model.name, sent, stop))
                    for _ in range(given.clients)
                ]
                for client in clients:
                    client.start()
                time.sleep(chance.uniform(0.3, 1.5))
                station.kill()
                stop.set()
                for client in clients:
                    client.join()
            print(f"kill {number + 1} of {given.times}: {len(sent.answered)} answered so far", flush=True)
        with served(given.model, data, *options) as station:
            repeated += again(station.url, given.model.name, sent)
            wrong = check(station.url, sent)
            code = station.stop()
    print(f"{len(sent.all)} images sent, {len(sent.answered)} answered, {repeated} of them by repeating; ", end="")
    print(f"{given.times} kills; {len(wrong)} lost or doubled; the last station ended with {code}")
    for line in wrong[:20]:
        print(line)
    sys.exit(bool(wrong) or code != 0)


if __name__ == "__main__":
    main()
