"""The screens as they are sent: what they hold, where forms lead, and what is said to addresses that make no sense."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftproof.calibration import Calibration
from shiftproof.service.conftest import BAD, CALIBRATION, GOOD, png
from shiftproof.service.errors import RequestError
from shiftproof.service.page.filters import HistoryFilters
from shiftproof.service.page.review import interval
from shiftproof.service.page.score_chart import explain, score_curve
from shiftproof.service.store import reviews
from shiftproof.service.test_station import files, inspect

HTML = {"accept": "text/html"}
SCREENS = (
    "/",
    "/history",
    "/review",
    "/drift",
    "/models",
    "/models/part",
    "/inspections/1",
    "/inspections/1/detail",
    "/live",
)


@pytest.fixture
def screens(bench):
    with bench.running() as client:
        client.headers.update(HTML)
        yield client


def test_every_screen_is_there_and_may_run_nothing_of_its_own(screens):
    inspect(screens, png(BAD), png(GOOD, seed=1))
    for path in SCREENS:
        answer = screens.get(path)
        assert answer.status_code == 200, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", answer.text), path


def test_empty_screens_say_what_to_do(screens):
    assert "Nothing has been inspected yet" in screens.get("/").text
    assert "Nothing has been inspected yet" in screens.get("/history").text
    assert "No inspection matches" in screens.get("/history?verdict=good").text
    assert "contains no reference for drift" in screens.get("/drift").text
    assert screens.get("/review/next?queue=sample", follow_redirects=False).headers["location"] == "/review?done=yes"


def test_what_makes_no_sense_is_refused_as_a_page_and_to_programs_as_json(screens):
    for path, status in (
        ("/inspections/9", 404),
        ("/history?verdict=odd", 422),
        ("/history?since=then", 422),
        ("/x", 404),
    ):
        answer = screens.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8"), path
    assert screens.get("/v1/inspections/9").json() == {"error": "no inspection 9"}
    assert screens.get("/inspections/9", headers={"accept": "*/*"}).json() == {"error": "no inspection 9"}
    assert screens.post("/models/part/recalibrate").status_code == 409
    assert screens.post("/models/part/calibrations/99").status_code == 404


def test_a_form_inspects_and_a_script_gets_the_results_alone(screens):
    whole = screens.post("/models/part/inspect", files=files(png(BAD), b"torn")).text
    assert "<html" in whole
    assert whole.count('class="item') == 3  # two results, and one in the list of the latest
    part = screens.post("/models/part/inspect?fragment=true", files=files(png(GOOD, seed=3))).text
    assert part.lstrip().startswith("<li")
    again = [
        screens.post(
            "/models/part/inspect?fragment=true", files=files(png(GOOD)), headers={"Idempotency-Key": "k"}
        ).text
        for _ in range(2)
    ]
    assert again[0] == again[1]


def test_a_review_leads_to_the_next_one_of_its_queue(screens):
    inspect(screens, *(png(BAD, seed=seed) for seed in range(3)))

    def review(number: int, query: str) -> str:
        answer = screens.post(f"/inspections/{number}/review?{query}", data={"verdict": "good"}, follow_redirects=False)
        assert answer.status_code == 303
        return answer.headers["location"]

    start = screens.get("/review/next?model=part&verdict=defective", follow_redirects=False).headers["location"]
    assert start.startswith("/inspections/3?")
    query = start.partition("?")[2]
    assert review(3, query).startswith("/inspections/2?")
    assert review(2, query).startswith("/inspections/1?")
    assert review(1, query) == "/review?model=part&reviewed=1"
    assert review(1, "verdict=defective").startswith("/inspections/1?")
    assert screens.post("/inspections/1/review", data={"verdict": "odd"}).status_code == 422
    assert screens.post("/inspections/9/review", data={"verdict": "good"}).status_code == 404


def test_a_sample_reaches_every_inspection_that_is_left(screens):
    inspect(screens, *(png(BAD if seed % 2 else GOOD, seed=seed) for seed in range(6)))
    reached = set()
    for _ in range(6):
        place = screens.get("/review/next?queue=sample", follow_redirects=False).headers["location"]
        number = int(re.match(r"/inspections/(\d+)", place)[1])
        assert number not in reached
        reached.add(number)
        screens.post(f"/inspections/{number}/review", data={"verdict": "good"})
    assert reached == set(range(1, 7))


def test_pages_of_the_history_lead_through_all_of_it(screens):
    for start in range(0, 60, 30):
        inspect(screens, *(png(GOOD, seed=seed) for seed in range(start, start + 30)))
    first = screens.get("/history?verdict=good").text
    older = re.search(r'rel="next" href="([^"]+)"', first)[1].replace("&amp;", "&")
    second = screens.get(older).text
    numbers = [int(number) for page in (first, second) for number in re.findall(r'<tr data-id="(\d+)"', page)]
    assert numbers == list(range(60, 0, -1))
    assert 'rel="next"' not in second


def test_times_of_the_form_are_those_of_the_wall_clock():
    filters = HistoryFilters(since="2026-01-02T13:30", until="2026-01-02T13:30:00Z", zone=60).filter()
    assert filters.since == datetime(2026, 1, 2, 12, 30, tzinfo=UTC)
    assert filters.until == datetime(2026, 1, 2, 13, 30, tzinfo=UTC)


@given(st.text(), st.integers(-9999, 9999))
def test_any_time_is_understood_or_refused(text, zone):
    try:
        assert HistoryFilters(since=text, zone=zone).filter().since is None or text
    except RequestError as refusal:
        assert refusal.status == 422


@given(st.floats(1e-6, 1e6))
def test_a_score_is_marked_as_it_is_judged(score):
    drawn = score_curve(CALIBRATION, score)
    assert ('class="defective rim"' in drawn) == CALIBRATION.is_defective(score)
    assert ('class="good rim"' in drawn) != CALIBRATION.is_defective(score)
    assert "nan" not in drawn


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=40), st.floats(0.001, 1000))
def test_words_tell_how_many_calibration_scores_were_as_high(scores, score):
    calibration = Calibration.from_scores(scores, map_low=0.0)
    explanation = explain(calibration.p_value(score), len(scores))
    reached = sum(calibration_set >= score for calibration_set in scores)
    assert explanation.startswith(f"{reached or 'None'} of the {len(scores)} ")


def test_rates_of_nothing_and_of_everything_can_be_drawn():
    for rate in (reviews.rate(0, 0), reviews.rate(0, 5), reviews.rate(5, 5), reviews.rate(1, 1000)):
        assert "nan" not in interval(rate, rate.high, "good", 0.05)
