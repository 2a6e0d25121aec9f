"""Drift among a line's inspections: found, forgotten by nobody, and no hindrance where there is no reference."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from shiftproof.drift import Reference
from shiftproof.drift.reference import DRIFT, REFERENCE, describe
from shiftproof.service.conftest import make_model
from shiftproof.service.test_station import inspect

SIZE = (32, 64)


def part(light: int, seed: int) -> np.ndarray:
    random = np.random.default_rng([seed, light])
    return random.integers(light - 10, light + 10, (*SIZE, 3), dtype=np.uint8)


def sent(shift: int, count: int = 40, start: int = 0) -> list[bytes]:
    files = []
    for seed, light in enumerate(np.random.default_rng(start).integers(46, 55, count)):
        buffer = io.BytesIO()
        Image.fromarray(part(int(light) + shift, start + seed)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


@pytest.fixture
def watched(bench):
    """A bench whose model knows what good images look like."""
    good = [part(int(light), 1000 + seed) for seed, light in enumerate(np.random.default_rng(9).integers(46, 55, 90))]
    reference = Reference.from_images(good[:60], good[60:])
    (folder,) = bench.settings.models
    make_model(folder, size=list(SIZE), **{DRIFT: describe(reference)})
    (folder / REFERENCE).write_bytes(reference.to_bytes())
    return bench


def look(client):
    drift_tracker = client.app.state.station.drift_trackers["part"]
    while drift_tracker.look():
        pass
    return drift_tracker.snapshot


def test_a_drift_is_found_named_and_known_again_after_a_restart(watched, database):
    with watched.running(database=database) as client:
        inspections = inspect(client, *sent(0))
        assert set(inspections[0]["shift"]) == {"distance", "p_value", "levels"}
        assert look(client).state.status == "steady"
        inspect(client, *sent(-25, start=100))
        found = look(client)
        assert (found.state.status, found.state.findings[0].description) == ("drift", "darker")
        (episode,) = found.episodes
        assert 38 <= episode.start_index <= episode.alert_index <= 60
        assert len(found.steps) == found.state.images == 80
        said = client.get("/v1/models/part/drift").json()
        assert (said["state"]["status"], said["episodes"][0]["start_index"]) == ("drift", episode.start_index)
        assert "shiftproof_drift_evidence" in client.get("/metrics").text
    with watched.running(database=database) as client:
        again = look(client)
        assert again.state == found.state
        assert again.episodes == found.episodes
        assert [step.id for step in again.steps] == [step.id for step in found.steps]


def test_recalibrated_under_a_new_lamp_it_is_not_called_darker_any_more(watched, database):
    with watched.running(database=database) as client:
        dark = inspect(client, *sent(-25, count=64))
        assert look(client).state.status == "drift"
        for one in dark:
            client.post(f"{one['links']['self']}/review", json={"verdict": "good"})
        placed = client.post("/v1/models/part/recalibrate").json()
        assert (placed["calibration"]["images"], look(client)) == (64, None)
    with watched.running(database=database) as client:
        (one,) = inspect(client, *sent(-25, count=1, start=900))
        assert one["shift"]["levels"]["light"] > -3 > dark[0]["shift"]["levels"]["light"]
        inspect(client, *sent(-25, start=500))
        assert (look(client).state.status, look(client).state.images) == ("steady", 41)
        client.post("/v1/models/part/recalibrate", json={"calibration": placed["former"]["id"]})
        (one,) = inspect(client, *sent(-25, count=1, start=901))
        assert one["shift"]["levels"]["light"] < -3
        client.post("/v1/models/part/recalibrate", json={"calibration": placed["calibration"]["id"]})
        (one,) = inspect(client, *sent(-25, count=1, start=902))
        assert one["shift"]["levels"]["light"] > -3


def test_another_version_begins_anew(watched):
    with watched.running() as client:
        inspect(client, *sent(0, count=3))
        assert look(client).state.images == 3
        queue = client.app.state.station.queues["part"]
        queue.version = replace(queue.version, version="another")
        assert look(client) is None
        inspect(client, *sent(0, count=2))
        assert look(client).state.images == 2


def test_rows_from_before_the_reference_are_left_out(bench):
    (folder,) = bench.settings.models
    make_model(folder, size=list(SIZE))
    with bench.running() as client:
        assert inspect(client, *sent(0, count=1))[0]["shift"] is None
        assert look(client) is None


def test_a_damaged_reference_is_no_reason_not_to_inspect(watched, caplog):
    (folder,) = watched.settings.models
    (folder / REFERENCE).write_bytes(b"torn")
    with watched.running() as client:
        assert inspect(client, *sent(0, count=1))[0]["shift"] is None
    assert "drift is not watched" in caplog.text
