"""`shiftproof benchmark`: each run once, whatever happens, and tables that say what they are."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from shiftproof.benchmark import execution
from shiftproof.cli import run
from shiftproof.data.generate import generate

from .parts import QUICK, lay_out, read_csv, read_json, save, texture, weights_sha256

BUDGET = (*QUICK[:4], "--set", "batch_size=4", "precision=32")
RD = "rd:correction=none"
GNL = "gnl:segmentation=false,correction=features"
OUTPUTS = ["index.html", "models", "results.json", "rows.parquet", "runs", "table.md", "table.tex"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two categories; not to be changed. The second has no masks."""
    root = tmp_path_factory.mktemp("set")
    lay_out(root / "bolt")
    generate("folder", root / "cell", np.random.default_rng(0), train=10, test=3, size=(64, 64))
    shutil.rmtree(root / "cell" / "ground_truth")
    for number in range(4):  # a plain folder has no good images to test on: make it a category
        save(root / "cell" / "test" / "good" / f"{number}.png", texture(number + 50))
    (root / "cell" / "train").mkdir()
    (root / "cell" / "good").rename(root / "cell" / "train" / "good")
    (root / "cell" / "dent").rename(root / "cell" / "test" / "dent")
    return root


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory) -> Path:
    """A benchmark that is done; not to be changed."""
    out = tmp_path_factory.mktemp("bench") / "out"
    arguments = ["--methods", RD, GNL, "--seeds", "0", "1", "--shifts", "clean,brightness:1"]
    assert run(["benchmark", str(root), "--out", str(out), *arguments, "--without-correction", *BUDGET]) == 0
    return out


@pytest.fixture
def trained(monkeypatch):
    """The names of the models that are trained, and whether they are resumed."""
    names = {}
    train = execution.train

    def noted(data, model, **options):
        names[Path(model).parent.name] = options["resume"]
        return train(data, model, **options)

    monkeypatch.setattr(execution, "train", noted)
    return names


def state(out):
    """What must not change: each file of runs and models, and when it was written."""
    return {path: path.stat().st_mtime_ns for kind in ("runs", "models") for path in (out / kind).rglob("*.json")}


def test_one_row_for_each_method_category_seed_and_condition(finished):
    assert sorted(path.name for path in finished.iterdir()) == OUTPUTS
    rows = pyarrow.parquet.read_table(finished / "rows.parquet").to_pylist()
    places = {(row["method"], row["category"], row["seed"], row["condition"]) for row in rows}
    methods = (RD, GNL, f"{GNL} (no correction)")
    conditions = ("clean", "brightness-1")
    assert places == {(m, c, s, x) for m in methods for c in ("bolt", "cell") for s in (0, 1) for x in conditions}
    assert len(rows) == len(places) == 24
    assert rows == read_json(finished / "results.json")["rows"]


def test_a_row_is_what_train_and_evaluate_say(finished, root, shiftproof, tmp_path):
    options = ("--method", "rd", "--correction", "none", "--seed", 1, *QUICK)
    assert shiftproof("train", root / "bolt", tmp_path / "model", *options).code == 0
    shifts = ("--shifts", "clean,brightness:1")
    assert shiftproof("evaluate", tmp_path / "model", root / "bolt", "--out", tmp_path / "out", *shifts).code == 0
    metrics = read_json(tmp_path / "out" / "metrics.json")
    rows = read_json(finished / "results.json")["rows"]
    for row in rows:
        if (row["method"], row["category"], row["seed"]) == (RD, "bolt", 1):
            found = metrics[row["condition"]]
            assert row["image_auroc"] == found["image"]["auroc"]
            assert row["aupro_30"] == found["pixel"]["aupro_30"]
            assert row["threshold"] == found["threshold"]["value"]


def test_a_category_without_masks_has_nulls_and_a_note(finished):
    found = read_json(finished / "results.json")
    assert "cell: no masks: pixel figures are null" in found["notes"]
    for row in found["rows"]:
        assert (row["pixel_auroc"] is None) == (row["aupro_30"] is None) == (row["category"] == "cell")
        assert row["image_auroc"] is not None
    table = pyarrow.parquet.read_table(finished / "rows.parquet")
    assert str(table.schema.field("selected_step").type) == "int64"


