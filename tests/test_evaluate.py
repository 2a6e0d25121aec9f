from __future__ import annotations

import importlib
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from shiftproof.calibration import Calibration
from shiftproof.errors import DataError
from shiftproof.loading import load
from shiftproof.metrics import image_metrics
from shiftproof.report.evaluation import ConditionScores

from .parts import read_csv, read_json, save, scratched, texture

evaluation = importlib.import_module("shiftproof.pipelines.evaluate")  # the package gives the function that name
IMAGE = {"auroc", "ap", "f1_max"}
PIXEL = {"auroc", "ap", "f1_max", "aupro_30", "aupro_05"}
RATES = {"false_alarm_rate", "detection_rate", "detection_rate_best"}
THRESHOLD = {"value", *RATES, "false_alarm_interval", "detection_interval"}
COLUMNS = ["condition", "path", "defect_type", "label", "status", "score", "p_value", "verdict", "threshold", "error"]


def assert_condition(entry, *, masks=True):
    assert entry["image"].keys() == IMAGE
    assert entry["pixel"].keys() == PIXEL
    intervals = {"false_alarm_interval", "detection_interval"}
    assert entry["threshold"].keys() in (THRESHOLD, THRESHOLD - intervals)  # a summary has none
    numbers = [*entry["image"].values(), entry["threshold"]["false_alarm_rate"], entry["threshold"]["detection_rate"]]
    numbers += entry["pixel"].values() if masks else []
    assert all(isinstance(number, float) and 0 <= number <= 1 for number in numbers)
    if not masks:
        assert set(entry["pixel"].values()) == {None}


def assert_self_contained(page):
    """One file: no script, and nothing that a browser would fetch."""
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<link" not in text
    assert "@import" not in text
    assert set(re.findall(r"(?:src|href)\s*=\s*[\"']?([a-z]+:|#|/)", text)) <= {"data:", "#"}
    assert set(re.findall(r"url\(\s*[\"']?(data:|#|.)", text)) <= {"data:", "#"}
    return text


@pytest.fixture(scope="module")
def evaluated(model, product, tmp_path_factory):
    """An evaluation, clean and under two shifts, for tests that only read it."""
    from shiftproof.cli import run

    out = tmp_path_factory.mktemp("evaluation")
    assert (
        run(["evaluate", str(model), str(product), "--out", str(out), "--shifts", "clean,brightness:3,rotation"]) == 0
    )
    return out


def test_metrics_hold_an_object_for_each_condition_and_what_they_come_to(evaluated, model):
    metrics = read_json(evaluated / "metrics.json")
    assert list(metrics) == ["clean", "brightness-3", "rotation-3", "mean_shift", "worst_shift"]
    for entry in metrics.values():
        assert_condition(entry)
        assert entry["threshold"]["value"] == read_json(model / "model.json")["calibration"]["threshold"]
    assert metrics["clean"]["images"] == {"good": 4, "defective": 3, "lost_defects": 0}
    bright, turned = metrics["brightness-3"], metrics["rotation-3"]
    for group, keys in (("image", IMAGE), ("pixel", PIXEL), ("threshold", RATES)):
        for key in keys:
            pair = bright[group][key], turned[group][key]
            assert metrics["mean_shift"][group][key] == pytest.approx(sum(pair) / 2)
            worst = max(pair) if key == "false_alarm_rate" else min(pair)
            assert metrics["worst_shift"][group][key] == worst


def test_scores_say_every_image_under_every_condition_and_metrics_follow_from_them(evaluated, product):
    rows = read_csv(evaluated / "scores.csv")
    assert list(rows[0]) == COLUMNS
    names = sorted(path.relative_to(product).as_posix() for path in (product / "test").rglob("*.png"))
    metrics = read_json(evaluated / "metrics.json")
    for condition in ("clean", "brightness-3", "rotation-3"):
        held = [row for row in rows if row["condition"] == condition]
        assert sorted(row["path"] for row in held) == names
        assert {row["status"] for row in held} == {"ok"}
        for row in held:
            kind = row["path"].split("/")[1]
            assert (row["defect_type"], row["label"]) == (kind, "good" if kind == "good" else "defective")
            assert row["verdict"] == ("defective" if float(row["score"]) > float(row["threshold"]) else "good")
            assert 0.25 <= float(row["p_value"]) <= 1  # three images were held out
            assert row["error"] == ""
        labels = np.array([row["label"] == "defective" for row in held])
        scores = np.array([float(row["score"]) for row in held])
        flagged = np.array([row["verdict"] == "defective" for row in held])
        entry = metrics[condition]
        assert entry["image"] == image_metrics(labels, scores)
        assert entry["threshold"]["false_alarm_rate"] == flagged[~labels].mean()
        assert entry["threshold"]["detection_rate"] == flagged[labels].mean()
    of_first = {row["condition"]: row["score"] for row in rows if row["path"] == names[0]}
    assert len(set(of_first.values())) == 3  # the shifts did something


