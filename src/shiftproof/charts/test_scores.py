from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shiftproof.charts.scores import histogram, roc, score_axis
from shiftproof.charts.svg import Axis

SCORES = st.lists(st.floats(-1e6, 1e6), max_size=30)


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def elements(svg: str, name: str) -> list[ElementTree.Element]:
    return [element for element in drawn(svg).iter() if element.get("class") == name]


def words(svg: str) -> list[str]:
    return [element.text or "" for element in drawn(svg).iter() if element.tag.endswith("text")]


@given(SCORES, SCORES, st.floats(-1e6, 1e6))
def test_any_scores_make_a_drawing_with_every_number_in_it_finite(good, defective, threshold) -> None:
    svg = histogram(good, defective, threshold)
    assert "nan" not in svg
    assert "inf" not in svg.replace("infer", "")
    assert (len(elements(svg, "good")) > 0) == bool(good)
    assert (len(elements(svg, "defective")) > 0) == bool(defective)


def test_bars_and_words_count_the_same_images() -> None:
    svg = histogram([0.1, 0.2, 0.5, 0.9], [0.4, 0.5, 0.7], 0.5)
    assert {"4 good", "1 false alarm", "2 misses", "3 defective", "threshold 0.5000"} <= set(words(svg))
    line = float(elements(svg, "threshold")[0].get("x1"))
    for name, beyond in (("good", 1), ("defective", 1)):
        starts = [float(bar.get("x")) for bar in elements(svg, name)]
        # A score equal to the threshold is called good, so its bar lies left of the line.
        assert sum(start > line for start in starts) == beyond, name


def test_no_bar_straddles_the_threshold() -> None:
    generator = np.random.default_rng(0)
    svg = histogram(generator.normal(0, 1, 400), generator.normal(2, 1, 300), 1.234)
    line = float(elements(svg, "threshold")[0].get("x1"))
    for bar in [*elements(svg, "good"), *elements(svg, "defective")]:
        start = float(bar.get("x"))
        assert not start + 0.2 < line < start + float(bar.get("width")) - 0.2


def test_scores_that_are_not_finite_are_left_out() -> None:
    assert "1 good" in words(histogram([0.1, float("nan"), float("inf")], [0.5], 0.3))


def test_images_of_unknown_truth_fill_one_half() -> None:
    svg = histogram([0.1, 0.9], (), 0.5, labels=("images", ""))
    assert {"2 images", "1 above the threshold"} <= set(words(svg))
    assert not elements(svg, "defective")


def test_a_wide_range_is_drawn_by_powers_of_ten() -> None:
    svg = histogram([0.01, 0.02], [0.05, 90.0], 0.03)
    assert "image score (logarithmic)" in words(svg)
    assert {"0.01", "1", "10"} <= set(words(svg))
    assert "image score" in words(histogram([-0.01, 0.02], [0.05, 90.0], 0.03))  # no logarithm of a negative score


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
@example(1.0, 1.0, 1e-311)
def test_an_axis_keeps_order_and_stays_on_the_drawing(first: float, second: float, threshold: float) -> None:
    axis = score_axis([first, second], threshold, 10, 90)
    places = [axis.at(value) for value in sorted((first, second, threshold))]
    assert 10 <= places[0] <= places[1] <= places[2] <= 90
    assert threshold in axis.edges(threshold)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks())


def test_ticks_are_round_and_few() -> None:
    assert Axis(0.03, 1.27, 0, 100).ticks() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.2])
    assert Axis(0.9, 110, 0, 100, logarithmic=True).ticks() == [1, 2, 5, 10, 20, 50, 100]


def test_the_operating_point_lies_where_the_rates_say() -> None:
    svg = roc([0, 0.5, 1], [0, 1, 1], 0.75, operating_point=(0.5, 1.0))
    (point,) = elements(svg, "operating-point")
    (frame,) = elements(svg, "frame")
    middle = float(frame.get("x")) + float(frame.get("width")) / 2
    assert (float(point.get("cx")), float(point.get("cy"))) == (middle, float(frame.get("y")))
    assert {"area 0.750", "fixed threshold"} <= set(words(svg))


def test_a_class_that_is_absent_is_said_so() -> None:
    svg = roc([], [], None)
    assert "needs both classes" in words(svg)
    assert not elements(svg, "curve")


def test_a_long_curve_is_no_longer_than_can_be_seen() -> None:
    rates = np.linspace(0, 1, 200_000)
    assert len(roc(rates, rates, 0.5)) < 200_000
