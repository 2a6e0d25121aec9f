"""Makes the pictures of docs/service.md from the demo: python docs/station.py runs/demo docs

A station serves the demo's model and inspects its test images as two lines would; then the light fades. Nothing is picked by
hand: files are drawn by a seed, and shown in that order.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import uvicorn
from PIL import Image, ImageEnhance

from shiftproof.drift import reference_of_files, write_reference
from shiftproof.service.api import create_app
from shiftproof.service.settings import Settings
from shiftproof.service.station import Station

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CLEAN, DARK, FADED = 150, 40, 0.86
SIZES = {"desktop": (1280, 900), "tablet": (768, 1024), "phone": (390, 844)}
Files = list[tuple[str, bytes]]


def main(demo: Path, out: Path) -> None:
    """Serve, inspect, and take the pictures."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as kept:
        model = Path(kept) / "solar-cells"
        shutil.copytree(demo / "model", model)
        if not (model / "drift.safetensors").exists():
            write_reference(model, reference_of_files(sorted((demo / "data/train/good").iterdir()), (256, 256)))
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(Station(Settings(models=(model,), data=Path(kept) / "data"))), port=0, log_level="error"
            )
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            good, defective = (drawn(demo / "data/test" / kind) for kind in ("good", "defective"))
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                take(browser, address, good, defective, out)
        finally:
            server.should_exit = True
            thread.join()


def drawn(folder: Path) -> Files:
    """Files in an order drawn by a seed."""
    paths = sorted(folder.rglob("*.png"))
    return [
        (paths[place].name, paths[place].read_bytes()) for place in np.random.default_rng(0).permutation(len(paths))
    ]


def take(browser: Browser, address: str, good: Files, defective: Files, out: Path) -> None:
    """All pictures, in the order in which things happen."""
    with httpx.Client(base_url=address, timeout=60) as client:
        shown = 0
        for place, file in enumerate(good[:CLEAN]):
            number = inspect(client, *file, f"line {1 + place % 2}")["id"]
            client.post(f"/v1/inspections/{number}/review", json={"verdict": "good", "operator": "Ida"})
            if place % 12 == 0:  # few are defective, as on a line
                bad = inspect(client, *defective[place // 12], "line 2")
                client.post(f"/v1/inspections/{bad['id']}/review", json={"verdict": "defective", "operator": "Ida"})
                shown = shown or (bad["id"] if bad["verdict"] == "defective" else 0)
        shoot(
            browser,
            address + "/",
            out / "station_inspect.png",
            "desktop",
            "light",
            lambda page: drop(page, defective, good),
        )
        shoot(browser, f"{address}/inspections/{shown}", out / "station_phone.png", "phone", "dark")
        shoot(browser, f"{address}/history?verdict=defective", out / "station_history.png", "tablet", "light")
        shoot(browser, f"{address}/review", out / "station_review.png", "desktop", "light")
        for place, (name, content) in enumerate(good[:DARK]):
            inspect(client, f"dark-{name}", faded(content), f"line {1 + place % 2}")
        time.sleep(3)
        shoot(browser, f"{address}/drift", out / "station_drift.png", "desktop", "dark")


def inspect(client: httpx.Client, name: str, content: bytes, station: str) -> dict[str, Any]:
    """Send one image; its inspection."""
    answer = client.post(
        "/v1/models/solar-cells/inspect", params={"station": station}, files={"files": (name, content)}
    )
    return dict(answer.raise_for_status().json()["results"][0])


def faded(content: bytes) -> bytes:
    """The image with less light."""
    buffer = io.BytesIO()
    ImageEnhance.Brightness(Image.open(io.BytesIO(content))).enhance(FADED).save(buffer, "PNG")
    return buffer.getvalue()


def drop(page: Page, defective: Files, good: Files) -> None:
    """Choose some images, as a person would."""
    files = [*defective[24:26], *good[CLEAN : CLEAN + 2]]
    page.set_input_files("#files", [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files])
    page.wait_for_selector(f"[data-strip] li:nth-child({len(files)})")
    page.wait_for_timeout(1500)


def shoot(browser: Browser, address: str, path: Path, size: str, scheme: str, act=lambda page: None) -> None:  # type: ignore[no-untyped-def]
    """One picture, in few colours: it is small, and looks the same."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(address)
    act(page)
    page.wait_for_timeout(700)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    picture.quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
