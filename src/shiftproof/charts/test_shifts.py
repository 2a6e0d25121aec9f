from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftproof.charts.scores import score_axis
from shiftproof.charts.shifts import key_mark, score_row, score_row_foot, score_row_head, severity_panel
from shiftproof.metrics.robustness import Point

RATES = st.none() | st.floats(0, 1)


def elements(svg: str, name: str) -> list[ElementTree.Element]:
    return [item for item in ElementTree.fromstring(svg).iter() if item.get("class", "").split()[:1] == [name]]


def words(svg: str) -> list[str]:
    return [item.text or "" for item in ElementTree.fromstring(svg).iter() if item.tag.endswith("text")]


def points(*severities: int, alarms: tuple[float, ...] = ()) -> list[Point]:
    rates = alarms or (0.0,) * len(severities)
    return [Point(f"jpeg-{place}", place, 0.9, rate, 0.5) for place, rate in zip(severities, rates, strict=True)]


@given(st.lists(st.tuples(st.integers(0, 5), RATES, RATES, RATES), unique_by=lambda item: item[0]), st.floats(0, 1))
def test_any_rates_make_a_drawing_with_a_mark_for_each(found, guarantee) -> None:
    drawn = [Point("x", *item) for item in sorted(found, key=lambda item: item[0])]
    svg = severity_panel(drawn, guarantee, 5)
    assert "nan" not in svg
    for name, place in (("mark-auroc", 1), ("mark-alarms", 2), ("mark-detected", 3)):
        assert len(elements(svg, name)) == sum(item[place] is not None for item in found)


def test_neighbours_are_joined_and_gaps_are_dotted() -> None:
    lines = elements(severity_panel(points(0, 1, 2, 5), 0.05, 5), "curve-alarms")
    assert [" gap" in line.get("class") for line in lines] == [False, False, True]
    assert elements(severity_panel(points(3), 0.05, 3), "curve-alarms") == []


def test_a_rate_is_as_high_as_it_is_and_bars_stand_on_what_exceeds_the_promise() -> None:
    svg = severity_panel(points(0, 1, 2, 3, alarms=(0.0, 0.2, 0.5, 1.0)), 0.2, 3)
    heights = [float(mark.get("cy")) for mark in elements(svg, "mark-alarms")]
    assert heights[2] == pytest.approx((heights[0] + heights[3]) / 2)
    (line,) = elements(svg, "guarantee")
    assert float(line.get("y1")) == heights[1]
    excess = elements(svg, "excess")
    assert [float(bar.get("y2")) for bar in excess] == heights[2:]
    assert {bar.get("y1") for bar in excess} == {line.get("y1")}


def test_one_severity_lies_at_one_place_in_all_panels_of_a_page() -> None:
    narrow, wide = (elements(severity_panel(points(*places), 0.05, 5), "mark-alarms") for places in ((0, 3), (3, 5)))
    assert narrow[1].get("cx") == wide[0].get("cx")
    assert {"clean", "1", "5"} <= set(words(severity_panel(points(0, 3), 0.05, 5)))
    assert "5" not in words(severity_panel(points(0, 3), 0.05, 3))


def test_a_panel_is_read_aloud() -> None:
    title = ElementTree.fromstring(severity_panel([Point("clean", 0, None, 0.05, 0.5), *points(3)], 0.05, 3))[0].text
    assert title == (
        "Clean: false alarms 0.050, detected 0.500. Severity 3: image AUROC 0.900, false alarms 0.000, detected 0.500"
    )


@pytest.mark.parametrize("name", ["alarms", "detected", "auroc"])
def test_the_key_shows_the_marks_of_the_panels(name: str) -> None:
    (mark,), (shown,) = (
        elements(severity_panel(points(2), 0.05, 3), f"mark-{name}"),
        elements(key_mark(name), f"mark-{name}"),
    )
    assert mark.tag == shown.tag
    assert elements(key_mark("guarantee"), "guarantee")


def test_rows_on_one_axis_show_a_move_beside_one_line() -> None:
    axis = score_axis([0, 2], 0.5, 4, 616)
    rows = [score_row(np.array([0.1, 0.2]) + move, [0.3], 0.5, axis) for move in (0, 1)]
    before, after = ([float(bar.get("x")) for bar in elements(row, "good")] for row in rows)
    assert max(before) < min(after)
    lines = [elements(row, "threshold")[0].get("x1") for row in (*rows, score_row_head(0.5, axis))]
    assert len(set(lines)) == 1
    assert max(before) < float(lines[0]) < min(after)


def test_good_images_stand_up_and_defective_ones_hang_down_each_as_high_as_its_tallest_bar() -> None:
    svg = score_row([0.1, 0.2, 0.3, 0.4], [0.5] * 7, 0.25, score_axis([0, 1], 0.25, 4, 616))
    (middle,) = {float(line.get("y1")) for line in elements(svg, "rule")}
    good, defective = elements(svg, "good"), elements(svg, "defective")
    assert {float(bar.get("y")) + float(bar.get("height")) for bar in good} == {middle}
    assert {float(bar.get("y")) for bar in defective} == {middle}
    assert {bar.get("height") for bar in good} == {bar.get("height") for bar in defective}


@pytest.mark.parametrize(("good", "defective"), [([], [0.3]), ([0.3], []), ([float("inf")], [0.3])])
def test_a_kind_that_is_absent_draws_nothing(good, defective) -> None:
    svg = score_row(good, defective, 0.5, score_axis([0, 1], 0.5, 4, 616))
    assert len(elements(svg, "good")) == (good == [0.3])
    assert "nan" not in svg


def test_the_foot_says_what_the_axis_is() -> None:
    assert "image score (logarithmic)" in words(score_row_foot(score_axis([0.01, 90], 1, 4, 616)))
    assert {"image score", "0.5", "1"} <= set(words(score_row_foot(score_axis([0, 2], 0.5, 4, 616))))
    assert "threshold 0.5000" in words(score_row_head(0.5, score_axis([0, 2], 0.5, 4, 616)))
