"""Which threshold an image is judged by, from made-up statistics and from shifted pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shiftproof.calibration import Calibration
from shiftproof.calibration.conditional import (
    CONDITIONAL,
    CONDITIONAL_FILE,
    FAMILIES,
    MOST_IMAGES,
    ConditionalCalibration,
    families_of,
    load_conditional,
)
from shiftproof.data import write_image
from shiftproof.drift import STATISTICS, measure
from shiftproof.errors import DataError, ModelError, UsageError
from shiftproof.model_io import load_manifest, save_model
from shiftproof.shifts import PAPER_SHIFTS, SEVERITIES, apply_shift

NAMES = [statistic.name for statistic in STATISTICS]
LIGHT, TURN = NAMES.index("light"), NAMES.index("direction_2_cos")


def many_statistics(light: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Statistics [N, ..., 18] of N images of a light, float64 [N, ...]; in all else parts differ a little, versions do not."""
    own = np.random.default_rng(seed).standard_normal((len(light), *[1] * (light.ndim - 1), len(STATISTICS)))
    values = np.broadcast_to(own, (*light.shape, len(STATISTICS))).copy()
    values[..., LIGHT] = light
    return values


def made_up(scores: NDArray[np.float64], light: NDArray[np.float64]) -> ConditionalCalibration:
    """Of scores and lights [M, V] of versions; training images are as dark as the first ones."""
    fixed = Calibration.from_scores(scores[:, 0], map_low=-100.0)
    trained = many_statistics(np.random.default_rng(1).normal(0, 1, 100), seed=2)
    return ConditionalCalibration(trained, many_statistics(light), scores, fixed)