def test_the_report_is_one_file(evaluated, model):
    text = assert_self_contained(evaluated / "report.html")
    assert f"{model.name} on part" in text
    assert "brightness-3" in text
    assert "expected at most" in text
    assert "Raise false alarms" in text
    assert "The same parts under each shift" in text
    assert sorted(path.name for path in evaluated.iterdir()) == ["metrics.json", "report.html", "scores.csv"]


def test_the_table_is_whole_where_nobody_watches(shiftproof, model, product, tmp_path):
    said = shiftproof("evaluate", model, product, "--out", tmp_path / "out")
    assert said.code == 0
    assert "…" not in said.out
    head, row = said.out.splitlines()[:2]
    for name in ("condition", "image AUROC", "pixel AUROC", "AUPRO 0.3", "false alarms", "detected"):
        assert name in head
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert list(metrics) == ["clean"]
    assert row.split()[:3] == ["clean", *(f"{metrics['clean']['image'][key]:.3f}" for key in ("auroc", "ap"))]
    assert f"report: {tmp_path / 'out' / 'report.html'}" in said.out


def test_the_same_again_gives_the_same_figures(shiftproof, evaluated, model, product, tmp_path):
    shifts = "clean,brightness:3,rotation"
    assert shiftproof("evaluate", model, product, "--out", tmp_path, "--shifts", shifts).code == 0
    assert (tmp_path / "scores.csv").read_bytes() == (evaluated / "scores.csv").read_bytes()
    assert read_json(tmp_path / "metrics.json") == read_json(evaluated / "metrics.json")
    assert shiftproof("evaluate", model, product, "--out", tmp_path, "--shifts", shifts, "--seed", 1).code == 0
    other, first = (read_json(folder / "metrics.json") for folder in (tmp_path, evaluated))
    assert (other["clean"], other["brightness-3"]) == (first["clean"], first["brightness-3"])
    assert (tmp_path / "scores.csv").read_bytes() != (evaluated / "scores.csv").read_bytes()  # other turns


def test_pixel_figures_are_null_without_masks(shiftproof, model, own_product, tmp_path):
    shutil.rmtree(own_product / "ground_truth")
    said = shiftproof("evaluate", model, own_product, "--out", tmp_path / "out", "--shifts", "clean,contrast")
    assert said.code == 0
    for entry in read_json(tmp_path / "out" / "metrics.json").values():
        assert_condition(entry, masks=False)
    assert_self_contained(tmp_path / "out" / "report.html")


def test_a_folder_of_kinds_is_evaluated_too(shiftproof, model, product, tmp_path):
    shutil.copytree(product / "test", tmp_path / "kinds")
    assert shiftproof("evaluate", model, tmp_path / "kinds", "--out", tmp_path / "out").code == 0
    entry = read_json(tmp_path / "out" / "metrics.json")["clean"]
    assert_condition(entry, masks=False)
    assert entry["images"] == {"good": 4, "defective": 3, "lost_defects": 0}


def test_figures_that_need_both_classes_are_null_with_one(shiftproof, model, own_product, tmp_path):
    shutil.rmtree(own_product / "test" / "good")
    assert shiftproof("evaluate", model, own_product, "--out", tmp_path / "out").code == 0
    entry = read_json(tmp_path / "out" / "metrics.json")["clean"]
    assert entry["image"]["auroc"] is None
    assert entry["threshold"]["false_alarm_rate"] is None
    assert entry["threshold"]["detection_rate"] is not None


