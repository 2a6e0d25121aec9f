"""Trainings of two parts: a distillation of six steps, then a segmentation of two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from shiftproof.methods.fusion import Fusion
from shiftproof.methods.gnl import Gnl
from shiftproof.training import Interrupted, Record, TrainConfig, fit, load_checkpoint, loop

from .test_loop import ABOUT, QUICK, STEPS, assert_same, stop_after, weights

TOTAL = STEPS + 2  # a quarter of the steps for the segmentation
METHODS = {"gnl": Gnl, "fusion": Fusion}


@pytest.fixture
def build(teacher) -> Callable[..., Gnl]:
    """A method of two parts, with the same first weights each time, but for its seed."""

    def build(name: str = "gnl", seed: int = 0) -> Gnl:
        torch.manual_seed(seed)
        return METHODS[name](teacher, METHODS[name].Config(segmentation=True))

    return build


def heads(values):
    return {key: value for key, value in values.items() if key.startswith("head.")}


def others(values):
    return {key: value for key, value in values.items() if not key.startswith("head.")}


@pytest.fixture(scope="module")
def whole(teacher, pixels) -> tuple[dict, Record]:
    """The weights and the record of a training that nothing has stopped."""
    torch.manual_seed(0)
    method = Gnl(teacher, Gnl.Config(segmentation=True))
    record = fit(method, pixels, QUICK)
    return weights(method), record


class Killed(Exception):
    """What a test ends a training with, without leave."""


@pytest.mark.parametrize("name", METHODS)
def test_each_part_has_a_schedule_of_its_own_and_progress_counts_them_all(build, pixels, monkeypatch, name):
    rates, reported = [], []
    step = torch.optim.AdamW.step

    def optimizer_step(self, *rest):
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", optimizer_step)
    method = build(name)
    before = weights(method)
    record = fit(method, pixels, QUICK, on_step=lambda *seen: reported.append(seen))
    assert record.steps == TOTAL
    assert [(done, total) for done, total, _ in reported] == [(done, TOTAL) for done in range(1, TOTAL + 1)]
    first, second = reported[STEPS - 1][2], reported[-1][2]
    assert "distill" in first and "segmentation" not in first
    assert second.keys() == {"segmentation"}
    assert record.losses == {**first, **second}
    assert all(np.isfinite(value) for value in record.losses.values())
    assert [group[0] for group in rates[:STEPS]] == pytest.approx(
        [4e-3 * QUICK.rate_factor(k, STEPS) for k in range(STEPS)]
    )
    assert [group[0] for group in rates[STEPS:]] == pytest.approx([1e-3 * QUICK.rate_factor(k, 2) for k in range(2)])
    unchanged = {key.split(".")[0] for key, value in weights(method).items() if torch.equal(value, before[key])}
    assert unchanged == {"image_correction", "scale"}  # which are learned afterwards
    assert not method.training


@pytest.mark.parametrize("steps", [3, STEPS, STEPS + 1])
def test_stopped_in_either_part_or_between_them_it_goes_on_to_the_same_weights(build, pixels, whole, tmp_path, steps):
    expected, whole_record = whole
    with pytest.raises(Interrupted, match=f"stopped at step {steps} of {TOTAL}: go on with --resume"):
        fit(build(), pixels, QUICK, folder=tmp_path, about=ABOUT, on_step=stop_after(steps))
    kept = load_checkpoint(tmp_path)
    assert kept.step == steps
    assert bool(kept.optimizer) == (steps != STEPS)  # between them the second one has done nothing yet

    reported = []
    resumed = build(seed=99)  # whatever it starts from
    record = fit(resumed, pixels, QUICK, folder=tmp_path, about=ABOUT, on_step=lambda *step: reported.append(step[:2]))
    assert reported == [(done, TOTAL) for done in range(steps + 1, TOTAL + 1)]
    assert_same(expected, weights(resumed))
    assert record.steps == whole_record.steps == TOTAL
    assert record.losses["segmentation"] == whole_record.losses["segmentation"] or steps == STEPS + 1


@pytest.mark.parametrize("steps", [STEPS, STEPS + 1])
def test_killed_after_the_last_checkpoint_of_either_part(build, pixels, whole, tmp_path, always_checkpoint, steps):
    """At the boundary the checkpoint has the first part's optimizer, which the second must not be given."""

    def kill(done, total, losses):
        if done == steps + 1:
            raise Killed

    with pytest.raises(Killed):
        fit(build(), pixels, QUICK, folder=tmp_path, on_step=kill)
    kept = load_checkpoint(tmp_path)
    assert kept.step == steps
    assert kept.optimizer
    resumed = build(seed=99)
    fit(resumed, pixels, QUICK, folder=tmp_path)
    assert_same(whole[0], weights(resumed))


def test_a_finished_training_is_not_trained_again(build, pixels, tmp_path):
    method, again, reported = build(), build(seed=99), []
    fit(method, pixels, QUICK, folder=tmp_path)
    assert load_checkpoint(tmp_path).step == TOTAL
    record = fit(again, pixels, QUICK, folder=tmp_path, on_step=lambda *seen: reported.append(seen))
    assert (record.steps, reported) == (TOTAL, [])
    assert_same(weights(method), weights(again))


def test_the_second_part_leaves_the_first_ones_work_and_the_first_the_seconds(build, pixels):
    at_boundary = {}

    method = build()
    first = weights(method)

    def keep_boundary(done, total, losses):
        if done == STEPS:
            at_boundary.update(weights(method))

    fit(method, pixels, QUICK, on_step=keep_boundary)
    assert_same(heads(at_boundary), heads(first))
    assert_same(others(weights(method)), others(at_boundary))
    assert not any(torch.equal(value, heads(first)[key]) for key, value in heads(weights(method)).items())


def test_the_second_part_computes_no_feature_of_images_that_it_does_not_read(build, pixels, monkeypatch):
    asked = []
    call = loop.NormalFeatures.__call__
    monkeypatch.setattr(
        loop.NormalFeatures, "__call__", lambda self, selected: asked.append(len(selected)) or call(self, selected)
    )
    fit(build(), pixels, QUICK)
    assert asked == [4] * STEPS


def test_it_trains_in_bfloat16(build, pixels):
    method = build("fusion")
    record = fit(method, pixels, TrainConfig(image_size=(64, 64), steps=2, batch_size=4, precision="bf16"))
    assert record.steps == 3
    assert all(bool(value.isfinite().all()) for value in weights(method).values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="of two processes on the CPU")
def test_two_processes_train_both_parts(build, pixels):
    method = build()
    before = weights(method)
    config = TrainConfig(image_size=(64, 64), steps=2, batch_size=4, precision="32", devices=2)
    record = fit(method, pixels, config)
    assert (record.steps, record.devices) == (3, 2)
    assert record.losses.keys() == {"distill", "structure", "segmentation"}
    after = weights(method)
    assert all(bool(value.isfinite().all()) for value in after.values())
    unchanged = {key.split(".")[0] for key, value in after.items() if torch.equal(value, before[key])}
    assert unchanged == {"image_correction", "scale"}
