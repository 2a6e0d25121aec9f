"""Queue, batches, reload, retention and stop of a station whose backend a test can hold."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest

from shiftproof.calibration import Calibration
from shiftproof.data import decode_image, resize_image
from shiftproof.detector import Detector
from shiftproof.errors import ShiftproofError, UsageError
from shiftproof.service.conftest import BAD, GOOD, SIZE, make_model, png
from shiftproof.service.images import Upload
from shiftproof.service.model_versions import model_names
from shiftproof.service.station import Station
from shiftproof.service.test_station import INSPECT, files, inspect


def until(condition, seconds=20.0):
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.01)


def test_over_the_bound_an_image_is_refused_and_none_is_lost(bench):
    with bench.running(queue=3) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        queue = client.app.state.station.queues["part"]
        bench.backend.open.clear()
        waiting = [pool.submit(client.post, INSPECT, files=files(png(seed=number))) for number in range(3)]
        until(lambda: queue.waiting == 3)
        refused = client.post(INSPECT, files=files(png(seed=9)))
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert "3 images wait for part and its queue holds 3" in refused.json()["error"]
        bench.backend.open.set()
        assert [one.result().status_code for one in waiting] == [200] * 3
        assert len(client.get("/v1/inspections").json()["items"]) == 3
        assert queue.waiting == 0
        assert client.post(INSPECT, files=files(*(png(seed=number) for number in range(4)))).status_code == 413
        assert 'shiftproof_rejected_total{model="part"} 1.0' in client.get("/metrics").text


def test_a_time_to_come_again_follows_from_the_measured_rate(bench):
    with bench.running(queue=10) as client:
        queue = client.app.state.station.queues["part"]
        queue.waiting, queue.rate = 10, 0.5
        assert queue.retry_after(5) == 10
        assert queue.retry_after(1000) == 60
        queue.rate = 1000.0
        assert queue.retry_after(1) == 1
        queue.waiting = 0


def test_images_that_wait_together_go_through_together(bench):
    with bench.running(batch=4) as client:
        results = inspect(client, *(png(GOOD if number % 2 else BAD, seed=number) for number in range(11)))
    assert [one["file"] for one in results] == [f"{number}.png" for number in range(11)]
    assert [one["verdict"] for one in results] == ["defective", "good"] * 5 + ["defective"]
    served = bench.backend.batches[2:]  # without those that warm it up
    assert sum(served) == 11
    assert max(served) > 1
    assert max(served) <= 4


def test_a_backend_that_fails_fails_its_batch_and_no_more(bench):
    with bench.running() as client:
        bench.backend.fault = RuntimeError("out of order")
        answer = client.post(INSPECT, files=files(png()))
        assert (answer.status_code, "log says why" in answer.json()["error"]) == (500, True)
        bench.backend.fault = None
        assert inspect(client, png())
        assert len(client.get("/v1/inspections").json()["items"]) == 1


def test_a_score_that_is_no_number_is_no_verdict(bench, monkeypatch):
    with bench.running() as client:
        whole = bench.backend.__class__.maps_and_scores
        monkeypatch.setattr(
            bench.backend.__class__, "maps_and_scores", lambda *of: tuple(part * float("nan") for part in whole(*of))
        )
        assert client.post(INSPECT, files=files(png())).status_code == 500
        monkeypatch.undo()
        assert inspect(client, png())


def test_a_new_version_is_served_and_a_damaged_one_is_not(bench):
    folder = bench.settings.models[0]
    with bench.running() as client:
        station = client.app.state.station
        first = inspect(client, png())[0]["version"]
        make_model(folder, damaged=True)
        until(lambda: station.problems)
        assert "is damaged" in client.get("/readyz").json()["problems"]["part"]
        assert 'shiftproof_reload_failed{model="part"} 1.0' in client.get("/metrics").text
        assert inspect(client, png())[0]["version"] == first
        make_model(folder, number=2, size=[16, 16])
        until(lambda: station.queues["part"].version.version != first)
        assert station.problems == {}
        inspection = inspect(client, png(BAD))[0]
        assert inspection["version"] == client.get("/v1/models").json()["models"][0]["version"] != first
        assert [one["version"] for one in client.get("/v1/models/part").json()["calibrations"]] == [
            first,
            inspection["version"],
        ]


def test_an_image_that_waits_during_a_reload_goes_through_the_new_version(bench):
    with bench.running(batch=1) as client, concurrent.futures.ThreadPoolExecutor() as pool:
        station = client.app.state.station
        queue, first = station.queues["part"], station.queues["part"].version
        bench.backend.open.clear()
        waiting = [pool.submit(inspect, client, png(BAD, seed=number)) for number in range(2)]
        until(lambda: bench.backend.calls == 3 and len(queue._queue) == 1)  # two to warm up, and the first image
        second = station._opened["part"].__class__(
            "part",
            "other",
            bench.load(make_model(bench.settings.models[0].parent / "b", size=[16, 16])),
            first.calibrated,
        )
        queue.version = second
        bench.backend.open.set()
        versions = {one.result()[0]["version"] for one in waiting}
        assert versions == {first.version, "other"}


def test_old_files_go_and_rows_stay(bench):
    with bench.running() as client:
        one = inspect(client, png(GOOD))[0]
        size = sum(path.stat().st_size for path in (bench.settings.data / "files").rglob("*") if path.is_file())
    with bench.running(retention_bytes=8 * size) as client:
        station = client.app.state.station
        for truth in ("good", "defective"):
            kept = inspect(client, png(seed=len(truth)))[0]
            client.post(f"{kept['links']['self']}/review", json={"verdict": truth})
        for number in range(20):
            inspect(client, png(seed=100 + number))
        until(lambda: station.writer._stored <= 8 * size)
        items = client.get("/v1/inspections").json()["items"]
        assert len(items) == 23
        status = {item["id"]: client.get(item["links"]["image"]).status_code for item in items}
        assert status[items[0]["id"]] == 200  # the newest
        assert status[one["id"]] == status[kept["id"] + 1] == 410  # the oldest that nobody reviewed
        assert [status[item["id"]] for item in items if item["review"]] == [200, 200]
        gone = client.get(one["links"]["heatmap"])
        assert gone.json() == {"error": f"the files of inspection {one['id']} are no longer kept; its row is"}
        assert client.get(one["links"]["self"]).json()["image_kept"] is False
        again = inspect(client, png(GOOD))[0]  # the same image comes back
        assert client.get(again["links"]["image"]).content == png(GOOD)
        on_disk = sum(path.stat().st_size for path in (bench.settings.data / "files").rglob("*") if path.is_file())
        until(lambda: station.writer._stored == on_disk)


def test_files_that_no_row_names_are_swept(bench):
    with bench.running() as client:
        inspection = inspect(client, png())[0]
    folder = bench.settings.data / "files"
    orphan, half = folder / "ab" / ("ab" * 32), folder / "cd" / ".cdcd.tmp"
    orphan.write_bytes(b"x")
    half.write_bytes(b"y")
    with bench.running() as client:
        until(lambda: not orphan.exists() and not half.exists())
        assert client.get(inspection["links"]["image"]).content == png()


def test_a_changed_file_is_not_shown(bench):
    with bench.running() as client:
        inspection = inspect(client, png())[0]
        path = bench.settings.data / "files" / inspection["image_sha256"][:2] / inspection["image_sha256"]
        path.write_bytes(b"<script>")
        assert client.get(inspection["links"]["image"]).status_code == 410


def test_a_disk_that_cannot_be_written_is_503_and_nothing_is_answered(bench, monkeypatch):
    with bench.running() as client:
        station = client.app.state.station

        def full(content):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(station.files, "write", full)
        answer = client.post(INSPECT, files=files(png()))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        monkeypatch.undo()
        assert inspect(client, png())
        assert len(client.get("/v1/inspections").json()["items"]) == 1


def test_a_key_that_is_being_answered_is_refused(bench):
    with bench.running() as client, concurrent.futures.ThreadPoolExecutor() as pool:
        bench.backend.open.clear()
        key = {"Idempotency-Key": "k"}
        first = pool.submit(client.post, INSPECT, files=files(png()), headers=key)
        until(lambda: client.app.state.station.queues["part"].waiting == 1)
        assert client.post(INSPECT, files=files(png()), headers=key).status_code == 409
        bench.backend.open.set()
        assert first.result().json() == client.post(INSPECT, files=files(png()), headers=key).json()


def test_stopping_finishes_what_was_accepted(bench):
    async def stop_while_five_wait():
        station = Station(bench.settings, bench.load)
        await station.start()
        bench.backend.open.clear()
        uploads = [Upload(f"{number}.png", png(seed=number)) for number in range(5)]
        asked = [asyncio.create_task(station.inspect("part", [upload])) for upload in uploads]
        while station.queues["part"].waiting < len(asked):
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(station.stop())
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in (stopping, *asked))
        bench.backend.open.set()
        await stopping
        return {one.id for answer in await asyncio.gather(*asked) for one in answer}

    answered = asyncio.run(stop_while_five_wait())
    assert len(answered) == 5
    with bench.running() as client:
        assert {one["id"] for one in client.get("/v1/inspections").json()["items"]} == answered


def test_what_cannot_be_opened_is_one_line(bench, tmp_path):
    def refused(**changes):
        with pytest.raises(ShiftproofError) as error:
            Station(replace(bench.settings, **changes), bench.load)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no model given" in refused(models=())
    assert "expected sqlite or postgresql" in refused(database="mysql://host/name")
    assert "--db is no database URL" in refused(database="somewhere")
    assert "which forgets" in refused(database="sqlite://")
    said = refused(database="postgresql://me:secret@127.0.0.1:1/name")
    assert "cannot be opened" in said
    assert "secret" not in said
    with bench.running():
        assert "is in use by another station" in refused()
    (tmp_path / "file").write_bytes(b"")
    assert "cannot write" in refused(data=tmp_path / "file" / "data")
    with pytest.raises(UsageError, match="are both called 'part'"):
        model_names((tmp_path / "a" / "part", tmp_path / "b" / "part"))


def test_a_database_of_a_newer_version_is_refused(bench):
    with bench.running() as client, client.app.state.station.database.writing() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ShiftproofError, match="was written by a newer shiftproof"):
        Station(bench.settings, bench.load)


def test_the_size_of_the_networks_is_what_images_are_brought_to(bench):
    with bench.running() as client:
        assert inspect(client, png(size=(300, 200)))[0]["height"] == 300
    assert bench.backend.image_size == SIZE


@dataclass(frozen=True)
class OfConditions:
    """Shift-conditional thresholds of a test: every image is unusual."""

    fixed: Calibration
    unusual: Calibration

    def for_image(self, pixels: np.ndarray) -> Calibration:
        assert pixels.shape == (*SIZE, 3)
        return self.unusual


def test_a_shift_conditional_threshold_judges_in_the_station_as_everywhere(bench):
    unusual = Calibration.from_scores([0.99], map_low=0.0)
    load = bench.load
    bench.load = lambda folder: Detector(
        bench.backend, load(folder).calibration, load(folder).manifest, OfConditions(load(folder).calibration, unusual)
    )
    with bench.running() as client:
        (answer,) = inspect(client, png())
        detector = client.app.state.station.queues["part"].version.detector
    pixels = resize_image(decode_image(png(), "part"), SIZE)
    expected = detector.judge(answer["score"], pixels)
    assert answer["threshold"] == expected.threshold == 0.99
    assert (answer["p_value"], answer["verdict"]) == (expected.p_value, expected.verdict)
