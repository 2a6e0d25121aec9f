"""GNL, and what fusion makes of it and RD++: what the contract of all methods does not say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shiftproof.errors import UsageError
from shiftproof.methods import METHODS, Inspector
from shiftproof.methods.base import MASKS, NORMAL
from shiftproof.methods.gnl import SYNTHETIC, Gnl
from shiftproof.methods.rd import AUGMENTED
from shiftproof.networks.teacher import Teacher, describe_teacher
from shiftproof.synthesis.textures import Textures

from .test_methods import EVERY_PART, TEACHERS, anomaly_maps, fit_all, images, pixels_of, state, step

BOTH = pytest.mark.parametrize("name", ["gnl", "fusion"])


def gnl(name: str = "gnl", **settings: Any) -> Gnl:
    cls = METHODS[name]
    torch.manual_seed(0)
    method = cls(Teacher(describe_teacher(TEACHERS[0])), cls.Config(**{**EVERY_PART, **settings}))
    assert isinstance(method, Gnl)
    return method


def levels(count: int) -> Tensor:
    """Images of whole levels, as a decoder gives them."""
    return (images(count) * 255).round() / 255


# -------------------------------------------------------------------------------------------------------------- views


class ShiftSeenError(Exception):
    """What a test shift does has been done in training."""


@pytest.fixture
def no_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything of the families that tests shift by is an error."""

    def refuse(*_: Any) -> None:
        raise ShiftSeenError

    monkeypatch.setattr("shiftproof.synthesis.augmix.drift", refuse)
    for module in ("light", "camera", "pose", "conditions"):
        for shift in ("brightness", "contrast", "exposure", "vignetting", "colour_temperature"):
            monkeypatch.setattr(f"shiftproof.shifts.{module}.{shift}", refuse, raising=False)
        for shift in ("gaussian_noise", "defocus_blur", "motion_blur", "jpeg", "move", "rotation", "rotation_gray"):
            monkeypatch.setattr(f"shiftproof.shifts.{module}.{shift}", refuse, raising=False)


@BOTH
def test_blind_training_sees_no_test_shift_in_any_of_its_parts(name: str, no_drift: None):
    method = gnl(name)
    for seed in range(3):
        for phase in method.phases():
            phase.views(images(4), np.random.default_rng(seed))
    fit_all(method)  # score normalization is fitted to augmented views as well


@BOTH
def test_production_training_does(name: str, no_drift: None):
    for phase in gnl(name, augment="production").phases():
        with pytest.raises(ShiftSeenError):
            phase.views(images(4), np.random.default_rng(0))


def is_tone_curve(before: Tensor, after: Tensor) -> bool:
    """Whether equal levels [N] stay equal, wherever they lie: no noise, blur, shading or move can hide in that."""
    return all(after[before == level].unique().numel() == 1 for level in before.unique())


@BOTH
def test_blind_views_change_tones_alone(name: str):
    batch = levels(6)
    method = gnl(name, denoise_augmentation=False)
    augmented = method.views(batch, np.random.default_rng(1))[AUGMENTED]
    assert len(augmented) == 3
    for before, after in zip(batch.flatten(0, 1), augmented.flatten(0, 1), strict=False):
        assert is_tone_curve(before, after)
    views = method.phases()[1].views(batch, np.random.default_rng(1))
    masks = views[MASKS]
    assert 0 < masks.mean() < 0.2
    assert not torch.equal(views[SYNTHETIC], batch)
    for image, synthetic, mask in zip(batch, views[SYNTHETIC], masks, strict=True):
        for before, after in zip(image, synthetic, strict=True):
            assert is_tone_curve(before[mask == 0], after[mask == 0])
            assert not mask.any() or not torch.equal(before[mask == 1], after[mask == 1])


@pytest.mark.parametrize(("share", "count", "expected"), [(0.5, 16, 8), (1.0, 3, 3), (0.5, 2, 1), (0.1, 1, 1)])
def test_a_share_of_the_batch_gets_a_view(share: float, count: int, expected: int):
    views = gnl(augment_share=share).views(images(count), np.random.default_rng(0))
    assert {name: len(view) for name, view in views.items()} == {AUGMENTED: expected}


