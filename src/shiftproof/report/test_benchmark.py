from __future__ import annotations

import re

import pytest

from shiftproof.charts.benchmark import panel, scale_of
from shiftproof.metrics.mean_std import MeanStd
from shiftproof.report.benchmark import BenchmarkReport, write_benchmark_report
from shiftproof.report.benchmark_results import FIGURES, LABELS, Results, row
from shiftproof.report.benchmark_tables import latex, markdown, tables


def metrics(auroc, pixel=0.9, alarms=0.05):
    none = dict.fromkeys(("auroc", "ap", "f1_max", "aupro_30", "aupro_05"), pixel)
    return {
        "image": {"auroc": auroc, "ap": auroc, "f1_max": auroc},
        "pixel": none,
        "threshold": {"value": 1.0, "false_alarm_rate": alarms, "detection_rate": 0.5},
        "images": {"good": 3, "defective": 3, "lost_defects": 0},
    }


def rows(values):
    """(method, category, seed, condition) -> image AUROC, or (image, pixel)."""
    return [row(*place, metrics(*(value if isinstance(value, tuple) else (value,)))) for place, value in values.items()]


@pytest.fixture
def two() -> Results:
    """Two methods, two categories, two seeds, clean and one shift; no masks in the second category."""
    values = {}
    for method, bonus in (("rd", 0.0), ("rdpp", 0.1)):
        for category, base, pixel in (("metal_nut", 0.5, 0.9), ("pill", 0.7, None)):
            for seed in (0, 1):
                values[method, category, seed, "clean"] = (base + bonus + 0.02 * seed, pixel)
                # Under the shift the order is the other way round.
                values[method, category, seed, "jpeg-3"] = (base - bonus, pixel)
    return Results(rows(values))


def test_a_row_is_flat_and_holds_every_figure():
    (one,) = rows({("rd", "pill", 0, "clean"): 0.75})
    assert (one["method"], one["category"], one["seed"], one["condition"]) == ("rd", "pill", 0, "clean")
    assert one.keys() >= set(FIGURES) | {"good", "defective", "lost_defects"}
    assert one["image_auroc"] == 0.75


def test_cells_are_spread_over_seeds_and_means_over_categories(two):
    cell = two.cell("rd", "pill", ["clean"], "image_auroc")
    assert (cell.mean, cell.std, cell.seeds) == pytest.approx((0.71, 0.0141421356, 2))
    # Seed 0: (0.5 + 0.7) / 2; seed 1: both 0.02 higher.
    mean = two.mean("rd", ["clean"], "image_auroc")
    assert (mean.mean, mean.std, mean.seeds) == pytest.approx((0.61, 0.0141421356, 2))
    both = two.mean("rd", ["clean", "jpeg-3"], "image_auroc")
    assert both.mean == pytest.approx((0.61 + 0.6) / 2)


def test_figures_that_a_category_cannot_have_do_not_count(two):
    assert two.measured(["clean"], "pixel_auroc") == ["metal_nut"]
    assert two.cell("rd", "pill", ["clean"], "pixel_auroc") is None
    assert two.mean("rd", ["clean"], "pixel_auroc").mean == pytest.approx(0.9)


def test_a_method_that_lacks_what_others_have_gets_no_mean():
    values = {("rd", c, 0, "clean"): 0.5 for c in ("a", "b")} | {("rdpp", "a", 0, "clean"): 0.9}
    held = Results(rows(values))
    assert held.mean("rdpp", ["clean"], "image_auroc") is None  # 0.9 over the easy category alone would lead
    assert held.cell("rdpp", "a", ["clean"], "image_auroc").mean == 0.9
    assert held.ranking() == ["rd", "rdpp"]
    values |= {("rdpp", "a", 1, "clean"): 0.9, ("rdpp", "b", 1, "clean"): 0.7, ("rdpp", "b", 0, "clean"): 0.7}
    assert Results(rows(values)).mean("rd", ["clean"], "image_auroc").seeds == 1  # of a seed that is finished


def test_a_null_under_one_condition_is_not_averaged_away():
    held = Results(rows({("rd", "a", 0, "clean"): 0.5, ("rd", "a", 0, "jpeg-3"): None}))
    assert held.cell("rd", "a", ["clean", "jpeg-3"], "image_auroc") is None


def test_the_ranking_is_that_under_shifts_where_there_are_any(two):
    assert two.ranking() == ["rd", "rdpp"]
    assert two.first_in("rd", ["jpeg-3"]) == 2
    clean = Results([row for row in two.rows if row["condition"] == "clean"])
    assert clean.ranking() == ["rdpp", "rd"]