def test_a_defect_stays_one_whatever_its_mask_shows(shiftproof, model, own_product, tmp_path):
    """One pixel of 256x256, which is gone at the model's size, and a mask without any."""
    image, mask = scratched(400, side=256)
    mask[:] = 0
    save(own_product / "test" / "scratch" / "empty.png", image)
    save(own_product / "ground_truth" / "scratch" / "empty_mask.png", mask)
    mask[3, 5] = 255
    save(own_product / "test" / "scratch" / "tiny.png", image)
    save(own_product / "ground_truth" / "scratch" / "tiny_mask.png", mask)
    assert shiftproof("evaluate", model, own_product, "--out", tmp_path / "out").code == 0
    entry = read_json(tmp_path / "out" / "metrics.json")["clean"]
    assert entry["images"] == {"good": 4, "defective": 5, "lost_defects": 0}
    assert_condition(entry)
    labels = {row["path"]: row["label"] for row in read_csv(tmp_path / "out" / "scores.csv")}
    assert labels["test/scratch/empty.png"] == labels["test/scratch/tiny.png"] == "defective"


def test_a_defect_turned_out_of_the_frame_is_counted_and_left_out_of_pixel_figures_only(
    shiftproof, model, own_product, tmp_path
):
    name = "test/scratch/corner.png"
    image, mask = scratched(400)
    mask[:] = 0
    evaluated = []
    for number in range(2):
        out = tmp_path / str(number)
        assert shiftproof("evaluate", model, own_product, "--out", out, "--shifts", "clean,rotation_gray:3").code == 0
        evaluated.append(read_json(out / "metrics.json"))
        mask[:2, :2] = 255  # a corner, which a smaller angle than 45 degrees cuts off whatever its direction
        save(own_product / name, image)
        save(own_product / "ground_truth" / "scratch" / "corner_mask.png", mask)
    (before, after), condition = evaluated, "rotation_gray-3"
    assert after["clean"]["images"]["lost_defects"] == 0
    assert after["clean"]["pixel"] != before["clean"]["pixel"]
    assert after[condition]["images"] == {"good": 4, "defective": 4, "lost_defects": 1}
    assert after[condition]["pixel"] == before[condition]["pixel"]
    labels = {row["path"]: row["label"] for row in read_csv(out / "scores.csv") if row["condition"] == condition}
    assert labels[name] == "defective"


def test_each_image_has_a_draw_of_its_own(shiftproof, model, own_product, tmp_path):
    shutil.copy(own_product / "test" / "good" / "000.png", own_product / "test" / "good" / "twin.png")
    options = ("--out", tmp_path / "out", "--shifts", "clean,gaussian_noise:3")
    assert shiftproof("evaluate", model, own_product, *options).code == 0
    scores = {(row["condition"], row["path"]): float(row["score"]) for row in read_csv(tmp_path / "out" / "scores.csv")}
    clean, noisy = (
        [scores[condition, f"test/good/{name}.png"] for name in ("000", "twin")]
        for condition in ("clean", "gaussian_noise-3")
    )
    assert clean[0] == pytest.approx(clean[1], abs=1e-6)
    assert abs(noisy[0] - noisy[1]) > 1e-3


def test_a_missing_mask_is_refused_by_name(shiftproof, model, own_product, tmp_path):
    (own_product / "ground_truth" / "scratch" / "001_mask.png").unlink()
    said = shiftproof("evaluate", model, own_product, "--out", tmp_path / "out")
    assert said.code == 2
    assert f"{own_product / 'test/scratch/001.png'}: defective, but without its mask" in said.error
    assert not (tmp_path / "out").exists()


def test_a_mask_of_another_size_or_a_damaged_image_fails_alone(shiftproof, model, own_product, tmp_path):
    save(own_product / "ground_truth" / "scratch" / "001_mask.png", np.full((64, 60), 255, np.uint8))
    (own_product / "test" / "good" / "002.png").write_bytes(b"no image")
    said = shiftproof("evaluate", model, own_product, "--out", tmp_path / "out", "--shifts", "clean,contrast")
    assert said.code == 3
    assert len(said.warnings) == 2
    assert any("mask of 60x64 pixels for an image of 64x64 (test/scratch/001.png)" in line for line in said.warnings)
    rows = {row["path"]: row for row in read_csv(tmp_path / "out" / "scores.csv") if row["condition"] in ("", "clean")}
    assert len(rows) == 7
    failed = {name: row for name, row in rows.items() if row["status"] == "error"}
    assert set(failed) == {"test/scratch/001.png", "test/good/002.png"}
    assert all(row["error"] and row["score"] == row["verdict"] == "" for row in failed.values())
    entry = read_json(tmp_path / "out" / "metrics.json")["clean"]
    assert entry["images"] == {"good": 3, "defective": 2, "lost_defects": 0}
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "2 left out of every figure" in page
    assert all(row["error"] in page for row in failed.values())


