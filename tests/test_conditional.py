"""Shift-conditional thresholds, from the command line: train, evaluate, predict, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shiftproof.cli import run
from shiftproof.loading import load

from .parts import QUICK, read_csv, read_json, weights_sha256


@pytest.fixture(scope="module")
def conditional(product, tmp_path_factory) -> Path:
    """A model of the product with thresholds for drifted images; not to be changed."""
    folder = tmp_path_factory.mktemp("conditional") / "part"
    assert run(["train", str(product), str(folder), *QUICK, "--conditional", "production"]) == 0
    return folder


@pytest.fixture(scope="module")
def evaluated(conditional, product, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    command = ["evaluate", conditional, product, "--out", out, "--shifts", "clean,brightness:5,gaussian_noise:5"]
    assert run([*map(str, command), "--threshold-mode", "conditional"]) == 0
    return out


def test_training_is_the_same_and_the_folder_holds_the_looks(conditional, model):
    assert weights_sha256(conditional) == weights_sha256(model)
    manifest, plain = (read_json(folder / "model.json") for folder in (conditional, model))
    assert manifest["calibration"] == plain["calibration"]
    about = manifest["conditional"]
    assert (about["protocol"], about["images"], about["versions"]) == ("production", 3, 61)
    assert "gaussian_noise" in about["families"]
    assert "conditional" not in plain
    assert "conditional.safetensors" in manifest["files"]


def test_info_says_what_the_shift_conditional_thresholds_rest_on(conditional, model, shiftproof):
    assert "conditional production: 3 calibration images in 61 versions each" in shiftproof("info", conditional).out
    assert "conditional the fixed threshold for every image" in shiftproof("info", model).out


def test_the_same_seed_gives_the_same_looks(conditional, product, tmp_path):
    assert run(["train", str(product), str(tmp_path / "again"), *QUICK, "--conditional", "production"]) == 0
    name = "conditional.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (conditional / name).read_bytes()


def test_the_table_of_an_evaluation_has_both_thresholds(conditional, product, shiftproof, tmp_path):
    said = shiftproof("evaluate", conditional, product, "--out", tmp_path / "both", "--threshold-mode", "conditional")
    assert "conditional: false alarms" in said.out
    assert "conditional" not in shiftproof("evaluate", conditional, product, "--out", tmp_path / "fixed").out


def test_an_evaluation_says_both_thresholds(evaluated, conditional):
    metrics = read_json(evaluated / "metrics.json")
    fixed = load(conditional).calibration.threshold
    rows = read_csv(evaluated / "scores.csv")
    for name in ("clean", "brightness-5", "gaussian_noise-5"):
        mine = [row for row in rows if row["condition"] == name]
        assert metrics[name]["threshold"]["value"] == fixed
        for kind, rate in (("good", "false_alarm_rate"), ("defective", "detection_rate")):
            few = [row for row in mine if row["label"] == kind]
            by_conditions = sum(float(row["score"]) > float(row["threshold"]) for row in few) / len(few)
            by_fixed = sum(float(row["score"]) > fixed for row in few) / len(few)
            assert metrics[name]["conditional"][rate] == pytest.approx(by_conditions)
            assert metrics[name]["threshold"][rate] == pytest.approx(by_fixed)
            assert all(
                (row["verdict"] == "defective") == (float(row["score"]) > float(row["threshold"])) for row in few
            )
    own = {row["threshold"] for row in rows if row["condition"] == "gaussian_noise-5"}
    assert own != {repr(fixed)}
    pair = [metrics[name]["conditional"] for name in ("brightness-5", "gaussian_noise-5")]
    for rate, worst in (("false_alarm_rate", max), ("detection_rate", min)):
        assert metrics["mean_shift"]["conditional"][rate] == pytest.approx(sum(each[rate] for each in pair) / 2)
        assert metrics["worst_shift"]["conditional"][rate] == worst(each[rate] for each in pair)
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    assert "Shift-conditional" in page


def test_without_being_asked_for_the_frozen_threshold_judges_alone(conditional, product, tmp_path):
    out = tmp_path / "plain"
    assert run(["evaluate", str(conditional), str(product), "--out", str(out), "--shifts", "gaussian_noise:5"]) == 0
    metrics = read_json(out / "metrics.json")
    assert "conditional" not in metrics["gaussian_noise-5"]
    assert len({row["threshold"] for row in read_csv(out / "scores.csv")}) == 1
    assert "Shift-conditional" not in (out / "report.html").read_text(encoding="utf-8")


def test_predictions_name_the_threshold_that_judged_each_image(conditional, product, shiftproof, tmp_path):
    assert run(["corrupt", str(product), str(tmp_path / "noisy"), "--shift", "gaussian_noise", "--severity", "5"]) == 0
    images = (product / "test", tmp_path / "noisy" / "test")
    said = shiftproof("predict", conditional, *images, "--out", tmp_path / "out", "--threshold-mode", "conditional")
    rows = read_csv(tmp_path / "out" / "predictions.csv")
    noisy = {row["threshold"] for row in rows if "noisy" in row["path"]}
    clean = {row["threshold"] for row in rows if "noisy" not in row["path"]}
    fixed = repr(load(conditional).calibration.threshold)
    assert fixed in clean
    assert fixed not in noisy
    assert all((row["verdict"] == "defective") == (float(row["score"]) > float(row["threshold"])) for row in rows)
    defective = sum(row["verdict"] == "defective" for row in rows)
    assert said.out.startswith(f"{len(rows)} images: {defective} defective, {len(rows) - defective} good")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "unusual images get a threshold for their conditions" in page
    assert page.count('class="badge defective"') >= defective  # with each picture, and in the table


def test_a_watched_folder_is_judged_by_conditions_as_well(conditional, product, shiftproof, tmp_path):
    assert run(["corrupt", str(product), str(tmp_path / "noisy"), "--shift", "gaussian_noise", "--severity", "5"]) == 0
    folder, out = tmp_path / "noisy" / "test" / "good", tmp_path / "lines.csv"
    watched = ("watch", conditional, folder, "--out", out, "--once", "--settle", "0", "--threshold-mode", "conditional")
    assert shiftproof(*watched).code == 0
    images = sorted(folder.glob("*.png"))
    expected = {str(path): load(conditional, threshold_mode="conditional").inspect(path).threshold for path in images}
    found = {row["path"]: float(row["threshold"]) for row in read_csv(out) if row["path"]}
    assert {Path(path).name: value for path, value in found.items()} == pytest.approx(
        {Path(path).name: value for path, value in expected.items()}
    )


def test_masks_are_empty_if_and_only_if_the_image_is_called_good(conditional, product):
    detector = load(conditional, threshold_mode="conditional")
    for seen in detector.inspect(sorted((product / "test").rglob("*.png"))):
        assert seen.mask.any() == seen.defective == (seen.score > seen.threshold)


def test_what_cannot_be_is_one_line(conditional, model, product, shiftproof, tmp_path):
    def refused(*arguments: object) -> str:
        said = shiftproof(*arguments)
        assert said.code == 2
        return said.error

    inspect = ("predict", model, product / "test", "--out", tmp_path / "out")
    assert "has no shift-conditional threshold: train it with --conditional" in refused(
        *inspect, "--threshold-mode", "conditional"
    )
    assert "threshold mode 'condtional'" in refused(*inspect, "--threshold-mode", "condtional")
    assert "conditional 'blnd'" in refused("train", product, tmp_path / "m", "--conditional", "blnd")
    unmatched = ("evaluate", conditional, product, "--out", tmp_path / "out", "--no-correction")
    assert "correction is left out" in refused(*unmatched, "--threshold-mode", "conditional")
    own = Path(shutil.copytree(conditional, tmp_path / "own"))
    (own / "conditional.safetensors").unlink()
    assert "conditional.safetensors" in refused("predict", own, product / "test", "--out", tmp_path / "out")
    assert not (tmp_path / "m").exists()