def test_tables_are_in_the_papers_form(two):
    titles = [table.title for table in tables(two)]
    assert titles == ["clean", "jpeg-3", "every condition, mean over categories"]
    text = markdown(two, "Benchmark", ["Protocol: oracle: selected on the test set"], ["pill: no masks"])
    assert "| category | rd | rdpp |" in text
    assert (
        "| method | clean: image AUROC | clean: AUPRO 0.3 | clean: false alarms | clean: detected | shifted: image"
        in text
    )
    assert text.index("| rd | 61.0 ± 1.4 | 90.0 ± 0.0 | 5.0 ± 0.0") < text.index("| rdpp | 71.0 ± 1.4 | 90.0 ± 0.0 |")
    assert "| metal_nut | 51.0 ± 1.4 / **90.0 ± 0.0** / **90.0 ± 0.0** | **61.0 ± 1.4** / **90.0 ± 0.0**" in text
    assert "| pill | 71.0 ± 1.4 / – / – | **81.0 ± 1.4** / – / – |" in text
    assert "| mean | 61.0 ± 1.4 / " in text
    assert "| jpeg-3 | 5.0 ± 0.0 / 50.0 ± 0.0 | 5.0 ± 0.0 / 50.0 ± 0.0 |" in text  # false alarms, detected
    assert "seeds 0, 1" in text
    assert text.endswith("- pill: no masks\n")


def test_many_methods_stand_one_below_the_other():
    names = [f"rd:hard_fraction=0.0{number}" for number in range(1, 9)]
    values = {
        (name, "pill", 0, condition): 0.5 + 0.01 * number
        for number, name in enumerate(names)
        for condition in ("clean", "jpeg-3", "contrast-3")
    }
    text = markdown(Results(rows(values)), "Benchmark", [], [])
    assert "| method | clean | jpeg-3 | contrast-3 | mean over the shifts |" in text
    assert f"| {names[0]} | 50.0 / " in text
    assert f"| {names[-1]} | **57.0** / " in text
    assert r"method & clean & jpeg-3 & contrast-3 & mean over the shifts \\" in latex(Results(rows(values)), "B", [])


def test_latex_is_escaped_and_every_caption_says_the_protocol(two):
    text = latex(two, "Benchmark", ["Protocol: oracle: selected on the test set"])
    assert r"metal\_nut & 51.0 $\pm$ 1.4 / " in text
    assert r"\textbf{61.0 $\pm$ 1.4}" in text
    assert "–" not in text
    captions = [line for line in text.splitlines() if line.startswith(r"\caption")]
    assert len(captions) == text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    assert all("oracle: selected on the test set" in caption for caption in captions)


@pytest.mark.parametrize("protocol", LABELS)
def test_the_page_says_the_protocol_beside_every_table(two, tmp_path, protocol):
    report = BenchmarkReport(
        title="Benchmark <of> methods",
        label=LABELS[protocol],
        oracle=protocol == "oracle",
        results=two,
        done=3,
        runs=4,
        differs=["less & less"],
        recipe="A paper",
        notes=[],
        failures=["pill, rd, seed 1: out of memory"],
        settings={"backbone": "b"},
        version="1",
    )
    write_benchmark_report(tmp_path / "index.html", report)
    page = (tmp_path / "index.html").read_text()
    heads = re.findall(r"<h2>[^<]*<small>.*?</small>", page, re.DOTALL)
    measured = [head for head in heads if "paper" not in head and "tries again" not in head]
    assert len(measured) == 6  # ranking, two figures, three tables
    assert all(LABELS[protocol] in head for head in measured)
    assert ("scored best on the test set" in page) == (protocol == "oracle")
    assert "3 of 4 runs" in page
    assert "pill, rd, seed 1: out of memory" in page
    assert "less &amp; less" in page
    assert "Benchmark &lt;of&gt; methods" in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", page)


def test_curves_share_a_scale_and_dotted_lines_lead_over_gaps():
    curves = [[(0, MeanStd(0.95, None, 1)), (3, MeanStd(0.62, 0.05, 2))], []]
    scale = scale_of([curves])
    assert (scale.low, scale.high, scale.severity) == (0.5, 1.0, 3)
    drawn = panel(curves, scale, "image AUROC over severity")
    assert drawn.count("gap") == 1
    assert drawn.count("spread") == 1  # one seed has no deviation
    assert "gap" not in panel([[(2, MeanStd(0.9, None, 1)), (3, MeanStd(0.9, None, 1))]], scale, "")


def test_nothing_to_draw_is_no_error():
    assert panel([[]], scale_of([[[]]]), "").startswith("<svg")