def test_a_set_of_which_nothing_can_be_read_is_refused(shiftproof, model, tmp_path):
    for kind in ("good", "scratch"):
        save(tmp_path / "data" / "test" / kind / "0.png", texture(0)).write_bytes(b"")
    said = shiftproof("evaluate", model, tmp_path / "data", "--out", tmp_path / "out")
    assert said.code == 2
    assert said.error.startswith("shiftproof: nothing of")
    assert "is empty (0 bytes)" in said.error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.csv"]
    assert {row["status"] for row in read_csv(tmp_path / "out" / "scores.csv")} == {"error"}


def test_a_shift_that_does_not_apply_is_left_out_and_said_so(shiftproof, model, tmp_path):
    """The light's colour, on images that have none."""
    for kind, number in (("good", 0), ("good", 1), ("scratch", 2)):
        save(tmp_path / "data" / "test" / kind / f"{number}.png", texture(number)[..., 0])
    options = ("--out", tmp_path / "out", "--shifts", "clean,colour_temperature,brightness")
    said = shiftproof("evaluate", model, tmp_path / "data", *options)
    assert said.code == 0
    assert "colour_temperature-3 was left out: colour_temperature needs a colour image" in said.warnings[0]
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert list(metrics) == ["clean", "brightness-3", "mean_shift", "worst_shift"]
    assert "colour_temperature-3 was left out" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_images_to_which_a_shift_does_not_apply_are_counted(shiftproof, model, tmp_path):
    for kind, number in (("good", 0), ("good", 1), ("scratch", 2)):
        pixels = texture(number)
        save(tmp_path / "data" / "test" / kind / f"{number}.png", pixels if number else pixels[..., 0])
    options = ("--out", tmp_path / "out", "--shifts", "clean,colour_temperature")
    said = shiftproof("evaluate", model, tmp_path / "data", *options)
    assert said.code == 0
    assert len(said.warnings) == 1
    assert "colour_temperature-3 lacks 1 of 3 images: colour_temperature needs a colour image" in said.warnings[0]
    metrics = read_json(tmp_path / "out" / "metrics.json")
    assert metrics["colour_temperature-3"]["images"] == {"good": 1, "defective": 1, "lost_defects": 0}


@pytest.fixture
def shown(monkeypatch):
    """The reports that are written in this test."""
    reports = []
    monkeypatch.setattr(evaluation, "write_evaluation_report", lambda path, report: reports.append(report))
    return reports


def test_the_pictures_held_are_as_small_as_the_page_shows_them(model, tmp_path, shown, monkeypatch):
    """Labels the wrong way round, and a detector that sees every scratch: every image is a mistake."""
    image, mask = (pixels.repeat(8, axis=0).repeat(8, axis=1) for pixels in scratched(200))
    save(tmp_path / "data" / "test" / "good" / "0.png", image)
    for number in range(3):
        save(tmp_path / "data" / "test" / "scratch" / f"{number}.png", texture(number).repeat(8, 0).repeat(8, 1))
        save(tmp_path / "data" / "ground_truth" / "scratch" / f"{number}_mask.png", mask)
    detector = load(model)
    stream = detector.stream

    def seeing(images, batch):
        held = list(images)
        for pixels, seen in zip(held, stream(held, batch), strict=True):
            yield replace(seen, defective=bool((pixels >= 240).all(axis=2).any()))

    monkeypatch.setattr(detector, "stream", seeing)
    evaluation.evaluate(detector, tmp_path / "data", tmp_path / "out")
    (report,) = shown
    assert len(report.false_alarms) == 1
    assert len(report.misses) == 3
    for picture in (*report.misses, *report.false_alarms):
        assert picture.image.shape == picture.overlay.shape == (420, 420, 3)
    assert {picture.defect_share for picture in report.misses} == {(mask > 0).mean()}