def test_tables_show_the_rows(finished):
    found = read_json(finished / "results.json")
    values = [
        row["image_auroc"]
        for row in found["rows"]
        if (row["method"], row["category"], row["condition"]) == (RD, "cell", "clean")
    ]
    expected = f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"
    (line,) = [line for line in (finished / "table.md").read_text().splitlines() if line.startswith("| cell |")][:1]
    assert line.split(" | ")[1].replace("*", "") == f"{expected} / – / –"
    assert f"{expected.replace('±', '$' + chr(92) + 'pm$')} / -- / --" in (
        (finished / "table.tex").read_text().replace(r"\textbf{", "").replace("}", "")
    )
    for name in ("table.md", "table.tex", "index.html"):
        text = (finished / name).read_text()
        assert "blind: fixed schedule, last weights" in text
        assert "oracle" not in text


def test_nothing_that_is_finished_runs_again(finished, root, shiftproof, trained, tmp_path):
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    before = state(out)
    same = f"{GNL},augment=blind"  # a default, said: the same runs by another name
    arguments = ("--methods", same, "--seeds", 0, 1, "--shifts", "clean,brightness:1", "--without-correction", *BUDGET)
    said = shiftproof("benchmark", root, "--out", out, *arguments)
    assert (said.code, trained) == (0, {})
    assert state(out) == before
    names = {row["method"] for row in read_json(out / "results.json")["rows"]}
    assert names == {same, f"{same} (no correction)"}  # what was asked for, as it was asked for


def test_more_conditions_and_reevaluate_use_the_models_that_are_there(finished, root, shiftproof, trained, tmp_path):
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    arguments = ("benchmark", root, "--out", out, "--methods", RD, "--categories", "bolt", *BUDGET)
    assert shiftproof(*arguments, "--shifts", "jpeg").code == 0
    (row,) = read_json(out / "results.json")["rows"]
    assert (row["condition"], trained) == ("jpeg-3", {})
    (folder,) = [path for path in (out / "runs").iterdir() if path.name == row["run"]]
    first = (folder / "run.json").stat().st_mtime_ns
    assert shiftproof(*arguments, "--shifts", "jpeg", "--reevaluate", "--drop-models").code == 0
    assert (folder / "run.json").stat().st_mtime_ns > first
    assert (read_json(out / "results.json")["rows"], trained) == ([row], {})
    assert not list((out / "models").glob("bolt_rd_0_*/final"))
    assert len(list((out / "models").glob("bolt_rd_1_*/final"))) == 1


def test_a_killed_run_goes_on_to_the_same_rows(root, shiftproof, trained, tmp_path):
    arguments = ["benchmark", str(root), "--methods", "rd", "rdpp", "--categories", "bolt"]
    budget = [part if part != "6" else "12" for part in BUDGET]
    out = tmp_path / "out"
    code = "from shiftproof.training import loop; loop.CHECKPOINT_EVERY = 0; from shiftproof.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--out", out, *budget],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not list(out.glob("models/bolt_rdpp_*/final/training/checkpoint.safetensors")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "results.json").exists()
    before = state(out)
    assert len([path for path in before if path.name == "run.json"]) == 1
    said = shiftproof(*arguments, "--out", out, *budget)
    assert said.code == 0
    (resumed,) = trained.items()
    assert resumed[0].startswith("bolt_rdpp_0_")
    assert resumed[1]
    assert {path: when for path, when in state(out).items() if path in before} == before
    assert shiftproof(*arguments, "--out", tmp_path / "whole", *budget).code == 0
    rows, whole = (read_json(folder / "results.json")["rows"] for folder in (out, tmp_path / "whole"))
    assert [{**row, "train_seconds": 0} for row in rows] == [{**row, "train_seconds": 0} for row in whole]


def test_the_oracle_keeps_the_best_look_and_everything_says_so(root, finished, shiftproof, tmp_path):
    out = tmp_path / "out"
    arguments = ("--methods", RD, "--categories", "bolt", "--protocol", "oracle", "--oracle-every", 2, *BUDGET)
    said = shiftproof("benchmark", root, "--out", out, *arguments)
    assert said.code == 0
    found = read_json(out / "results.json")
    (row,) = found["rows"]
    (folder,) = (out / "runs").iterdir()
    looks = read_json(folder / "run.json")["oracle"]
    assert [look["step"] for look in looks] == [2, 4, 6]
    best = max(looks, key=lambda look: look["auroc"])
    assert (row["image_auroc"], row["selected_step"], row["steps"]) == (best["auroc"], best["step"], best["step"])
    label = "oracle: selected on the test set"
    assert (row["protocol"], found["label"]) == ("oracle", label)
    assert label in said.out
    for name in ("table.md", "table.tex", "index.html", f"runs/{folder.name}/report.html"):
        assert label in (out / name).read_text()
    # Looking does not change what is trained: the last weights are those of the blind run.
    (oracle,), (blind,) = out.glob("models/*/final"), finished.glob("models/bolt_rd_0_*/final")
    assert weights_sha256(oracle) == weights_sha256(blind)


