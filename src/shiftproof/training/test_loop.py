from __future__ import annotations

import errno
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shiftproof.config.training import steps_per_epoch
from shiftproof.errors import ModelError, TrainingError, UsageError
from shiftproof.methods.base import to_images
from shiftproof.methods.rd import Rd
from shiftproof.reporter import Reporter
from shiftproof.training import Interrupted, TrainConfig, fit, load_checkpoint, loop
from shiftproof.training.checkpoint import FILE
from shiftproof.training.features import NormalFeatures
from shiftproof.training.loop import batch_indices, trained_state

STEPS = 6
QUICK = TrainConfig(image_size=(64, 64), steps=STEPS, batch_size=4, precision="32")
ABOUT = {"method": "rdpp", "steps": STEPS, "seed": 0}


def weights(method):
    return {key: value.clone() for key, value in trained_state(method).items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    different = [key for key, value in first.items() if not torch.equal(value, second[key])]
    assert different == []


def stop_after(steps, number=signal.SIGTERM):
    """A step function that asks this process to stop once so many steps are done."""

    def step(done, total, losses):
        if done == steps:
            signal.raise_signal(number)

    return step


# --- the schedule ----------------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(2, 60),
    batch=st.integers(1, 16),
    epoch=st.integers(0, 5),
)
def test_a_pass_shows_no_image_twice_and_leaves_out_less_than_a_batch(seed, count, batch, epoch):
    batch = min(batch, count)
    per_epoch = steps_per_epoch(count, batch)
    batches = [batch_indices(seed, epoch * per_epoch + step, count, batch) for step in range(per_epoch)]
    assert {len(selected) for selected in batches} == {batch}
    seen = np.concatenate(batches).tolist()
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(count))
    assert count - len(seen) < batch


def test_every_pass_has_an_order_of_its_own_and_every_image_its_turn():
    passes = [tuple(batch_indices(0, step, 12, 12)) for step in range(5)]
    assert len(set(passes)) == 5
    assert all(sorted(order) == list(range(12)) for order in passes)
    left_out = [
        set(range(10)) - set(np.concatenate([batch_indices(0, 2 * n + k, 10, 4) for k in (0, 1)])) for n in range(20)
    ]
    assert set.union(*left_out) == set(range(10))  # no image is left out for good


def test_the_steps_see_the_batches_of_the_schedule(build, pixels, monkeypatch):
    seen = []
    real = loop._features

    def spy(fabric, method, normal, pixels, selected, rng):
        seen.append(selected.tolist())
        return real(fabric, method, normal, pixels, selected, rng)

    monkeypatch.setattr(loop, "_features", spy)
    rates = []
    method = build("rd")
    step = torch.optim.AdamW.step

    def optimizer_step(self, *rest):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", optimizer_step)
    reported = []
    config = TrainConfig(image_size=(64, 64), epochs=3, batch_size=4, precision="32")
    record = fit(method, pixels, config, on_step=lambda done, total, losses: reported.append((done, total)))
    assert record.steps == 6  # 10 images: two full batches a pass
    assert reported == [(done, 6) for done in range(1, 7)]
    assert seen == [batch_indices(0, step, 10, 4).tolist() for step in range(6)]
    assert rates == pytest.approx([4e-3 * config.rate_factor(step, 6) for step in range(6)])


@pytest.mark.parametrize("name", ["rd", "rdpp"])
def test_training_lowers_the_loss_and_leaves_the_teacher_alone(build, pixels, name):
    method = build(name)
    before, teacher = weights(method), {k: v.clone() for k, v in method.teacher.state_dict().items()}
    losses = []
    config = TrainConfig(image_size=(64, 64), steps=24, batch_size=5, precision="32")
    record = fit(method, pixels, config, on_step=lambda done, total, means: losses.append(dict(means)))
    assert losses[-1]["distill"] < 0.7 * losses[0]["distill"]
    assert record.losses == losses[-1]
    assert (record.steps, record.device, record.devices, record.precision) == (24, record.device, 1, "32-true")
    assert record.seconds > 0
    assert not method.training
    assert_same(method.teacher.state_dict(), teacher)
    unchanged = {key.split(".")[0] for key, value in weights(method).items() if torch.equal(value, before[key])}
    assert unchanged == {"image_correction"}  # which is learned afterwards