def test_the_same_two_images_are_shown_under_each_shift_as_they_were_scored(model, product, tmp_path, shown):
    """The median of each kind, at the third severity; drawn as it was when it was scored."""
    shifts = "clean,rotation:2-4,gaussian_noise"
    evaluation.evaluate(load(model), product, tmp_path, shifts=shifts, seed=5)
    rows = read_csv(tmp_path / "scores.csv")
    assert [example.defective for example in shown[0].examples] == [True, False]
    for example in shown[0].examples:
        kind = "defective" if example.defective else "good"
        ranked = sorted(
            (float(r["score"]), r["path"]) for r in rows if r["condition"] == "clean" and r["label"] == kind
        )
        assert example.name == ranked[1][1]  # of three the middle one, of four the lower in the middle
        assert list(example.pictures) == ["clean", "rotation-3", "gaussian_noise-3"]
        for condition, picture in example.pictures.items():
            (row,) = (row for row in rows if (row["condition"], row["path"]) == (condition, example.name))
            assert picture.score == float(row["score"])
            assert (picture.defect_share > 0) == example.defective
        images = [picture.image.tobytes() for picture in example.pictures.values()]
        assert len(set(images)) == 3


def test_no_shift_shows_no_image_twice(model, product, tmp_path, shown):
    evaluation.evaluate(load(model), product, tmp_path)
    assert shown[0].examples == []


def test_an_image_that_has_gone_since_it_was_scored_is_not_shown_and_its_figures_stand(
    model, own_product, tmp_path, shown, monkeypatch
):
    write = evaluation.write_json_atomic
    monkeypatch.setattr(
        evaluation, "write_json_atomic", lambda *a: (write(*a), shutil.rmtree(own_product / "test" / "scratch"))
    )
    evaluation.evaluate(load(model), own_product, tmp_path / "out", shifts="clean,contrast")
    assert [example.defective for example in shown[0].examples] == [False]
    assert shown[0].scores["clean"].defective.sum() == 3


@pytest.mark.parametrize("n", [64, 5])
def test_a_guarantee_is_violated_by_false_alarms_that_the_rate_cannot_explain(n):
    """Against the tail of the binomial distribution; few calibration images guarantee no more than their bound."""
    calibration = Calibration.from_scores(range(n), target=0.05, rule="certified", map_low=0.0)
    rate = max(0.05, calibration.bound)
    assert (rate == 0.05) == (n == 64)
    for alarms in range(42):
        scores = np.where(np.arange(44) < alarms, 1000.0, -1.0)
        held = ConditionScores(np.arange(44) >= 41, scores, np.arange(44))
        violated = evaluation._guarantee(calibration, {"clean": held}).violated
        tail = sum(math.comb(41, n) * rate**n * (1 - rate) ** (41 - n) for n in range(alarms, 42))
        assert ("clean" in violated) == (tail < 0.05), alarms
    nothing = ConditionScores(np.array([True]), np.array([1000.0]), np.array([0]))
    assert evaluation._guarantee(calibration, {"clean": nothing}).violated == frozenset()


def test_a_number_that_one_shift_lacks_has_no_mean_and_no_worst():
    """The worst of the others would look better than the truth."""

    def entry(auroc, alarms):
        return {
            "image": {"auroc": auroc},
            "pixel": {"auroc": None},
            "threshold": {"value": 0.5, "false_alarm_rate": alarms},
        }

    found = evaluation._over_shifts({"jpeg-3": entry(0.9, 0.1), "scale-3": entry(None, 0.3)})
    assert found["mean_shift"] == entry(None, pytest.approx(0.2))
    assert found["worst_shift"] == entry(None, 0.3)
    assert evaluation._over_shifts({}) == {}


