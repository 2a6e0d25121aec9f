"""Malformed uploads, and requests drawn from the OpenAPI description: none may be a fault of the station.

    python benchmarks/service_fuzz.py MODEL [--cases 1000] [--schema 20]

An upload is malformed when shiftproof itself cannot read its image, or when its multipart frame is torn: it must get a 4xx.
Then schemathesis draws requests to every address, and holds the answers against the description.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok
from served import picture, served

from shiftproof.data import decode_image
from shiftproof.errors import ImageError

KINDS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
SIGNATURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF",
    b"GIF89a",
    b"%PDF",
    b"PK\3\4",
    b"",
)
NAMES = ('"a.png"', '"../../x"', '"a\\"b"', "", '"' + "n" * 3000 + '"', '"\xe9\xff"', "*=utf-8''%00%0a")


def torn(chance: random.Random, images: list[bytes]) -> bytes:
    """An image with bytes changed, cut, doubled, or made up behind a signature."""
    if chance.random() < 0.25:
        return chance.choice(SIGNATURES) + chance.randbytes(chance.randrange(400))
    data = bytearray(chance.choice(images))
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(data))
        # Headers are where readers are led astray, so half of the changes go there.
        at = min(at, chance.randrange(64)) if chance.random() < 0.5 else at
        data[at] = chance.choice((0, 255, chance.randrange(256)))
    if chance.random() < 0.5:
        del data[chance.randrange(1, len(data)) :]
    return bytes(data)


def framed(chance: random.Random, content: bytes, break_it: bool) -> tuple[str, bytes]:
    """A multipart body, and its content type; broken in one of the ways in which clients break them."""
    boundary = "frontier"
    head = f'Content-Disposition: form-data; name="files"; filename={chance.choice(NAMES)}'.encode("latin-1")
    body = b"--frontier\r\n" + head + b"\r\n\r\n" + content + b"\r\n--frontier--\r\n"
    if break_it:
        way = chance.randrange(5)
        if way == 0:
            body = body[: chance.randrange(len(body) - len(b"--\r\n"))]
        elif way == 1:
            boundary = "other"
        elif way == 2:
            body = body.replace(b'name="files"', b'name="file"')
        elif way == 3:
            body = b"--frontier\n" + chance.randbytes(50)
        else:
            body = body.replace(b"\r\n\r\n", b"\r\n", 1)
    return f"multipart/form-data; boundary={boundary}", body


def malformed(cases: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Content types and bodies, none of which holds an image that can be read."""
    chance = random.Random(seed)
    images = [picture(number, kind=kind) for number, kind in enumerate(KINDS)]
    found = 0
    while found < cases:
        way = chance.randrange(3)
        content = torn(chance, images)
        if way == 2:
            yield framed(chance, chance.choice(images), break_it=True)
        else:
            try:
                decode_image(content, "", max_pixels=50_000_000)
                continue  # it still can be read
            except ImageError:
                pass
            yield framed(chance, content, break_it=False) if way else ("image/png", content)
        found += 1


def upload_all(url: str, model: str, cases: int, seed: int) -> Counter[str]:
    """Send them; by status, or the error where no answer came."""
    found: Counter[str] = Counter()
    with httpx.Client(base_url=url, timeout=60) as client:
        for kind, body in malformed(cases, seed):
            try:
                answer = client.post(f"/v1/models/{model}/inspect", content=body, headers={"Content-Type": kind})
                found[str(answer.status_code)] += 1
                if not 400 <= answer.status_code < 500:
                    print(f"{answer.status_code} for {kind}: {body[:200]!r}")
            except httpx.HTTPError as error:
                found[type(error).__name__] += 1
    return found


def draw_all(url: str, model: str, each: int) -> list[str]:
    """Requests from the description, ``each`` for every address and method; what is wrong with the answers."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    checks: Any = CHECKS.get_by_names(["not_a_server_error", "response_schema_conformance", "content_type_conformance"])
    wrong: list[str] = []
    for result in schema.get_all_operations():
        if not isinstance(result, Ok):
            wrong.append(str(result.err()))
            continue
        operation = result.ok()

        @settings(
            max_examples=each,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def drawn(case: schemathesis.Case) -> None:
            if "name" in case.path_parameters and case.path_parameters["name"] != model:
                case.path_parameters["name"] = model  # beyond the 404 that any other name gets
            case.validate_response(case.call(base_url=url), checks=checks)

        try:
            drawn()
        except Exception as error:
            wrong.append(f"{operation.label}: {error}")
    return wrong


def main() -> None:
    """Exit code 1 if anything was a fault of the station."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--cases", type=int, default=1000, help="malformed uploads")
    parser.add_argument("--schema", type=int, default=20, help="requests drawn for each address and method")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="PIL")  # of what is torn on purpose
    with tempfile.TemporaryDirectory() as folder, served(options.model, Path(folder)) as station:
        statuses = upload_all(station.url, options.model.name, options.cases, options.seed)
        wrong = draw_all(station.url, options.model.name, options.schema)
        with httpx.Client(base_url=station.url, timeout=60) as client:
            files = {"files": ("a.png", picture(1))}
            alive = client.post(f"/v1/models/{options.model.name}/inspect", files=files).status_code == 200
            told = re.search(r"^shiftproof_errors_total (\S+)$", client.get("/metrics").text, re.MULTILINE)
            faults = float(told[1]) if told else -1.0
        code = station.stop()
    refused = sum(count for status, count in statuses.items() if status.startswith("4"))
    by_status = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    print(f"{options.cases} malformed uploads: {refused} refused with 4xx ({by_status})")
    print(f"requests drawn from the description: {len(wrong)} addresses with a wrong answer")
    for line in wrong:
        print(line)
    print(f"faults of the station: {faults:g}; it still inspects: {alive}; it ended with {code}")
    sys.exit(refused != options.cases or bool(wrong) or faults != 0 or not alive or code != 0)


if __name__ == "__main__":
    main()
