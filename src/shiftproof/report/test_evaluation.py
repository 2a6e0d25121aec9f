from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from shiftproof.errors import ShiftproofError
from shiftproof.metrics.confounds import Confound
from shiftproof.report.evaluation import (
    MOST_FAILURES,
    ConditionScores,
    EvaluationReport,
    Guarantee,
    Picture,
    ScoredImage,
    ShiftExample,
    write_evaluation_report,
)

VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}
NOTHING = dict.fromkeys(("auroc", "ap", "f1_max", "aupro_30", "aupro_05"))


class Reader(HTMLParser):
    """Fails on tags that do not close; gathers words and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "data", "action")]
        if tag == "img":
            assert dict(attributes).get("alt")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data.strip())


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def text(reader: Reader) -> str:
    return re.sub(r"\s+", " ", " ".join(word for word in reader.words if word)).replace("\u202f", " ")


def picture(name: str, score: float, defect_share: float | None = None) -> Picture:
    image = np.full((40, 60, 3), 128, np.uint8)
    return Picture(name, "scratch", score, image, image, defect_share)


def scores_of(items: list[ScoredImage]) -> dict[str, ConditionScores]:
    """What is drawn of images that are listed."""
    names = dict.fromkeys(item.condition for item in items)
    held = {name: [item for item in items if item.condition == name] for name in names}
    return {
        name: ConditionScores(
            np.array([i.defective for i in images]), np.array([i.score for i in images]), np.arange(len(images))
        )
        for name, images in held.items()
    }


def metrics(**image: float | None) -> dict:
    return {
        "image": NOTHING | image,
        "pixel": NOTHING,
        "threshold": {"value": 0.5, "false_alarm_rate": 0.25, "detection_rate": 2 / 3},
    }


@pytest.fixture
def report() -> EvaluationReport:
    scores = [
        *(ScoredImage(f"good/{i}.png", "good", False, score, 0.5, "good") for i, score in enumerate((0.1, 0.2, 0.3))),
        ScoredImage("good/3.png", "good", False, 0.6, 0.01, "defective"),
        ScoredImage("scratch/0.png", "scratch", True, 0.4, 0.2, "good"),
        *(ScoredImage(f"scratch/{i}.png", "scratch", True, 0.9, None, "defective") for i in (1, 2)),
    ]
    return EvaluationReport(
        title="rdpp on screw",
        manifest={"method": "rdpp", "shiftproof": "0.1.0", "config": {"image_size": [256, 320], "seed": 7}},
        calibration_sentence="60 calibration images: at 95 % confidence at most 4.9 % false alarms",
        guarantee=Guarantee(0.05, 0.95),
        conditions={"clean": metrics(auroc=0.91666)},
        scores=scores_of(scores),
        table=scores,
        misses=[picture("scratch/0.png", 0.4, 0.0123)],
        false_alarms=[picture("good/3.png", 0.6)],
        low=0.0,
        high=1.0,
    )


def test_the_page_says_what_its_figures_may_be_owed_to(tmp_path: Path, report: EvaluationReport) -> None:
    write_evaluation_report(tmp_path / "report.html", report)
    assert "Confounded" not in text(read(tmp_path / "report.html"))
    told = replace(report, confounds=(Confound("light", 1.0), Confound("grain", 0.909)))
    write_evaluation_report(tmp_path / "report.html", told)
    words = text(read(tmp_path / "report.html"))
    assert "without any detector, by light (AUROC 1.000), grain (AUROC 0.909). Unless" in words
    assert words.index("Confounded") < words.index("Scores")


def test_the_page_says_what_the_detector_is_worth(tmp_path: Path, report: EvaluationReport) -> None:
    write_evaluation_report(tmp_path / "report.html", report)
    words = text(read(tmp_path / "report.html"))
    assert "Of 3 defective images, 2 were caught ; of 4 good ones, 1 raised a false alarm" in words
    for needed in ("66.7 %", "25.0 %", "0.917", report.calibration_sentence, "threshold 0.5000", "256 × 320", "seed 7"):
        assert needed in words
    assert "Image AUROC 0.917 good against defective Pixel AUROC – inside" in words  # None is a dash
    assert (
        words.index("Detection rate") < words.index("Scores") < words.index("Worst misses") < words.index("All scores")
    )
    assert "defect covers 1.2 %" in words
    assert "miss" in words
    assert "false alarm" in words


def test_the_page_asks_for_nothing_from_outside(tmp_path: Path, report: EvaluationReport) -> None:
    write_evaluation_report(tmp_path / "report.html", report)
    page = read(tmp_path / "report.html")
    assert len(page.addresses) == 4  # two pictures, each beside its heatmap
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "script" not in page.tags
    assert "link" not in page.tags
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "@import" not in source
    assert "url(" not in source


def test_names_are_text_and_never_markup(tmp_path: Path, report: EvaluationReport) -> None:
    name = 'x"><script>alert(1)</script>&amp;.png'
    hostile = replace(
        report,
        title=name,
        calibration_sentence=name,
        manifest={"method": name, "config": {"backbone": name, name: name}, "environment": {name: name}},
        conditions={name: metrics()},
        table=[ScoredImage(name, name, True, 0.4, None, "good", name)],
        failures=[name],
        misses=[replace(picture(name, 0.4), defect_type=name)],
    )
    write_evaluation_report(tmp_path / "report.html", hostile)
    page = read(tmp_path / "report.html")
    assert "script" not in page.tags
    assert page.words.count(name) >= 5


def test_a_name_that_is_no_text_does_not_keep_the_report_from_being_written(tmp_path, report) -> None:
    bad = b"b\xff.png".decode("utf-8", "surrogateescape")
    write_evaluation_report(tmp_path / "report.html", replace(report, misses=[picture(bad, 0.4)]))
    assert (tmp_path / "report.html").read_bytes().decode("utf-8")


def test_shifts_stand_beside_the_first_condition(tmp_path: Path, report: EvaluationReport) -> None:
    shifted = [replace(item, condition="brightness-3", score=item.score + 0.3) for item in report.table]
    both = [*report.table, *shifted]
    conditions = {name: metrics(auroc=0.8) for name in ("clean", "brightness-3", "mean_shift", "worst_shift")}
    conditions["mean_shift"] = {"image": {"auroc": 0.8}, "pixel": None}  # what is missing is a dash too
    shown = replace(report, conditions=conditions, scores=scores_of(both), table=both)
    write_evaluation_report(tmp_path / "report.html", shown)
    page = read(tmp_path / "report.html")
    words = text(page)
    assert "mean of shifts – – 0.800 – –" in words
    assert "Of 3 defective images" in words  # the head counts the first condition alone
    assert "14 scores, mistakes first, then the highest" in words
    # Histogram and ROC; four marks of the key, a panel; head, foot and a row of scores for each condition that is one.
    assert page.tags.count("svg") == 2 + 4 + 1 + 2 + 2


@pytest.fixture
def under_shifts(report: EvaluationReport) -> EvaluationReport:
    """Twenty images of each kind under clean, jpeg at two severities, rotation, and scale."""
    defective = np.arange(40) < 20
    clean = np.where(defective, 0.7, 0.3) + np.tile(np.linspace(-0.1, 0.25, 20), 2)
    moves = {"clean": 0.0, "jpeg-1": 0.0, "jpeg-4": 0.3, "rotation-3": -0.5, "scale-3": 0.0}
    scores = {name: ConditionScores(defective, clean + move, np.arange(40)) for name, move in moves.items()}
    conditions = {}
    for name, held in scores.items():
        rates = {"value": 0.5, "false_alarm_rate": float((held.scores[20:] > 0.5).mean())}
        rates["detection_rate"] = float((held.scores[:20] > 0.5).mean())
        images = {"good": 20, "defective": 20, "lost_defects": 2 * (name == "rotation-3")}
        conditions[name] = metrics(auroc=0.9) | {"threshold": rates, "images": images}
    conditions["worst_shift"] = metrics(auroc=0.9)
    guarantee = Guarantee(0.1, 0.95, frozenset({"jpeg-4"}))
    return replace(report, conditions=conditions, scores=scores, guarantee=guarantee)


def test_the_page_says_which_shifts_raise_false_alarms_and_which_cause_misses(tmp_path, under_shifts) -> None:
    write_evaluation_report(tmp_path / "report.html", under_shifts)
    words = text(read(tmp_path / "report.html"))
    assert "Raise false alarms 1 of 3 shifts: above the guaranteed 10.0 %" in words
    sentence = "1 of 3 shifts raises false alarms above the guaranteed 10.0 %: jpeg from severity 4 (up to 95.0 %)."
    assert sentence in words
    assert "by chance with 20 good images: scale (15.0 %)." in words  # above, and not refuted
    assert "1 of 3 shifts causes misses : under rotation, less than half" in words
    assert "jpeg raises false alarms" in words
    assert "rotation causes misses" in words
    assert "False alarms, worst 95.0 % jpeg-4" in words
    assert "Detection, worst 0.0 % rotation-3" in words
    assert "worst of shifts" in words
    assert "count as defective all the same: 2 under rotation-3." in words
    assert "Suspicious" not in words
    assert "Clean images already exceed" not in words


def test_shifts_that_keep_the_guarantee_are_stated_and_clean_that_violates_it(tmp_path, under_shifts) -> None:
    write_evaluation_report(
        tmp_path / "report.html", replace(under_shifts, guarantee=Guarantee(0.1, 0.95, frozenset({"clean"})))
    )
    words = text(read(tmp_path / "report.html"))
    assert "No shift of 3 raises false alarms above the guaranteed 10.0 %. Clean images already exceed it." in words
    assert "raises false alarms Horizontal" not in words


def test_an_auroc_that_rises_is_remarked_on(tmp_path, under_shifts) -> None:
    scores = dict(under_shifts.scores)
    mixed = np.random.default_rng(0).permutation(scores["clean"].scores)
    scores["clean"] = replace(scores["clean"], scores=mixed)
    write_evaluation_report(tmp_path / "report.html", replace(under_shifts, scores=scores))
    words = text(read(tmp_path / "report.html"))
    assert re.search(r"Suspicious: under jpeg-1 the image AUROC rises from 0\.\d{3} to 1\.000", words)


def test_the_worst_of_each_number_names_its_condition(tmp_path, under_shifts) -> None:
    conditions = {name: dict(entry) for name, entry in under_shifts.conditions.items()}
    conditions["scale-3"]["image"] = NOTHING | {"auroc": 0.6, "ap": 0.9, "f1_max": 0.9}
    for name in ("jpeg-1", "jpeg-4", "rotation-3"):
        conditions[name]["image"] = NOTHING | {"auroc": 0.8, "ap": 0.7 + 0.1 * (name != "jpeg-1"), "f1_max": None}
    conditions["worst_shift"]["image"] = NOTHING | {"auroc": 0.6, "ap": 0.7}
    write_evaluation_report(tmp_path / "report.html", replace(under_shifts, conditions=conditions))
    assert "0.600 scale-3 0.700 jpeg-1 – Metrics lie" in text(read(tmp_path / "report.html"))


def test_the_same_image_stands_under_each_shift_with_its_verdict(tmp_path, under_shifts) -> None:
    names = ("clean", "gaussian_noise-3")
    noise = np.random.default_rng(0).integers(0, 256, (360, 360, 3), dtype=np.uint8)  # hardest to compress
    examples = [
        ShiftExample(
            "d.png",
            "scratch",
            True,
            {n: replace(picture("d.png", s), overlay=noise) for n, s in zip(names, (0.9, 0.4), strict=True)},
        ),
        ShiftExample("g.png", "good", False, {n: picture("g.png", s) for n, s in zip(names, (0.2, 0.6), strict=True)}),
    ]
    shown = replace(under_shifts, examples=examples, misses=[], false_alarms=[])
    write_evaluation_report(tmp_path / "report.html", shown)
    page = read(tmp_path / "report.html")
    words = text(page)
    assert "A defect d.png scratch; the median of all defective images by score, clean" in words
    assert "clean 0.9000 · defective gaussian_ noise-3 0.4000 · miss" in words
    assert "clean 0.2000 · good gaussian_ noise-3 0.6000 · false alarm" in words
    assert len(page.addresses) == 8
    assert "outline" not in words  # none of them is annotated
    outlined = replace(examples[0], pictures={"clean": picture("d.png", 0.9, 0.1)})
    write_evaluation_report(tmp_path / "report.html", replace(shown, examples=[outlined]))
    assert "outline" in text(read(tmp_path / "report.html"))


def test_conditions_that_were_left_out_are_said(tmp_path, under_shifts) -> None:
    lines = ["colour_temperature-3 was left out: the images are gray"]
    write_evaluation_report(tmp_path / "report.html", replace(under_shifts, left_out=lines))
    assert f"{lines[0]}." in text(read(tmp_path / "report.html"))


def test_a_clean_evaluation_has_no_word_of_shifts(tmp_path, report) -> None:
    write_evaluation_report(tmp_path / "report.html", report)
    words = text(read(tmp_path / "report.html"))
    assert "shift" not in words.replace("shiftproof", "")


def test_a_table_that_is_cut_says_where_the_rest_is_and_the_counts_are_of_all(tmp_path, report) -> None:
    write_evaluation_report(tmp_path / "report.html", replace(report, table=report.table[3:5]))
    words = text(read(tmp_path / "report.html"))
    assert "2 of 7 images, mistakes first, then the highest; the rest is in scores.csv" in words
    assert "Of 3 defective images" in words


def test_images_that_could_not_be_read_are_said(tmp_path: Path, report: EvaluationReport) -> None:
    lines = [f"test/good/{index}.png: is empty (0 bytes)" for index in range(MOST_FAILURES + 1)]
    write_evaluation_report(tmp_path / "report.html", replace(report, failures=lines[:2]))
    words = text(read(tmp_path / "report.html"))
    assert "Not read 2 left out of every figure" in words
    assert lines[0] in words
    assert "scores.csv" not in words
    write_evaluation_report(tmp_path / "report.html", replace(report, failures=lines))
    words = text(read(tmp_path / "report.html"))
    assert f"the first {MOST_FAILURES}, the rest is in scores.csv" in words
    assert lines[-1] not in words


def test_all_right_is_said_so(tmp_path: Path, report: EvaluationReport) -> None:
    right = [item for item in report.table if not item.outcome]
    shown = replace(report, scores=scores_of(right), table=right, misses=[], false_alarms=[])
    write_evaluation_report(tmp_path / "report.html", shown)
    words = text(read(tmp_path / "report.html"))
    assert "every defective image was caught" in words
    assert "every good image was let through" in words
    assert "One scale" not in words


@pytest.mark.parametrize("defective", [True, False])
def test_one_class_alone_makes_a_page(tmp_path: Path, report: EvaluationReport, defective: bool) -> None:
    one = [item for item in report.table if item.defective is defective]
    write_evaluation_report(tmp_path / "report.html", replace(report, scores=scores_of(one), table=one))
    assert "needs both classes" in text(read(tmp_path / "report.html"))


def test_nothing_but_a_condition_makes_a_page(tmp_path: Path, report: EvaluationReport) -> None:
    empty = replace(report, manifest={}, conditions={"clean": {}}, scores={}, table=[], misses=[], false_alarms=[])
    write_evaluation_report(tmp_path / "report.html", empty)
    assert "Detection rate –" in text(read(tmp_path / "report.html"))
    with pytest.raises(ValueError, match="no condition"):
        write_evaluation_report(tmp_path / "report.html", replace(empty, conditions={"mean_shift": {}}))


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, report: EvaluationReport) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ShiftproofError) as caught:
        write_evaluation_report(tmp_path / "file" / "report.html", report)
    assert "\n" not in str(caught.value)