def test_the_page_lists_mistakes_first_and_the_table_is_whole(shiftproof, model, product, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "MOST_ROWS", 4)
    shown = []
    write = evaluation.write_evaluation_report
    monkeypatch.setattr(
        evaluation, "write_evaluation_report", lambda path, page: (shown.append(page), write(path, page))
    )
    assert shiftproof("evaluate", model, product, "--out", tmp_path, "--shifts", "clean,gaussian_noise:5").code == 0
    rows = read_csv(tmp_path / "scores.csv")
    assert len(rows) == 14
    wrong = [row for row in rows if (row["verdict"] == "defective") != (row["label"] == "defective")]
    assert wrong  # noise of that strength raises false alarms
    listed = [bool(item.outcome) for item in shown[0].table]
    assert listed == ([True] * len(wrong) + [False] * 4)[:4]
    assert "4 of 14 scores, mistakes first" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("brighter", [0, 30])
def test_light_that_tells_good_from_defective_is_said(shiftproof, model, tmp_path, brighter):
    """As in test sets whose defective images were taken on another day."""
    for number in range(12):
        save(tmp_path / "set" / "test" / "good" / f"{number:03}.png", texture(100 + number))
        image = np.clip(texture(200 + number).astype(int) + brighter, 0, 255).astype(np.uint8)
        image[30:32, 30:32] = 250
        save(tmp_path / "set" / "test" / "scratch" / f"{number:03}.png", image)
    said = shiftproof("evaluate", model, tmp_path / "set", "--out", tmp_path / "out")
    assert said.code == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ("Confounded:" in page) == bool(brighter)
    told = [line for line in said.warnings if "without any detector" in line]
    if not brighter:
        assert not told
    else:
        (line,) = told
        assert line.startswith("warning: clean: statistics of whole images tell good from defective")
        assert "by light (AUROC 1.000)" in line


@pytest.mark.parametrize("in_the_way", ["out", "out/report.html/x", "out/metrics.json/x", "out/scores.csv/x"])
def test_a_place_that_cannot_be_written_is_refused_before_any_image_is_read(
    shiftproof, model, product, tmp_path, monkeypatch, in_the_way
):
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).write_text("in the way")
    monkeypatch.setattr(evaluation, "iter_images", lambda *_, **__: pytest.fail("an image was read"))
    said = shiftproof("evaluate", model, product, "--out", tmp_path / "out")
    assert said.code == 2
    assert f"{tmp_path / 'out'} cannot be written" in said.error
    assert (tmp_path / in_the_way).read_text() == "in the way"


@pytest.mark.parametrize("step", ["iter_images", "write_json_atomic", "write_evaluation_report"])
def test_a_run_that_ends_early_leaves_no_old_report_beside_its_figures(
    shiftproof, model, product, tmp_path, monkeypatch, step
):
    for name in ("report.html", "metrics.json", "scores.csv"):
        (tmp_path / name).write_text("old")

    def fail(*_, **__):
        raise DataError("no more")

    monkeypatch.setattr(evaluation, step, fail)
    assert shiftproof("evaluate", model, product, "--out", tmp_path).code == 2
    assert not (tmp_path / "report.html").exists()
    assert all(path.read_text() != "old" for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shifts", "brigtness:3"), "unknown shift 'brigtness'; did you mean brightness"),
        (("--shifts", "clean,fog"), "unknown shift 'fog'; expected one of: "),
        (("--shifts", "brightness:6"), "severity 6 of shift 'brightness' is out of range"),
        (("--layout", "mvtecc"), "unknown layout 'mvtecc'; did you mean mvtec"),
    ],
)
def test_wrong_use_is_refused_in_a_line(shiftproof, model, product, tmp_path, options, message):
    said = shiftproof("evaluate", model, product, "--out", tmp_path / "out", *options)
    assert said.code == 2
    assert message in said.error
    assert not (tmp_path / "out").exists()


def test_a_set_without_a_test_folder_is_refused(shiftproof, model, product, tmp_path):
    said = shiftproof("evaluate", model, product / "train", "--out", tmp_path / "out")
    assert said.code == 2
    assert "nothing to test on; looked for test/<kind>/" in said.error


def test_a_disk_that_is_full_ends_in_a_line(shiftproof, model, product, tmp_path, small_disk):
    small_disk(1000)
    said = shiftproof("evaluate", model, product, "--out", tmp_path / "out", "--shifts", "all")
    assert said.code == 2
    assert "cannot be written" in said.error
    assert "File too large" in said.error
    assert not (tmp_path / "out" / "report.html").exists()
