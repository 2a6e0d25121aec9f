"""``shiftproof threshold``: show the threshold, move it, and what is refused."""

from __future__ import annotations

import pytest

import shiftproof as package
from shiftproof.calibration import Calibration
from shiftproof.errors import DataError
from shiftproof.pipelines.threshold import score_further
from shiftproof.results import Verdict

from .parts import read_json, save, scratched, texture


def calibration_of(model) -> Calibration:
    return Calibration.from_json(read_json(model / "model.json")["calibration"])


def test_it_shows_the_threshold_and_changes_nothing(shiftproof, own_model):
    before = (own_model / "model.json").read_bytes()
    result = shiftproof("threshold", own_model)
    calibration = calibration_of(own_model)
    assert result.code == 0
    assert f"{calibration.threshold:.4f}" in result.out
    assert calibration.sentence() in result.out
    assert (own_model / "model.json").read_bytes() == before


def test_a_moved_threshold_is_what_judges_and_the_former_one_is_kept(shiftproof, own_model):
    former = calibration_of(own_model)
    assert shiftproof("threshold", own_model, "--false-alarm-rate", "0.5").code == 0
    assert calibration_of(own_model) == former.moved(target=0.5)
    assert shiftproof("threshold", own_model, "--rule", "certified").code == 0
    assert calibration_of(own_model) == former.moved(target=0.5, rule="certified")
    value = former.scores[-1] + 1
    result = shiftproof("threshold", own_model, "--value", value)
    assert result.code == 0
    assert len(result.warnings) == 1  # above the highest good score
    manifest = read_json(own_model / "model.json")
    rules = [(entry["rule"], entry["target"]) for entry in manifest["threshold_history"]]
    assert rules == [("expected", 0.05), ("expected", 0.5), ("certified", 0.5)]
    detector = package.load(own_model)  # every hash is checked
    assert detector.calibration.threshold == value
    inspection = detector.inspect(scratched(1)[0])
    assert inspection.defective == (inspection.score > value)
    without = read_json(own_model / "model.json")["calibration_without_correction"]
    assert (without["target"], without["rule"]) == (0.5, "certified")


def test_further_images_are_added_to_the_calibration(shiftproof, own_model, tmp_path):
    former = calibration_of(own_model)
    for number in range(6):
        save(tmp_path / "more" / f"{number}.png", texture(500 + number))
    assert shiftproof("threshold", own_model, "--calibration", tmp_path / "more", "--force").code == 0
    current = calibration_of(own_model)
    assert len(current.scores) == len(former.scores) + 6
    assert set(former.scores) <= set(current.scores)
    assert read_json(own_model / "model.json")["threshold_history"][0]["added"].startswith("6 images")


class Scoring:
    """A detector as far as further calibration images need one: calibration scores 1 to 20, and a score for all files."""

    calibration = Calibration.from_scores(range(1, 21), map_low=0.0)

    def __init__(self, score: float):
        self.score = score

    def predict(self, paths):
        return [Verdict(self.score, 0.5, 20.0, False) for _ in paths]


@pytest.mark.parametrize("score", [0.5, 20.5])
def test_images_whose_scores_are_far_off_are_refused_unless_forced(tmp_path, score):
    for number in range(3):
        save(tmp_path / f"{number}.png", texture(number))
    with pytest.raises(DataError, match=str(score)):
        score_further(Scoring(score), tmp_path)
    assert score_further(Scoring(score), tmp_path, force=True) == [score] * 3
    assert score_further(Scoring(7.0), tmp_path) == [7.0] * 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--false-alarm-rate", "1.5"), "1.5"),
        (("--false-alarm-rate", "0.001"), "999"),  # how many images it takes
        (("--rule", "certain"), "certain"),
        (("--value", "nan"), "nan"),
        (("--value", "1", "--rule", "expected"), "--value"),
        (("--calibration", "/nowhere"), "/nowhere"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_and_changes_nothing(shiftproof, own_model, arguments, named):
    before = (own_model / "model.json").read_bytes()
    result = shiftproof("threshold", own_model, *arguments)
    assert result.code == 2
    assert named in result.error
    assert (own_model / "model.json").read_bytes() == before


def test_a_memory_model_calibrates_on_all_its_images_and_finds_the_scratches(shiftproof, product, tmp_path):
    folder = tmp_path / "memory"
    assert shiftproof("train", product, folder, "--method", "memory", "--image-size", "64").code == 0
    manifest = read_json(folder / "model.json")
    assert manifest["data"]["train_images"] == manifest["data"]["calibration_images"] == 10
    assert len(calibration_of(folder).scores) == 10
    assert min(calibration_of(folder).scores) > 0.1  # no image is scored with its own patches
    evaluation = package.evaluate(package.load(folder), product)
    assert evaluation.clean.image.auroc == 1.0
    assert evaluation.clean.threshold.detection_rate_best == 1.0
