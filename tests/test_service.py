"""`shiftproof serve` as a program: a real server on a free port, with an exported model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from .parts import SIDE, save, scratched, texture

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks"


@pytest.fixture(scope="session")
def served():
    """The class of benchmarks/served.py."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("served", SCRIPTS / "served.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.served


@pytest.fixture(scope="session")
def station(served, exported, tmp_path_factory):
    """A station that is up."""
    with served(exported, tmp_path_factory.mktemp("station")) as station:
        yield station


@pytest.fixture
def client(station):
    with httpx.Client(base_url=station.url, timeout=60) as client:
        yield client


@pytest.fixture
def scratch(tmp_path) -> bytes:
    return save(tmp_path / "part.png", scratched(1)[0]).read_bytes()


@pytest.fixture
def fine(tmp_path) -> bytes:
    return save(tmp_path / "fine.png", texture(1)).read_bytes()


def run_script(name, *arguments):
    done = subprocess.run(
        [sys.executable, SCRIPTS / name, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_an_image_in_a_row_out(client, scratch, fine, exported):
    import shiftproof

    uploads = [("files", ("scratch.png", scratch)), ("files", ("fine.png", fine))]
    bad, good = client.post("/v1/models/part/inspect", files=uploads).json()["results"]
    detector = shiftproof.load(exported)
    assert bad["backend"] == detector.backend.name == "openvino"
    for seen, image in ((bad, scratched(1)[0]), (good, texture(1))):
        expected = detector.inspect(image)
        assert seen["score"] == pytest.approx(expected.score, rel=1e-5)
        assert (seen["verdict"], seen["threshold"]) == (expected.verdict, expected.threshold)
        assert sum(region["area"] for region in seen["regions"]) == expected.mask.sum()  # at the model's own size
    assert [one["id"] for one in client.get("/v1/inspections", params={"limit": 2}).json()["items"]] == [
        good["id"],
        bad["id"],
    ]
    assert client.get(bad["links"]["heatmap"]).content.startswith(b"\x89PNG")


def test_no_part_of_the_station_imports_torch(exported, tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; import shiftproof.service.server; import shiftproof.cli\n"
        "from shiftproof.service.settings import Settings; from shiftproof.service.station import Station\n"
        f"Station(Settings(models=(Path({str(exported)!r}),), data=Path({str(tmp_path)!r}))).close()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_client_that_goes_away_takes_nothing_with_it(station, client, fine):
    before = client.get("/v1/inspections").json()["items"]
    host, port = station.url.removeprefix("http://").split(":")
    lines = ("POST /v1/models/part/inspect HTTP/1.1", f"Host: {host}", "Content-Type: image/png")
    head = "\r\n".join((*lines, f"Content-Length: {len(fine)}", "", ""))
    for body in (fine[:100], fine, b""):  # in the middle, before the answer, and at once
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + body)
    after = client.post("/v1/models/part/inspect", files={"files": fine})
    assert after.status_code == 200
    assert len(client.get("/v1/inspections").json()["items"]) <= len(before) + 2
    assert client.get("/metrics").text.count("shiftproof_errors_total 0.0") == 1


def test_a_head_without_end_is_cut_off(station):
    host, port = station.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        with pytest.raises(OSError):
            for _ in range(100):
                connection.sendall(b"a" * 65536)
                time.sleep(0.01)


def test_a_signal_to_stop_finishes_what_was_accepted(served, exported, tmp_path, fine):
    with served(exported, tmp_path / "data", "--batch", "1", "--backend", "torch") as station:
        uploads = [("files", (f"{number}.png", fine)) for number in range(64)]
        answers = []

        def ask():
            answers.append(httpx.post(f"{station.url}/v1/models/part/inspect", files=uploads, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        until = time.monotonic() + 30
        with httpx.Client(base_url=station.url) as client:
            while 'shiftproof_waiting{model="part"} 64.0' not in client.get("/metrics").text:
                assert time.monotonic() < until
                assert not answers, "it was quicker than the test"
        assert station.stop() == 0
        asking.join()
        assert len(answers[0].json()["results"]) == 64
        assert station.lines[-1] == "stopped: all accepted images were answered and recorded"
    with served(exported, tmp_path / "data") as station:
        page = httpx.get(f"{station.url}/v1/inspections", params={"limit": 200}).json()
        assert {one["id"] for one in page["items"]} == {one["id"] for one in answers[0].json()["results"]}
        station.process.send_signal(signal.SIGINT)
        assert station.process.wait(60) == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_under_load_nothing_answered_is_lost_or_doubled(kind, exported, request, tmp_path):
    options = ["--db", request.getfixturevalue("postgresql")()] if kind == "postgresql" else []
    said = run_script("service_kill.py", exported, "--times", 2, *options)
    assert "2 kills; 0 lost or doubled" in said


def test_malformed_requests_are_4xx(exported):
    said = run_script("service_fuzz.py", exported, "--cases", 50, "--schema", 5)
    assert "50 malformed uploads: 50 refused with 4xx" in said


def test_the_load_is_measured_beside_the_bare_runtime(exported):
    said = run_script(
        *("service_load.py", exported, "--seconds", 0.5, "--rounds", 1, "--size", SIDE, "--threads", 1, "--clients", 2)
    )
    assert "ratio of the medians" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no model given: name one or more model folders"),
        (("nowhere",), "no model at nowhere"),
        (("MODEL", "MODEL"), "are both called 'part'"),
        (("MODEL", "--host", "0.0.0.0"), "--host 0.0.0.0 can be reached from other machines: give --token-file"),
        (("MODEL", "--public-host", "a.factory"), "give --token-file as well"),
        (("MODEL", "--token-file", "nowhere"), "--token-file nowhere cannot be read (No such file or directory)"),
        (("MODEL", "--token-file", "short"), "the token has 5 characters; expected 16 or more"),
        (("MODEL", "--port", "TAKEN"), "choose another --port"),
        (("MODEL", "--port", "-1"), "--port -1; expected 0 or more"),
        (("MODEL", "--queue", "0"), "--queue 0; expected 1 or more"),
        (("MODEL", "--db", "mysql://host/name"), "--db names mysql; expected sqlite or postgresql"),
        (("MODEL", "--db", "sqlite:///no/such/folder/x.db"), "cannot be opened"),
        (("MODEL", "--db", "postgresql://me:secret@127.0.0.1:1/x"), "check --db, and that it runs"),
        (("MODEL", "--backend", "onxn"), "unknown backend 'onxn'"),
    ],
)
def test_wrong_use_is_one_line(shiftproof, exported, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("short\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"MODEL": exported, "TAKEN": taken.getsockname()[1]}
        said = shiftproof("serve", "--data-dir", "data", *(places.get(one, one) for one in arguments))
    assert (said.code, said.out) == (2, "")
    assert message in said.error
    assert "secret@" not in said.error


def test_without_its_packages_serve_says_what_to_install():
    code = "import sys; sys.modules['sqlalchemy'] = None; from shiftproof.cli import run; sys.exit(run(['serve', 'x']))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    assert done.returncode == 2
    assert done.stderr == "shiftproof: serve needs the package sqlalchemy: pip install 'shiftproof[serve]'\n"