def statistics_of(light: float, **others: float) -> NDArray[np.float64]:
    values = np.zeros(len(STATISTICS))
    values[LIGHT] = light
    for name, value in others.items():
        values[NAMES.index(name)] = value
    return values


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Pictures of gray stripes, 48 x 48."""
    found = []
    for number in range(6):
        random = np.random.default_rng(number)
        stripes = 100 + 30 * np.sin(np.arange(48) / 3 + random.uniform(0, 6))
        pixels = np.clip(stripes[None, :, None] + random.normal(0, 3, (48, 48, 1)), 0, 255).astype(np.uint8)
        found.append(tmp_path / f"{number}.png")
        write_image(found[-1], np.repeat(pixels, 3, axis=2))
    return found


def mean_light(index: int, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return pixels.mean(axis=(1, 2, 3))


def shifted(paths: list[Path], families: tuple[str, ...], seed: int = 0) -> ConditionalCalibration:
    trained = many_statistics(np.zeros(20))
    fixed = Calibration.from_scores([1.0], map_low=0.0)
    return ConditionalCalibration.measure(paths, (32, 32), mean_light, fixed, trained, families=families, seed=seed)


def test_blind_shifts_have_nothing_of_what_the_papers_test_by() -> None:
    assert not set(families_of("blind")) & {*PAPER_SHIFTS, "rotation_gray"}
    assert set(families_of("production")) == {*families_of("blind"), *PAPER_SHIFTS}
    with pytest.raises(UsageError, match=r"conditional calibration 'blnd'.*blind"):
        families_of("blnd")


def test_every_image_is_kept_as_it_is_and_at_every_severity_of_each_family(paths: list[Path]) -> None:
    from shiftproof.data import read_image, resize_image

    done: list[tuple[int, int]] = []
    known = ConditionalCalibration.measure(
        *(paths, (32, 32), mean_light, Calibration.from_scores([1.0], map_low=0.0), many_statistics(np.zeros(20))),
        families=("exposure", "jpeg"),
        seed=0,
        on_progress=lambda *each: done.append(each),
    )
    assert known.scores.shape == (6, 11)
    assert known.statistics.shape == (6, 11, 18)
    plain = np.stack([resize_image(read_image(path), (32, 32)) for path in paths])
    np.testing.assert_array_equal(known.scores[:, 0], mean_light(0, plain))
    np.testing.assert_array_equal(known.statistics[:, 0], [measure(each) for each in plain])
    assert (np.diff(known.scores[:, :6], axis=1) < -1).all()  # a gamma darkens, the higher the more
    assert done == [(n, 6) for n in range(1, 7)]


def test_the_seed_decides_the_versions(paths: list[Path]) -> None:
    first, again, other = (shifted(paths, families_of("production"), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.statistics, again.statistics)
    np.testing.assert_array_equal(first.scores, again.scores)
    assert (first.scores != other.scores).any()


def test_a_shift_that_cannot_be_had_leaves_the_image_as_it_is(paths: list[Path]) -> None:
    known = shifted(paths, ("colour_temperature",))
    np.testing.assert_array_equal(known.scores[:, 1:], np.repeat(known.scores[:, :1], len(SEVERITIES), axis=1))


def test_no_more_images_are_shifted_than_needed(paths: list[Path]) -> None:
    many = [*paths] * 30
    assert shifted(many, ("jpeg",)).scores.shape == (MOST_IMAGES, 1 + len(SEVERITIES))


def test_an_image_that_is_usual_is_left_to_the_fixed_threshold() -> None:
    known = made_up(np.tile([1.0, 9.0], (60, 1)) + np.linspace(0, 0.5, 60)[:, None], np.tile([0.0, 50.0], (60, 1)))
    assert known.at(statistics_of(0.0)) is known.fixed
    assert known.unusual(statistics_of(50.0))
    assert not known.unusual(statistics_of(0.5))


def test_each_calibration_image_is_represented_by_its_nearest_version() -> None:
    light = np.tile([0.0, 20.0, -20.0], (60, 1))
    scores = np.stack([np.linspace(a, a + 0.5, 60) for a in (1.0, 3.0, 5.0)], axis=1)
    known = made_up(scores, light)
    assert known.at(statistics_of(19.0)).scores == tuple(scores[:, 1])
    assert known.at(statistics_of(-25.0)).scores == tuple(scores[:, 2])
    brighter = known.at(statistics_of(19.0))
    assert (brighter.target, brighter.confidence) == (known.fixed.target, known.fixed.confidence)
    assert (brighter.map_low, brighter.map_high) == (known.fixed.map_low, known.fixed.map_high)
    assert known.fixed.rule == "expected"
    assert brighter.rule == "certified"  # whichever rule places the fixed threshold
    assert brighter.bound == known.fixed.moved(rule="certified").bound <= 0.05


def test_what_differs_among_good_parts_hardly_changes_the_nearest() -> None:
    """Parts that lie in every direction: that an image lies in another one than a version is no reason to pass it over."""
    known = made_up(np.tile([1.0, 3.0], (60, 1)), np.tile([0.0, 20.0], (60, 1)))
    trained, turned = known.trained.copy(), known.statistics.copy()
    trained[:, TURN] *= 50
    turned[:, 0, TURN], turned[:, 1, TURN] = 100.0, 0.0
    assert (
        replace(known, trained=trained, statistics=turned).at(statistics_of(20.0, direction_2_cos=100.0)).threshold
        == 3.0
    )
    assert (
        replace(known, statistics=turned).at(statistics_of(20.0, direction_2_cos=100.0)).threshold == 1.0
    )  # parts that lie straight


def test_few_calibration_images_still_tell_the_unusual_from_the_usual() -> None:
    known = made_up(np.tile([1.0, 3.0], (3, 1)), np.tile([0.0, 50.0], (3, 1)))
    assert known.unusual(statistics_of(50.0))
    assert not known.unusual(statistics_of(0.0))


def test_false_alarms_stay_within_the_bound_where_scores_drift_with_the_statistics() -> None:
    """Scores that rise with the light and are noisy: the fixed threshold calls all drifted good images defective."""
    random = np.random.default_rng(3)
    images, versions = 60, 40
    light = np.concatenate([np.zeros((images, 1)), random.uniform(-60, 60, (images, versions))], axis=1)
    light += random.normal(0, 1, light.shape)
    part = random.normal(0, 1, (images, 1))  # what a part's score has of its own, in all its versions
    known = made_up(np.abs(light) / 5 + part + random.normal(0, 0.3, light.shape), light)
    alarms, fixed, found = [], [], []
    for _ in range(600):
        drifted = random.choice([-1, 1]) * random.uniform(15, 55)
        score = abs(drifted) / 5 + random.normal(0, 1) + random.normal(0, 0.3)
        judge = known.at(statistics_of(drifted))
        alarms.append(judge.is_defective(score))
        found.append(judge.is_defective(score + 5))
        fixed.append(known.fixed.is_defective(score))
    assert np.mean(fixed) > 0.8
    assert np.mean(alarms) < 0.07
    assert np.mean(found) > 0.9


def test_real_shifts_of_other_families_are_judged_by_their_conditions(paths: list[Path]) -> None:
    """Light as the score: brightness was not among the versions, gamma was."""
    from shiftproof.data import read_image, resize_image

    plain = np.stack([resize_image(read_image(path), (32, 32)) for path in paths])
    fixed = Calibration.from_scores(-mean_light(0, plain), map_low=-200.0)
    known = ConditionalCalibration.measure(
        *(
            paths,
            (32, 32),
            lambda index, pixels: -mean_light(index, pixels),
            fixed,
            np.array([measure(each) for each in plain]),
        ),
        families=families_of("blind"),
        seed=0,
    )
    dark = apply_shift("exposure", plain[0], None, 3, seed=5).image
    score = -float(dark.mean())
    assert fixed.is_defective(score)
    assert not known.at(measure(dark)).is_defective(score)
    assert known.at(measure(dark)).is_defective(score + 60)


def test_it_comes_back_from_its_file_and_a_model_without_it_is_one_line(tmp_path: Path) -> None:
    known = made_up(np.tile([1.0, 9.0], (60, 1)), np.tile([0.0, 50.0], (60, 1)))
    known = replace(known, statistics=np.asfortranarray(known.statistics))  # strided, as a transposed array is
    content = {CONDITIONAL: known.describe("blind")}
    save_model(tmp_path / "model", content, {"a": np.zeros(1)}, files={CONDITIONAL_FILE: known.to_bytes()})
    folder, manifest = tmp_path / "model", load_manifest(tmp_path / "model")
    assert manifest[CONDITIONAL]["families"] == list(FAMILIES["blind"])
    assert (manifest[CONDITIONAL]["images"], manifest[CONDITIONAL]["versions"]) == (60, 2)
    again = load_conditional(folder, manifest, known.fixed)
    np.testing.assert_array_equal(again.statistics, known.statistics)
    np.testing.assert_array_equal(again.scores, known.scores)
    np.testing.assert_array_equal(again.trained, known.trained)
    with pytest.raises(ModelError, match="--conditional"):
        load_conditional(folder, {}, known.fixed)
    with pytest.raises(ModelError, match="other image statistics"):
        load_conditional(folder, {CONDITIONAL: {**manifest[CONDITIONAL], "statistics": ["light"]}}, known.fixed)
    (folder / CONDITIONAL_FILE).write_bytes(b"x")
    with pytest.raises(ModelError, match=r"conditional.safetensors is damaged"):
        load_conditional(folder, manifest, known.fixed)


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    known = made_up(np.tile([1.0, 9.0], (60, 1)), np.tile([0.0, 50.0], (60, 1)))
    for change in (
        {"scores": known.scores[:, :1]},
        {"statistics": known.statistics[:, 0]},
        {"scores": known.scores * np.nan},
    ):
        with pytest.raises(DataError, match="expected"):
            replace(known, **change)
