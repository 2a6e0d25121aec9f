"""The station's page in a browser: Debian's Chromium, driven by Playwright, looked over by axe."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image

from shiftproof.calibration import Calibration
from shiftproof.detector import Detector
from shiftproof.drift import Reference
from shiftproof.drift.reference import DRIFT, REFERENCE, describe
from shiftproof.service.api import create_app
from shiftproof.service.settings import Settings
from shiftproof.service.station import Station

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the page's tests need playwright: pip install -e '.[dev]'"
)
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the page's tests need axe-playwright-python")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install -y chromium")

SIZE = (64, 96)
CALIBRATION = Calibration.from_scores(np.linspace(0.3, 0.5, 100), map_low=0.0)
GOOD, BAD = 60, 250  # brightness of a part's spot
TOKEN = "a-secret-of-the-line"
TABLET, PHONE = {"width": 768, "height": 1024}, {"width": 390, "height": 844}


class Brightness:
    """A backend whose anomaly map is how bright each pixel is."""

    name, image_size = "torch", SIZE

    def maps_and_scores(self, pixels):
        maps = pixels.mean(axis=3, dtype=np.float32) / 255
        return maps, maps.max(axis=(1, 2)).astype(np.float64)


def pixels(spot: int, seed: int, light: int = 50) -> Any:
    """A part, uint8 [64, 96, 3]: noise with a spot of some brightness."""
    random = np.random.default_rng(seed)
    part = random.integers(light - 10, light + 10, (*SIZE, 3), dtype=np.uint8)
    part[20:32, 40:60] = spot
    return part


def png(spot: int = GOOD, seed: int = 0, light: int = 50) -> bytes:
    """The same as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(spot, seed, light)).save(buffer, "PNG")
    return buffer.getvalue()


def load(folder: Path) -> Detector:
    """What stands in for :func:`shiftproof.load`."""
    return Detector(Brightness(), CALIBRATION, json.loads((folder / "model.json").read_text()))


