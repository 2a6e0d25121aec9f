"""``--executor ray``: what the local executor finds, each row once, whoever is killed meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from shiftproof.benchmark import BenchmarkRequest, run_benchmark
from shiftproof.benchmark.local_executor import RunOptions, run_local
from shiftproof.benchmark.runs import Run
from shiftproof.distributed import cluster, ray_executor
from shiftproof.distributed.cluster import Cluster, connected, reason
from shiftproof.distributed.predict import predict_with_ray
from shiftproof.distributed.ray_executor import RayExecutor
from shiftproof.errors import BackendError
from shiftproof.reporter import Reporter
from shiftproof.training import Interrupted

from .parts import SIDE, read_csv, read_json, save, texture

IMAGES = 120
WORKERS = Cluster(workers=2)
RAY = ("--executor", "ray", "--workers", "1")


@pytest.fixture(scope="module")
def started():
    """Ray on this machine, once for all tests: who finds it connected stays so."""
    with connected(WORKERS) as resources:
        assert resources.workers == 2
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
        yield


@pytest.fixture(scope="module")
def light(model, tmp_path_factory) -> Path:
    """A copy of the model that is exported: its workers need no torch."""
    from shiftproof.cli import run

    folder = Path(shutil.copytree(model, tmp_path_factory.mktemp("light") / "part"))
    assert run(["export", str(folder), "--to", "onnx"]) == 0
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder of images, one of them unreadable; not to be changed."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(IMAGES):
        save(folder / str(number % 3) / f"{number:03}.png", texture(number))
    (folder / "0" / "060.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def expected(light, images, tmp_path_factory) -> dict[str, dict[str, str]]:
    """What the local executor finds."""
    from shiftproof.cli import run

    out = tmp_path_factory.mktemp("local")
    assert run(["predict", str(light), str(images), str(images / "gone.png"), "--out", str(out)]) == 3
    return {row["path"]: row for row in read_csv(out / "predictions.csv")}


def assert_same_rows(out, expected):
    rows = pyarrow.parquet.read_table(out / "predictions.parquet").to_pylist()
    assert [row["path"] for row in rows] == sorted(expected)  # each once
    for row in rows:
        wanted = expected[row["path"]]
        assert row["status"] == wanted["status"]
        assert (row["verdict"] or "") == wanted["verdict"]
        assert wanted["error"].startswith(row["error"] or "-" * bool(wanted["error"]))
        for name in ("score", "p_value", "threshold"):
            assert row[name] == (pytest.approx(float(wanted[name]), rel=1e-5) if wanted[name] else None)
        assert (row["latency_ms"] is None) == (row["status"] == "error")


def workers(title):
    """Process numbers of Ray's workers that do what the title says."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if (folder / "cmdline").read_bytes().startswith(f"ray::{title}".encode()):
                    yield int(folder.name)
            except OSError:
                continue  # it has just ended


def shards(out):
    return {path.name: path.stat().st_mtime_ns for path in (out / "predictions.parquet").glob("part-*")}


def test_a_killed_worker_costs_no_row_and_doubles_none(started, light, images, expected, tmp_path):
    killed = []

    def kill_one(done, total):
        if not killed:
            killed.append(len(shards(tmp_path)))
            os.kill(next(workers("MapWorker")), signal.SIGKILL)

    inputs = [images, images / "gone.png", images / "1"]
    found = predict_with_ray(light, inputs, tmp_path, cluster=WORKERS, on_progress=kill_one)
    assert killed[0] < len(shards(tmp_path))  # in the middle of it
    assert_same_rows(tmp_path, expected)
    assert (found.images, found.failed) == (IMAGES + 1, 2)
    assert [line.split(": ")[1][:12] for line in found.failures] == ["is empty (0 ", "no such file"]
    assert found.defective == sum(row["verdict"] == "defective" for row in expected.values())
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]
    assert set(shards(tmp_path)) == {path.name for path in (tmp_path / "predictions.parquet").iterdir()}