def test_the_losses_told_start_at_the_first_and_follow_slowly(build, pixels):
    reported = []
    fit(build("rd"), pixels, QUICK, on_step=lambda done, total, means: reported.append(means["distill"]))
    single = [(after - 0.95 * before) / 0.05 for before, after in itertools.pairwise(reported)]
    assert all(0 < loss < reported[0] for loss in single)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(build, pixels):
    trained = []
    for seed in (0, 0, 1):
        method = build(seed=0)  # the same first weights: the order and the views alone differ
        fit(method, pixels, TrainConfig(image_size=(64, 64), steps=3, batch_size=4, precision="32", seed=seed))
        trained.append(weights(method))
    assert_same(trained[0], trained[1])
    assert not torch.equal(trained[0]["student.decoder.heads.0.weight"], trained[2]["student.decoder.heads.0.weight"])


def test_cached_features_give_almost_the_same_loss(build, pixels):
    losses = []
    for limit in (10**9, 0):
        # One step: after it the difference would be that of two trajectories, which grows with every step.
        config = TrainConfig(image_size=(64, 64), steps=1, batch_size=4, precision="32", feature_cache=limit)
        losses.append(fit(build("rd"), pixels, config).losses["distill"])
    assert losses[0] == pytest.approx(losses[1], rel=2**-11)  # float16 rounds each feature by so much at most
    assert losses[0] != losses[1]  # float16 is what differs: the limit did something