@BOTH
def test_without_views_nothing_is_mixed(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shiftproof.methods.base.augmix", lambda *_: pytest.fail("an AugMix view was made"))
    method = gnl(name, augment_share=0.0, segmentation=True).train()
    for phase in method.phases():
        assert AUGMENTED not in phase.views(images(4), np.random.default_rng(0))
    assert {"distill", "structure"} <= step(method, images(4)).keys()


def test_fusion_has_the_views_and_the_losses_of_both():
    method = gnl("fusion").train()
    assert method.views(images(4), np.random.default_rng(0)).keys() == {AUGMENTED, "noisy"}
    assert step(method, images(4)).keys() == {"distill", "structure", "ssot", "reconstruct", "contrast"}
    assert step(gnl().train(), images(4)).keys() == {"distill", "structure"}


def test_the_student_reconstructs_the_views_as_well():
    """The loss of images and views is that of one batch of both."""
    method, rng = gnl().eval(), np.random.default_rng(0)
    batch, augmented = images(4), images(2, seed=1)
    with torch.no_grad():
        both = method.losses({NORMAL: method.teacher(batch), AUGMENTED: method.teacher(augmented)}, rng)
        teacher = method.teacher(torch.cat([batch, augmented]))
        expected = method.distillation(teacher, method.reconstruct(teacher))
    for name, loss in both.items():
        torch.testing.assert_close(loss, expected[name])


def test_the_structure_loss_is_weighed_and_can_be_left_out():
    light, heavy, none = (step(gnl(structure_weight=weight).eval(), images(3)) for weight in (0.02, 2.0, 0.0))
    # float32 of one number, times 100.
    assert heavy["structure"].item() == pytest.approx(100 * light["structure"].item(), rel=1e-4)
    assert none.keys() == {"distill"}


# ------------------------------------------------------------------------------------------------------- segmentation


def test_without_segmentation_there_is_one_phase_and_one_map():
    method = fit_all(gnl(segmentation=False))
    assert method.phases() == [method]
    assert not [key for key in method.state_dict() if key.startswith(("head", "scale"))]
    with torch.no_grad():
        maps, _ = Inspector(method)(pixels_of(images(2)))
    assert maps.isfinite().all()


@BOTH
def test_the_segmentation_adds_to_the_map(name: str):
    method = fit_all(gnl(name))
    before = anomaly_maps(method, images(2))
    with torch.no_grad():
        method.head.last[1].weight.mul_(-3)
    assert not torch.allclose(anomaly_maps(method, images(2)), before, atol=1e-3)


def test_both_maps_are_on_one_scale_learned_from_calibration_images():
    """In standard deviations of their maxima there, whatever the one's unit and the other's."""
    method = gnl()
    with torch.no_grad():
        method.head.last[1].weight.mul_(500)
    fit_all(method)
    calibration_set = pixels_of(images(9, seed=7))
    with torch.no_grad():
        method.fit_scale(calibration_set.numpy())
        batch = calibration_set.permute(0, 3, 1, 2).float() / 255
        maps = method._maps(method.features(batch), (64, 64))
    assert torch.stack([each.amax(dim=(1, 2)).std() for each in maps]).max() > 0.1
    for each, mean, deviation in zip(maps, method.scale.means, method.scale.deviations, strict=True):
        highest = (each.amax(dim=(1, 2)) - mean) / deviation
        # The very images that the scale is fitted to: exact but for float32.
        assert highest.mean().item() == pytest.approx(0, abs=1e-3)
        assert highest.std(correction=0).item() == pytest.approx(1, rel=1e-3)


def test_the_textures_are_what_anomalies_are_made_of():
    black, white = (Textures(np.full((2, 64, 64, 3), level, np.uint8)) for level in (0, 255))
    batch, seen = torch.full((8, 3, 64, 64), 0.5), []
    for textures in (black, white):
        method = gnl()
        method.textures = textures
        views = method.phases()[1].views(batch, np.random.default_rng(0))
        seen.append(views[SYNTHETIC][(views[MASKS] == 1).unsqueeze(1).expand(-1, 3, -1, -1)])
    assert (seen[0] < 0.5).all()
    assert (seen[1] > 0.5).all()


def test_only_the_head_is_ever_in_training_mode_in_the_second_phase():
    method = gnl("fusion")
    second = method.phases()[1]
    method.train()
    second.train()
    training = {name for name, part in method.named_modules() if part.training}
    assert training
    assert {name.split(".")[0] for name in training} == {"head"}
    second.eval()
    assert not any(part.training for part in method.modules())


def test_gradients_stop_at_the_student_even_where_nobody_has_frozen_it():
    method = gnl()
    before = state(method.student)
    second = method.phases()[1].train()
    assert all(parameter.requires_grad for parameter in method.student.parameters())
    step(second, images(4))["segmentation"].backward()
    assert all(parameter.grad is None for parameter in method.student.parameters())
    assert all(torch.equal(value, before[key]) for key, value in method.student.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"segmentation_share": 0.0}, "segmentation share 0.0 is out of range: expected above 0"),
        ({"segmentation_share": 1.5}, "segmentation share 1.5 is out of range"),
        ({"structure_weight": -1.0}, "structure weight -1.0 is negative"),
        ({"segmentation_weight": -0.5}, "segmentation weight -0.5 is negative"),
    ],
)
@BOTH
def test_wrong_settings_are_refused(name: str, settings: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        gnl(name, **settings)


def test_fusion_has_the_settings_of_both():
    config = METHODS["fusion"].Config()
    assert (config.augment, config.ssot, config.segmentation) == ("blind", "off", False)
    with pytest.raises(UsageError, match="unknown ssot"):
        gnl("fusion", ssot="twice")