@dataclass(frozen=True)
class Served:
    """A station that runs."""

    address: str
    data: Path

    def inspect(self, *images: bytes, station: str = "line 1", name: str = "part-{}.png") -> list[int]:
        """Inspect without the page; the numbers of the inspections."""
        files = [("files", (name.replace("{}", str(place)), image)) for place, image in enumerate(images)]
        answer = httpx.post(f"{self.address}/v1/models/part/inspect", params={"station": station}, files=files)
        return [result["id"] for result in answer.json()["results"]]


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    """A station in a thread, until the block ends."""
    server = uvicorn.Server(
        uvicorn.Config(create_app(Station(settings, load)), port=0, log_level="error", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(f"http://127.0.0.1:{port}", settings.data)
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of a station with one model, which knows what its good images look like."""
    root = tmp_path_factory.mktemp("page")
    good = [pixels(GOOD, seed, light) for seed, light in enumerate(np.random.default_rng(0).integers(46, 55, 90))]
    reference = Reference.from_images(good[:60], good[60:])
    folder = root / "part"
    folder.mkdir()
    config = {"backbone": "toy", "image_size": list(SIZE)}
    (folder / "model.json").write_text(json.dumps({"method": "rd", "config": config, DRIFT: describe(reference)}))
    (folder / REFERENCE).write_bytes(reference.to_bytes())
    return Settings(models=(folder,), data=root / "data", reload_seconds=0.05)


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[Served]:
    """The station of this module, with a few inspections."""
    with serving(settings) as served:
        numbers = served.inspect(*(png(BAD if seed % 3 == 0 else GOOD, seed) for seed in range(9)))
        for number, verdict in zip(numbers[:4], ("defective", "good", "defective", "good"), strict=True):
            httpx.post(f"{served.address}/v1/inspections/{number}/review", json={"verdict": verdict, "operator": "Ida"})
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a window."""
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root has no sandbox
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Any, served: Served) -> Iterator[Callable[..., Any]]:
    """Opens a path; at the end, no script failed and nothing was asked of another host."""
    contexts, problems = [], []

    def open_one(path: str = "/", served: Served = served, *, refused: int | None = None, **options: Any) -> Any:
        """`refused` is the one status of a failure that belongs to the test."""
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)

        def said(message: Any) -> None:
            # A station that has been stopped answers no more; what a page may not load is said in other words.
            expected = (f" {refused} ", "net::ERR_CONNECTION", "net::ERR_EMPTY", "net::ERR_ABORTED")
            answered = message.text.startswith("Failed to load resource") and any(
                part in message.text for part in expected
            )
            if message.type in ("error", "warning") and not answered:
                problems.append(message.text)

        def asked(request: Any) -> None:
            if not request.url.startswith((served.address, "data:", "blob:")):
                problems.append(f"asks {request.url}")

        page.on("console", said)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog: {dialog.message}"))
        page.on("request", asked)
        page.goto(served.address + path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


def send(page: Any, how: str, *files: tuple[str, bytes]) -> None:
    """Drop or paste files onto the page."""
    page.evaluate(
        """([how, files]) => {
            const transfer = new DataTransfer();
            for (const [name, content] of files) {
                const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
                transfer.items.add(new File([bytes], name, {type: "image/png"}));
            }
            const options = {bubbles: true, cancelable: true};
            document.body.dispatchEvent(how === "drop"
                ? new DragEvent("drop", {...options, dataTransfer: transfer})
                : new ClipboardEvent("paste", {...options, clipboardData: transfer}));
        }""",
        [how, [(name, base64.b64encode(content).decode()) for name, content in files]],
    )


SCREENS = ("/", "/history", "/inspections/1", "/inspections/2", "/review", "/drift", "/models", "/models/part")


@pytest.mark.parametrize("path", SCREENS)
def test_screens_are_accessible_in_light_and_dark(open_page, path):
    page = open_page(path)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("viewport", [TABLET, PHONE], ids=["tablet", "phone"])
def test_fingers_hit_what_they_aim_at_and_nothing_runs_out_of_the_screen(open_page, served, viewport):
    page = open_page(viewport=viewport, has_touch=True)
    for path in SCREENS:
        page.goto(served.address + path)
        small = page.evaluate(
            """() => [...document.querySelectorAll("button, .button, nav a, select, summary, label.check, .item a, "
                + "input:not([type=hidden], [type=checkbox], [type=file])")]
                .filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < 43.5)
                .map((one) => one.outerHTML.slice(0, 120))"""
        )
        assert small == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_what_is_dropped_or_pasted_is_inspected_shown_and_listed(open_page, how):
    page = open_page()
    send(page, how, (f"{how}ed.png", png(BAD, seed=77)))
    page.wait_for_selector(".detail .verdict.defective")
    assert "above the threshold" in page.inner_text(".findings .lead")
    assert page.locator(".boxes g").count() == 1
    assert page.locator(".findings svg.chart title").text_content().startswith("Scores of 100 calibration parts")
    page.wait_for_selector(f"[data-live] li:first-child .name:text('{how}ed.png')")
    page.wait_for_function("document.querySelector('.stage .heat').naturalWidth > 0")
    page.click("[data-of-region] button")
    assert page.locator(".stage.near .heat").evaluate("one => getComputedStyle(one).transform") != "none"
    page.click(".stage")
    assert page.locator(".stage.near").count() == 0


def test_many_images_make_a_strip_and_one_that_cannot_be_read_says_why(open_page):
    page = open_page()
    images = [("a.png", GOOD), ("b.png", BAD), ("c.png", GOOD)]
    files = [{"name": name, "mimeType": "image/png", "buffer": png(spot, seed=30)} for name, spot in images]
    page.set_input_files("#files", [*files, {"name": "torn.png", "mimeType": "image/png", "buffer": png()[:60]}])
    page.wait_for_selector("[data-strip] .failed:has-text('torn.png')")
    assert "damaged or truncated" in page.inner_text(".failed .facts")
    assert page.inner_text(".detail .verdict").strip() == "Good"
    page.keyboard.press("j")
    page.wait_for_selector(".detail .verdict.defective")
    page.keyboard.press("h")
    assert page.locator(".heat").evaluate("one => getComputedStyle(one).visibility") == "hidden"
    page.locator("[data-operator]").fill("Ida")
    page.click("[data-overrule]")
    page.wait_for_selector(".review .state .over")
    assert "by Ida" in page.inner_text(".review .state")


def test_a_full_queue_is_asked_again_under_the_same_key(open_page):
    page = open_page(refused=429)
    keys = []

    def full_once(route: Any) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fulfill(status=429, headers={"Retry-After": "1"}, json={"error": "its queue is full"})
        else:
            route.continue_()

    page.route("**/inspect?fragment=true", full_once)
    send(page, "drop", ("again.png", png(GOOD, seed=5)))
    page.wait_for_selector(".detail .verdict.good")
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_it_works_without_scripts(open_page, served):
    page = open_page(java_script_enabled=False)
    page.set_input_files("#files", {"name": "plain.png", "mimeType": "image/png", "buffer": png(BAD, seed=40)})
    page.click(".drop button")
    assert page.inner_text(".detail .verdict").strip() == "Defective"
    page.fill("[name=operator]", "Jo")
    page.fill("[name=note]", "only dust")
    page.click("[data-overrule]")
    assert "overruled: good" in page.inner_text(".review .state")
    assert "only dust" in page.inner_text(".past")
    page.goto(served.address + "/history")
    page.select_option("[name=verdict]", "defective")
    page.select_option("[name=review]", "good")
    page.click(".go button")
    assert page.inner_text("tbody tr:first-child .name") == "plain.png"
    assert set(page.locator("tbody .badge").all_inner_texts()) == {"defective"}


def test_new_inspections_appear_by_themselves_until_paused(open_page, served):
    page = open_page()
    served.inspect(png(BAD, seed=50), station="line 7", name="fresh.png")
    page.wait_for_selector("[data-live] li:first-child .name:text('fresh.png')")
    page.click("[data-pause]")
    served.inspect(png(BAD, seed=51), station="line 7", name="unseen.png")
    page.wait_for_timeout(2600)
    assert page.locator("[data-live] .name:text('unseen.png')").count() == 0


def test_the_history_by_keyboard_alone(open_page, served):
    served.inspect(*(png(BAD, seed) for seed in range(60, 63)), station="line 3", name="key-{}.png")
    page = open_page("/history?station=line+3")
    page.keyboard.press("j")
    page.keyboard.press("c")
    page.wait_for_selector("tbody tr:first-child .outcome:text('confirmed')")
    page.keyboard.press("j")
    page.keyboard.press("o")
    page.wait_for_selector("tbody tr:nth-child(2) .over:text('overruled: good')")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/inspections/*")
    assert page.inner_text("h1") == "key-0.png"
    page.keyboard.press("n")
    page.keyboard.type("c o j k: letters in a note are letters")
    page.keyboard.press("Escape")
    page.keyboard.press("o")
    page.wait_for_selector(".notice .over")
    page.wait_for_load_state()
    assert "letters in a note are letters" in page.inner_text(".past")
    page.keyboard.press("k")
    page.wait_for_selector("h1:text('key-1.png')")
    page.wait_for_load_state()
    page.keyboard.press("?")
    page.click("[data-keys-on]")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.wait_for_timeout(300)
    assert page.inner_text("h1") == "key-1.png"


def test_reviewing_one_after_another_measures_the_rates(open_page, served, settings, tmp_path):
    with serving(replace(settings, data=tmp_path / "data")) as own:
        own.inspect(png(BAD, 1), png(GOOD, 2), png(BAD, 3))
        page = open_page("/review", own)
        assert page.locator(".number").all_inner_texts() == ["not known", "not known"]
        page.click("text=Review a sample")
        for _ in range(3):
            page.wait_for_load_state()
            assert "Not reviewed" in page.inner_text(".detail .state")
            with page.expect_navigation():
                page.keyboard.press("o" if "Good" in page.inner_text(".verdict") else "c")
        page.wait_for_selector("text=Nothing is left to review here.")
        assert page.locator(".number").all_inner_texts() == ["not known", "33.3\u202f%"]
        assert "1 of 3 reviewed defective parts were called good. Few reviews" in page.inner_text(".rate.defective")


def wait_for(page: Any, status: str) -> None:
    """Reload until the drift view says so."""
    deadline = time.monotonic() + 20
    while status not in page.locator(".status .verdict").all_inner_texts() and time.monotonic() < deadline:
        page.wait_for_timeout(100)
        page.reload()
    assert status in page.inner_text(".status .verdict")


def test_a_drift_is_named(open_page, settings, tmp_path):
    with serving(replace(settings, data=tmp_path / "data")) as own:
        lights = np.random.default_rng(1).integers(46, 55, 40)
        own.inspect(*(png(GOOD, 200 + seed, light) for seed, light in enumerate(lights)))
        page = open_page("/drift", own)
        wait_for(page, "Steady")
        own.inspect(*(png(GOOD, 300 + seed, light - 25) for seed, light in enumerate(lights)))
        wait_for(page, "Images have drifted")
        assert "darker" in page.inner_text(".status .lead").lower()
        assert page.locator(".panel.moved").count() >= 1
        assert "0 of the 59" in page.inner_text(".anew")


def test_a_threshold_is_placed_anew_and_taken_back(open_page, settings, tmp_path):
    with serving(replace(settings, data=tmp_path / "data")) as own:
        numbers = own.inspect(*(png(GOOD, seed) for seed in range(59)))
        with httpx.Client(base_url=own.address) as client:
            for number in numbers:
                client.post(f"/v1/inspections/{number}/review", json={"verdict": "good"})
        page = open_page("/models/part", own)
        before = page.get_attribute(".threshold .number", "title")
        page.click("text=Recalibrate")
        page.wait_for_selector(".notice")
        assert page.get_attribute(".threshold .number", "title") != before
        page.click("text=Undo")
        page.wait_for_selector("tbody tr:nth-child(3)")
        assert page.get_attribute(".threshold .number", "title") == before


def test_the_history_is_there_after_a_restart(open_page, settings, tmp_path):
    own = replace(settings, data=tmp_path / "data")
    with serving(own) as first:
        first.inspect(png(BAD), name="kept.png")
    with serving(own) as second:
        page = open_page("/", second)
        assert page.inner_text("[data-live] .name") == "kept.png"
        page.goto(second.address + "/inspections/1")
        page.wait_for_function("document.querySelector('.stage .heat').naturalWidth > 0")


def test_names_of_clients_are_text_and_nothing_else(open_page, served):
    hostile = "<img src=x onerror=alert(1)>'{{7*7}}.png"
    (number,) = served.inspect(png(BAD, seed=90), station="<script>alert(2)</script>", name=hostile)
    page = open_page(f"/inspections/{number}")
    assert page.inner_text("h1") == hostile
    page.goto(served.address + "/history")
    assert "<script>alert(2)</script>" in page.inner_text("tbody")
    page.goto(served.address + "/")
    page.wait_for_selector(".list .name")


def test_a_refusal_is_a_page(open_page):
    page = open_page("/inspections/999999", refused=404)
    assert page.inner_text("h1") == "no inspection 999999"
    assert axe.Axe().run(page).violations_count == 0


def test_signing_in_with_the_token(open_page, settings, tmp_path):
    with serving(replace(settings, data=tmp_path / "data", token=TOKEN)) as own:
        page = open_page("/models/part", own)
        assert axe.Axe().run(page).violations_count == 0
        page.fill("[name=token]", "not it")
        page.click("button:text('Sign in')")
        assert "not the token" in page.inner_text("[role=alert]")
        page.goto(own.address + "/models/part")
        page.fill("[name=token]", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_url("**/models/part")
        page.click("text=Sign out")
        page.goto(own.address + "/history")
        assert "/login" in page.url