def test_accumulated_gradients_are_the_sum_over_their_batches(build, pixels, monkeypatch):
    config = TrainConfig(image_size=(64, 64), steps=1, batch_size=4, precision="32", accumulate=2)
    seen = []
    step = torch.optim.AdamW.step

    def spy(self, *rest):
        seen.append([parameter.grad.clone() for group in self.param_groups for parameter in group["params"]])
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    record = fit(build("rd", augment_share=0.0), pixels, config)
    assert record.steps == len(seen) == 1
    method = build("rd", augment_share=0.0).train()
    method.to_channels_last()
    features, losses = NormalFeatures(method.teacher, pixels, config.feature_cache, 4), []
    for number in (0, 1):
        loss = method.losses({"normal": features(batch_indices(0, number, 10, 4))}, np.random.default_rng(0))["distill"]
        loss.backward()
        losses.append(loss.item())
    assert record.losses["distill"] == pytest.approx(np.mean(losses), rel=1e-5)
    for found, parameter in zip(seen[0], method.student.parameters(), strict=True):
        # float32 of the same sums, in units of the largest gradient of the layer
        torch.testing.assert_close(found, parameter.grad, rtol=0, atol=1e-3 * float(parameter.grad.abs().max()) + 1e-6)


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 6), (2, 3), (5, 1), (100, 1)])
def test_accumulation_makes_fewer_steps_of_as_many_passes(accumulate, steps):
    config = TrainConfig(epochs=3, batch_size=4, accumulate=accumulate)
    assert config.steps_for(10) == steps  # three passes of two batches
    assert config.steps_of_an_epoch(10) == max(1, 2 // accumulate)


def test_two_images_are_enough(build, pixels):
    record = fit(build(), pixels[:2], TrainConfig(image_size=(64, 64), epochs=2, precision="32"))
    assert record.steps == 2
    assert all(np.isfinite(value) for value in record.losses.values())


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_every_setting_trains(build, pixels, optimizer, precision):
    config = TrainConfig(
        image_size=(64, 64), steps=2, batch_size=4, optimizer=optimizer, precision=precision, schedule="constant"
    )
    method = build()
    record = fit(method, pixels, config)
    assert record.precision == {"32": "32-true", "bf16": "bf16-mixed"}[precision]
    assert {value.dtype for value in weights(method).values()} == {torch.float32, torch.int64}


# --- stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(build, pixels, tmp_path, steps, precision):
    config = TrainConfig(image_size=(64, 64), steps=STEPS, batch_size=4, precision=precision)
    whole = build()
    whole_record = fit(whole, pixels, config)

    with pytest.raises(Interrupted, match=f"stopped at step {steps} of 6: go on with --resume"):
        fit(build(), pixels, config, folder=tmp_path, about=ABOUT, on_step=stop_after(steps))
    assert load_checkpoint(tmp_path).step == steps

    reported = []
    resumed = build(seed=99)  # whatever it starts from
    record = fit(resumed, pixels, config, folder=tmp_path, about=ABOUT, on_step=lambda *step: reported.append(step[0]))
    assert reported == list(range(steps + 1, STEPS + 1))
    assert_same(weights(whole), weights(resumed))
    assert record.steps == whole_record.steps
    assert record.seconds > load_checkpoint(tmp_path).seconds  # over both parts


def test_ctrl_c_stops_as_sigterm_does_and_the_handlers_are_put_back(build, pixels, tmp_path):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(Interrupted) as raised:
        fit(build("rd"), pixels, QUICK, folder=tmp_path, on_step=stop_after(2, signal.SIGINT))
    assert raised.value.exit_code == 130
    assert {number: signal.getsignal(number) for number in before} == before
    assert load_checkpoint(tmp_path).step == 2


def test_a_second_ctrl_c_stops_at_once(build, pixels):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it

    def twice(done, total, losses):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(build("rd"), pixels, QUICK, on_step=twice)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_a_run_stopped_twice_goes_on_twice(build, pixels, tmp_path):
    whole = build()
    fit(whole, pixels, QUICK)
    for steps in (2, 3):
        with pytest.raises(Interrupted):
            fit(build(), pixels, QUICK, folder=tmp_path, on_step=stop_after(steps))
    resumed = build()
    fit(resumed, pixels, QUICK, folder=tmp_path)
    assert_same(weights(whole), weights(resumed))


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np, torch
    from shiftproof.methods import method_class
    from shiftproof.networks.teacher import DEFAULT_BACKBONE, Teacher, describe_teacher
    from shiftproof.training import TrainConfig, fit, loop

    loop.CHECKPOINT_EVERY = 0
    pixels = np.load(sys.argv[1])
    torch.manual_seed(7)
    teacher = Teacher(describe_teacher(DEFAULT_BACKBONE))
    torch.manual_seed(0)
    kind = method_class("rdpp")
    config = TrainConfig(image_size=(64, 64), steps=6, batch_size=4, precision="32")

    def step(done, total, losses):
        if done == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    fit(kind(teacher, kind.Config()), pixels, config, folder=Path(sys.argv[2]), on_step=step)
"""


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(build, pixels, tmp_path):
    np.save(tmp_path / "pixels.npy", pixels)
    arguments = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "pixels.npy"), str(tmp_path / "kept")]
    killed = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert load_checkpoint(tmp_path / "kept").step == 3  # of the step before
    whole, resumed = build(), build(seed=99)
    fit(whole, pixels, QUICK)
    fit(resumed, pixels, QUICK, folder=tmp_path / "kept")
    assert_same(weights(whole), weights(resumed))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "made with seed 0, not 1"),
        ({"method": "rd"}, "made with method rdpp, not rd"),
        ({"extra": True}, "made with extra None, not True"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_the_setting_that_differs(build, pixels, tmp_path, change, said):
    with pytest.raises(Interrupted):
        fit(build(), pixels, QUICK, folder=tmp_path, about=ABOUT, on_step=stop_after(1))
    before = (tmp_path / FILE).read_bytes()
    method = build()
    first = weights(method)
    with pytest.raises(ModelError, match=said) as raised:
        fit(method, pixels, QUICK, folder=tmp_path, about={**ABOUT, **change})
    assert "--overwrite" in str(raised.value)
    assert (tmp_path / FILE).read_bytes() == before
    assert_same(weights(method), first)


def test_a_damaged_checkpoint_is_refused(build, pixels, tmp_path):
    (tmp_path / FILE).write_bytes(b"damage")
    with pytest.raises(ModelError, match="is damaged"):
        fit(build("rd"), pixels, QUICK, folder=tmp_path)


def test_a_disk_that_fills_up_is_warned_of_and_training_goes_on(
    build, pixels, tmp_path, monkeypatch, always_checkpoint
):
    tries = []

    def full(folder, checkpoint):
        tries.append(checkpoint.step)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(loop, "save_checkpoint", full)
    warnings = []
    method, undisturbed = build("rd"), build("rd")
    record = fit(method, pixels, QUICK, folder=tmp_path, reporter=Reporter(warning=warnings.append))
    assert record.steps == STEPS
    assert tries == list(range(1, STEPS + 1))
    assert len(warnings) == STEPS
    assert "No space left on device" in warnings[0]
    assert str(tmp_path) in warnings[0]
    fit(undisturbed, pixels, QUICK)
    assert_same(weights(method), weights(undisturbed))


def test_checkpoints_are_not_written_at_every_step(build, pixels, tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda folder, checkpoint: steps.append(checkpoint.step))
    fit(build("rd"), pixels, QUICK, folder=tmp_path)
    assert steps == [STEPS]  # it took less than the time between two; the end is always kept


# --- losses that are lost --------------------------------------------------------------------------------------------


class LosesALoss(Rd):
    """A term that is no number from the fourth call on."""

    calls = 0

    def losses(self, features, rng):
        type(self).calls += 1
        sum_ = super().losses(features, rng)
        return {**sum_, "extra": sum_["distill"] * (float("nan") if type(self).calls == 4 else 0.0)}


class LosesItsWeights(Rd):
    """Weights that are no numbers from the fourth call on, as after a gradient that overflows."""

    calls = 0

    def losses(self, features, rng):
        type(self).calls += 1
        if type(self).calls == 4:
            with torch.no_grad():
                self.student.decoder.heads[0].weight.fill_(float("inf"))
        return super().losses(features, rng)


@pytest.fixture(autouse=True)
def _fresh_calls(monkeypatch):
    monkeypatch.setattr(LosesALoss, "calls", 0)
    monkeypatch.setattr(LosesItsWeights, "calls", 0)


def test_a_loss_that_is_no_number_stops_the_training_by_name(build, pixels, tmp_path):
    with pytest.raises(TrainingError, match="stopped at step 3 of 6: the loss 'extra' is nan") as raised:
        fit(build(LosesALoss), pixels, QUICK, folder=tmp_path)
    assert f"the last good weights are in {tmp_path}" in str(raised.value)
    assert "--learning-rate" in str(raised.value)
    assert raised.value.exit_code == 2
    kept = load_checkpoint(tmp_path)
    assert kept.step == 3
    assert all(bool(value.isfinite().all()) for value in kept.weights.values())
    # They are the weights of three steps: what a run of the same schedule had when it was stopped there.
    with pytest.raises(Interrupted):
        fit(build("rd"), pixels, QUICK, folder=tmp_path / "stopped", on_step=stop_after(3))
    stopped = load_checkpoint(tmp_path / "stopped").weights
    parameters = [name for name, _ in build("rd").named_parameters() if not name.startswith("teacher.")]
    assert parameters
    assert all(torch.equal(kept.weights[name], stopped[name]) for name in parameters)


def test_weights_that_are_no_numbers_never_replace_good_ones(build, pixels, tmp_path, always_checkpoint):
    with pytest.raises(TrainingError, match="the loss 'distill' is nan; the last good weights are in"):
        fit(build(LosesItsWeights), pixels, QUICK, folder=tmp_path)
    kept = load_checkpoint(tmp_path)
    assert kept.step == 3
    assert all(bool(value.isfinite().all()) for value in kept.weights.values())


def test_nothing_is_said_to_be_kept_where_nothing_is(build, pixels, tmp_path):
    with pytest.raises(TrainingError, match="the loss 'distill' is nan; train again") as raised:
        fit(build(LosesItsWeights), pixels, QUICK, folder=tmp_path)
    assert "last good weights" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


# --- several processes -----------------------------------------------------------------------------------------------


class Witness(Rd):
    """Leaves a digest of its parameters and its batch at each step of each process; rank 1 may lose a loss."""

    def losses(self, features, rng):
        rank, folder = torch.distributed.get_rank(), Path(os.environ["SHIFTPROOF_WITNESS"])
        step = len(list(folder.glob(f"*-{rank}-*")))
        digests = [
            hashlib.sha256(b"".join(value.detach().numpy().tobytes() for value in values)).hexdigest()
            for values in (self.student.parameters(), features["normal"])
        ]
        (folder / "-".join((str(step), str(rank), *digests))).touch()
        losses = super().losses(features, rng)
        if "lose" in os.environ["SHIFTPROOF_WITNESS"] and (step, rank) == (2, 1):
            return {name: value * float("nan") for name, value in losses.items()}
        return losses


@pytest.mark.skipif(torch.cuda.is_available(), reason="of two processes on the CPU")
def test_two_processes_train_one_method(build, pixels, tmp_path, monkeypatch):
    monkeypatch.setenv("SHIFTPROOF_WITNESS", str(tmp_path))
    method = build(Witness)
    config = TrainConfig(image_size=(64, 64), steps=3, batch_size=4, precision="32", devices=2)
    before = weights(method)
    record = fit(method, pixels, config)
    assert (record.steps, record.devices) == (3, 2)
    assert np.isfinite(record.losses["distill"])
    left = sorted(path.name.split("-") for path in tmp_path.iterdir())
    assert [entry[:2] for entry in left] == [[str(step), str(rank)] for step in range(3) for rank in (0, 1)]
    of_step = [(left[2 * step], left[2 * step + 1]) for step in range(3)]
    assert all(first[2] == second[2] for first, second in of_step)  # the same weights at every step
    assert all(first[3] != second[3] for first, second in of_step)  # each on its own share of the batch
    assert len({first[2] for first, _ in of_step}) == 3
    # What they learned is in the caller's method.
    assert all(bool(value.isfinite().all()) for value in weights(method).values())
    unchanged = {key.split(".")[0] for key, value in weights(method).items() if torch.equal(value, before[key])}
    assert unchanged == {"image_correction"}  # which is learned afterwards
    method.anomaly_map(torch.zeros(1, 3, 64, 64))


class InDoublePrecision(Rd):
    """A student in float64, which leaves what each process saw at each step, and the first step's gradients and statistics."""

    def losses(self, features, rng):
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        folder = Path(os.environ["SHIFTPROOF_WITNESS"])
        step = len(list(folder.glob(f"seen-*-{rank}.npy")))
        np.save(folder / f"seen-{step}-{rank}.npy", features["normal"][2].mean(dim=(2, 3)).numpy())
        if step == 1:  # after the first step, and before its gradients are cleared
            gradients = {name: parameter.grad.clone() for name, parameter in self.student.named_parameters()}
            statistics = {name: buffer.clone() for name, buffer in self.student.named_buffers()}
            torch.save((gradients, statistics), folder / f"first-{rank}.pt")
        teacher = [stage.double() for stage in features["normal"]]
        pairs = zip(teacher, self.student(teacher), strict=True)
        return {"distill": torch.stack([(1 - torch.cosine_similarity(*pair)).mean() for pair in pairs]).sum()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="of two processes on the CPU")
def test_two_processes_make_the_step_of_one(build, pixels, tmp_path, monkeypatch):
    # What must be equal is compared: batches, gradients, batch statistics. Later losses may not be: rounding, which alone
    # depends on the number of threads, grows with each step at these rates until it is larger than any useful tolerance.
    seen, gradients, statistics, losses = {}, {}, {}, {}
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        monkeypatch.setenv("SHIFTPROOF_WITNESS", str(folder))
        method = build(InDoublePrecision, augment_share=0.0)  # each process draws the views of its own share
        method.student.double()
        config = TrainConfig(image_size=(64, 64), steps=3, batch_size=4, precision="32", devices=devices)
        losses[devices] = fit(method, pixels, config).curve[0]["distill"]
        seen[devices] = [
            np.concatenate([np.load(folder / f"seen-{step}-{rank}.npy") for rank in range(devices)])
            for step in range(3)
        ]
        first = [torch.load(folder / f"first-{rank}.pt") for rank in range(devices)]
        gradients[devices], statistics[devices] = first[0]
        assert_same(*[each[0] for each in (first[0], first[-1])])
    images = to_images(torch.from_numpy(pixels))
    known = build(InDoublePrecision).teacher(images)[2].mean(dim=(2, 3)).detach().numpy()
    for step in range(3):
        batch = sorted(batch_indices(0, step, 10, 4).tolist())
        for devices in (1, 2):
            nearest = [int(np.argmin(np.linalg.norm(known - each, axis=1))) for each in seen[devices][step]]
            assert sorted(nearest) == batch
    # float64, whose rounding is 1e-16: 1e-9 leaves what 40 layers make of it. Statistics or gradients of half a batch differ by
    # tens of percent. In units of the largest gradient, as some are zero but for rounding (weights in front of a batch norm).
    unit = max(float(gradient.abs().max()) for gradient in gradients[1].values())
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[2][name], gradient, rtol=0, atol=1e-9 * unit, msg=name)
    for name, buffer in statistics[1].items():
        torch.testing.assert_close(statistics[2][name], buffer, rtol=1e-9, atol=1e-12, msg=name)
    assert losses[2] == pytest.approx(losses[1], rel=1e-6)  # float32 of the same number, before anything has grown


@pytest.mark.skipif(torch.cuda.is_available(), reason="of two processes on the CPU")
def test_a_loss_lost_by_one_process_stops_both_with_one_error(build, pixels, tmp_path, monkeypatch):
    folder = tmp_path / "lose"
    folder.mkdir()
    monkeypatch.setenv("SHIFTPROOF_WITNESS", str(folder))
    method = build(Witness)
    before = weights(method)
    config = TrainConfig(image_size=(64, 64), steps=6, batch_size=4, precision="32", devices=2)
    with pytest.raises(TrainingError, match="stopped at step 2 of 6: the loss 'distill' is nan; the last good weights"):
        fit(method, pixels, config, folder=tmp_path / "kept", about=ABOUT)
    assert load_checkpoint(tmp_path / "kept").step == 2
    assert_same(weights(method), before)


def test_more_devices_than_images_in_a_batch_are_refused(build, pixels):
    config = TrainConfig(image_size=(64, 64), steps=1, batch_size=4, devices=5)
    with pytest.raises(UsageError, match="5 devices for batches of 4 images"):
        fit(build("rd"), pixels, config)