def test_the_oracle_needs_something_to_select_by(root, shiftproof, tmp_path):
    shutil.copytree(root / "bolt", tmp_path / "bolt")
    shutil.rmtree(tmp_path / "bolt" / "test" / "scratch")
    shutil.rmtree(tmp_path / "bolt" / "ground_truth")
    arguments = ("--methods", RD, "--protocol", "oracle", *BUDGET)
    said = shiftproof("benchmark", tmp_path / "bolt", "--out", tmp_path / "out", *arguments)
    assert said.code == 2
    assert "needs good and defective test images; use --protocol blind" in said.err.splitlines()[-1]


def test_a_run_that_fails_does_not_stop_the_others(root, shiftproof, tmp_path):
    own = Path(shutil.copytree(root, tmp_path / "data"))
    shutil.rmtree(own / "cell" / "test")
    (own / "bolt" / "train" / "good" / "003.png").write_bytes(b"")
    out = tmp_path / "out"
    said = shiftproof("benchmark", own, "--out", out, "--methods", RD, *BUDGET)
    assert said.code == 3
    found = read_json(out / "results.json")
    assert [row["category"] for row in found["rows"]] == ["bolt"]
    assert found["runs"] == {"finished": 1, "all": 2}
    assert found["failures"][0].startswith(f"cell, {RD}, seed 0: ")
    assert "nothing to test on" in found["failures"][0]
    assert any("1 images could not be used" in note for note in found["notes"])
    assert "1 of 2 runs" in (out / "index.html").read_text()
    assert not list((out / "models").glob("cell_*/final"))  # it was found out before the training


def test_without_pyarrow_there_is_a_csv_file_and_a_line(finished, root, shiftproof, monkeypatch, tmp_path):
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    arguments = ("--methods", RD, "--seeds", 0, 1, "--shifts", "clean,brightness:1", "--without-correction", *BUDGET)
    said = shiftproof("benchmark", root, "--out", out, *arguments)
    assert said.code == 0
    assert any("pip install 'shiftproof[scale]'" in line for line in said.warnings)
    assert not (out / "rows.parquet").exists()
    rows = read_csv(out / "rows.csv")
    assert [float(row["image_auroc"]) for row in rows] == [
        row["image_auroc"] for row in read_json(out / "results.json")["rows"]
    ]
    assert {row["pixel_auroc"] for row in rows if row["category"] == "cell"} == {""}


def test_where_a_recipe_is_not_followed_is_said(root, shiftproof, tmp_path):
    small = ("--backbone", "tf_efficientnet_lite0.in1k", "--shifts", "clean")
    arguments = ("--recipe", "adshift-iccv2023", "--categories", "bolt", *small, *BUDGET)
    said = shiftproof("benchmark", root, "--out", tmp_path, *arguments)
    assert said.code == 2
    assert "student" in said.err.splitlines()[-1]  # the papers' student mirrors a ResNet
    said = shiftproof("benchmark", root, "--out", tmp_path, *arguments, "student=lightweight")
    assert said.code == 0
    for text in (said.out, (tmp_path / "table.md").read_text(), (tmp_path / "index.html").read_text()):
        assert "set by hand: backbone tf_efficientnet_lite0.in1k instead of wide_resnet50_2.tv_in1k" in text
        assert "there is no gray view" in text
    (row,) = read_json(tmp_path / "results.json")["rows"]
    assert row["recipe"] == "adshift-iccv2023"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "rdpq"), "unknown method 'rdpq'"),
        (("--categories", "blot"), "unknown category 'blot'; did you mean bolt"),
        (("--set", "ssot"), "write NAME=VALUE"),
        (("--layout", "visaa"), "unknown layout 'visaa'"),
        (("--backbone", "resnet18.tv_in1"), "needs a known pretrained tag"),
    ],
)
def test_wrong_use_is_one_line_before_any_work(root, shiftproof, tmp_path, arguments, message):
    said = shiftproof("benchmark", root, "--out", tmp_path / "out", *arguments)
    assert said.code == 2
    assert message in said.error
    assert not (tmp_path / "out").exists()


def test_nothing_recognised(shiftproof, tmp_path):
    said = shiftproof("benchmark", tmp_path, "--out", tmp_path / "out")
    assert (said.code, "no category found in it or one folder below; looked for" in said.error) == (2, True)