def test_ctrl_c_stops_and_the_same_command_goes_on(started, shiftproof, light, images, expected, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    inputs = [images, images / "gone.png"]
    with pytest.raises(Interrupted, match=r"stopped at \d+ of 121 images: the same command goes on") as stopped:
        predict_with_ray(light, inputs, tmp_path, cluster=Cluster(workers=1), on_progress=stop)
    assert stopped.value.exit_code == 130
    before = shards(tmp_path)
    assert before
    # By the command, whose list of the same images is another way to name them.
    rows = [os.path.relpath(path, os.path.realpath(tmp_path)) for path in expected]
    pyarrow.parquet.write_table(pyarrow.table({"path": rows[::-1]}), tmp_path / "list.parquet")
    said = shiftproof("predict", light, tmp_path / "list.parquet", "--out", tmp_path, *RAY, "--heatmaps")
    assert said.code == 3
    assert_same_rows(tmp_path, expected)
    assert len(list((tmp_path / "heatmaps").rglob("*.png"))) == IMAGES - 1
    assert "unreadable" in said.out


def test_a_killed_run_goes_on_without_scoring_a_shard_again(started, shiftproof, light, images, expected, tmp_path):
    arguments = ["predict", light, images, images / "gone.png", "--out", tmp_path / "out", *RAY]
    command = [sys.executable, "-m", "shiftproof", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not list(tmp_path.glob("out/predictions.parquet/part-*")):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    before = shards(tmp_path / "out")
    said = shiftproof(*arguments)
    assert said.code == 3
    after = shards(tmp_path / "out")
    assert len(before) < len(after)
    assert before.items() <= after.items()
    assert_same_rows(tmp_path / "out", expected)
    assert "no heatmaps with this executor, unless --heatmaps asks for them" in said.out
    assert not (tmp_path / "out" / "heatmaps").exists()
    # All is there: Ray is not even asked.
    assert shiftproof(*arguments, "--address", "nowhere:1").code == 3
    assert shards(tmp_path / "out") == after
    # Of another model nothing stays.
    other = Path(shutil.copytree(light, tmp_path / "other"))
    (other / "model.onnx").write_bytes(b"damaged")
    said = shiftproof("predict", other, *arguments[2:])
    assert (said.code, "model.onnx" in said.error) == (2, True)


REQUEST = BenchmarkRequest(
    methods=("rd",),
    seeds=(0, 1),
    image_size=str(SIDE),
    steps=8,
    settings={"batch_size": 4, "precision": "32", "correction": "none"},
)


def test_a_killed_run_is_begun_again_and_rows_are_the_local_ones(started, product, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # paths that mean nothing to a worker elsewhere
    shutil.copytree(product, "part")
    told, ended, stop = [], [], threading.Event()

    def kill_one():
        while not stop.is_set():
            for number in workers("work_on"):
                os.kill(number, signal.SIGKILL)
                told.append(number)
                return
            time.sleep(0.002)

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        found = run_benchmark(
            Path("part"),
            Path("out"),
            REQUEST,
            executor=RayExecutor(WORKERS),
            on_run=lambda done, total, item: ended.append((done, total, item.seed)),
        )
    finally:
        stop.set()
        killer.join()
    assert len(told) == 1
    assert not found.failures
    assert sorted(seed for *_, seed in ended) == [0, 1]
    assert [part[:2] for part in ended] == [(1, 2), (2, 2)]
    local = run_benchmark(Path("part"), Path("whole"), REQUEST, executor=run_local)
    rows, whole = (read_json(Path(name, "results.json"))["rows"] for name in ("out", "whole"))
    assert len(rows) == 2
    assert [{**row, "train_seconds": 0} for row in rows] == [{**row, "train_seconds": 0} for row in whole]
    assert not local.failures
    assert run_benchmark(Path("part"), Path("out"), REQUEST, executor=RayExecutor(Cluster("nowhere:1"))).failures == []


class Deadly(Run):
    """A run that no worker survives."""

    def result(self):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_that_kills_every_worker_is_one_line_and_the_others_run(started, monkeypatch, tmp_path):
    for module in (cluster, ray_executor):
        monkeypatch.setattr(module, "RETRIES", 1)
    runs = [Deadly(tmp_path, "rd", "deadly", 0, {}, tmp_path), Run(tmp_path, "rd", "gone", 0, {}, tmp_path / "gone")]
    runs[1].settings["layout"] = "auto"
    ended = {item.category: line for item, line in RayExecutor(WORKERS)(runs, RunOptions(), Reporter())}
    assert ended["deadly"].startswith("deadly, rd, seed 0: its worker died 2 times, killed for its memory as a rule; ")
    assert ended["gone"].startswith("gone, rd, seed 0: ")
    assert "died" not in ended["gone"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--executor", "spark"), "unknown executor 'spark'"),
        (("--address", "auto"), "--address says where Ray runs: give --executor ray as well"),
        (("--workers", 2), "--workers says where Ray runs"),
        (("--executor", "ray", "--workers", 0), "workers 0 is too small"),
        (("--executor", "ray", "--address", "ray://head:1"), "expected auto, or HOST:PORT"),
        (
            ("--executor", "ray", "--address", "127.0.0.1:1"),
            "no Ray cluster answers at 127.0.0.1:1 (Connection refused)",
        ),
    ],
)
@pytest.mark.parametrize("command", ["predict", "benchmark"])
def test_wrong_use_and_a_cluster_that_is_not_there_are_one_line(
    shiftproof, model, product, tmp_path, command, arguments, message
):
    given = {"predict": (model, product / "test"), "benchmark": (product, "--methods", "rd")}[command]
    said = shiftproof(command, *given, "--out", tmp_path / "out", *arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.error


def test_without_ray_it_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(BackendError, match=r"needs the package ray: pip install 'shiftproof\[scale\]'"),
        connected(WORKERS),
    ):
        pass


def test_a_worker_that_ran_out_of_memory_is_one_line():
    from ray.exceptions import OutOfMemoryError

    line = reason(OutOfMemoryError("Task was killed due to the node running low on memory.\nMemory on the node: ..."))
    assert line.startswith("out of memory: Ray has ended its worker 4 times; fewer --workers, or more --cpus")
    assert "\n" not in line
