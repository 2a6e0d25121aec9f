from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftproof.config.training import STRIDE
from shiftproof.errors import UsageError
from shiftproof.training import TrainConfig, fit_size, format_size, parse_size

sides = st.integers(1, 3000)


def test_the_schedule_is_the_same_for_every_product():
    assert {TrainConfig().steps_for(images) for images in (2, 60, 320, 10_000)} == {1200}


@pytest.mark.parametrize(
    ("images", "batch", "steps"),
    [(10, 4, 3 * 2), (12, 4, 3 * 3), (4, 4, 3 * 1), (3, 16, 3 * 1), (100, 16, 3 * 6)],
)
def test_epochs_are_passes_of_full_batches(images, batch, steps):
    assert TrainConfig(epochs=3, steps=7, batch_size=batch).steps_for(images) == steps


def test_a_batch_holds_no_more_images_than_there_are():
    assert [TrainConfig(batch_size=16).batch_for(images) for images in (2, 16, 17)] == [2, 16, 16]


@given(steps=st.integers(1, 400))
def test_one_cycle_warms_up_and_falls_to_nothing(steps):
    rates = [TrainConfig().rate_factor(step, steps) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == 1
    assert top <= steps // 10
    assert rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)
    assert all(rate > 0 for rate in rates)
    if steps >= 100:
        assert rates[-1] < 1e-3


def test_a_constant_rate_stays():
    assert {TrainConfig(schedule="constant").rate_factor(step, 50) for step in range(50)} == {1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "one-cycel"}, "unknown schedule 'one-cycel'; did you mean one-cycle?"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'; expected one of: adam, adamw"),
        ({"precision": "16"}, "unknown precision '16'"),
        ({"steps": 0}, "steps 0 is too small: expected 1 or more"),
        ({"epochs": 0}, "epochs 0 is too small"),
        ({"batch_size": -4}, "batch size -4 is too small"),
        ({"devices": 0}, "devices 0 is too small"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"learning_rate": 0}, "learning rate 0 is out of range"),
        ({"learning_rate": 40}, "learning rate 40 is out of range"),
        ({"learning_rate": float("nan")}, "learning rate nan is out of range"),
        ({"image_size": (256, 250)}, "image size 256x250 is not made of multiples of 32"),
        ({"image_size": (0, 64)}, "image size 0x64 is not"),
    ],
)
def test_a_setting_that_cannot_be_is_named(change, message):
    with pytest.raises(UsageError) as raised:
        TrainConfig(**change)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().steps = 3


@given(st.tuples(sides, sides))
def test_the_fitted_size_is_the_nearest_that_the_networks_halve(size):
    for side, fitted in zip(size, fit_size(size), strict=True):
        assert fitted % STRIDE == 0
        assert fitted >= 2 * STRIDE
        assert abs(fitted - side) <= STRIDE / 2 or side < 2 * STRIDE
    assert fit_size(fit_size(size)) == fit_size(size)
    TrainConfig(image_size=fit_size(size))


@given(st.tuples(sides, sides))
def test_a_size_is_read_as_it_is_written(size):
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize("text", ["", "x", "256x", "x256", "1x2x3", "-4", "0", "64x0", "2.5", "big", "²", "64 64"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="is not understood: expected N or HxW"):
        parse_size(text)
