"""What the papers' recipes ask of the methods, and the defaults do not: each setting by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from shiftproof.config import RdConfig
from shiftproof.errors import UsageError
from shiftproof.methods import METHODS, Method
from shiftproof.methods.base import MASKS, NORMAL
from shiftproof.methods.gnl import SYNTHETIC, Gnl, GnlConfig, SegmentationPhase
from shiftproof.methods.losses import (
    distillation_loss,
    flattened_distillation_loss,
    hard_distillation_loss,
    reference_structure_loss,
)
from shiftproof.methods.rd import AUGMENTED
from shiftproof.networks.segmentation import PaperSegmentationHead
from shiftproof.networks.teacher import Teacher, describe_teacher

BACKBONE = "tf_efficientnet_lite0.in1k"
PAPER_HEAD = {"segmentation_network": "paper", "segmentation_width": 8}


def build(name: str, **settings: Any) -> Method:
    torch.manual_seed(0)
    cls = METHODS[name]
    return cls(Teacher(describe_teacher(BACKBONE)), cls.Config(**settings))


def gnl(**settings: Any) -> Gnl:
    method = build("gnl", **{**PAPER_HEAD, **settings})
    assert isinstance(method, Gnl)
    return method


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def stages(count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, c, 16 >> k, 16 >> k, generator=generator) for k, c in enumerate((24, 40, 112))]


# --------------------------------------------------------------------------------------------------------------- losses


def test_the_reference_hard_loss_takes_ten_positions_of_every_stage():
    teacher, student = stages(2, 0), stages(2, 1)
    expected = flattened_distillation_loss(teacher, student)
    for first, second in zip(teacher, student, strict=True):
        distance = 1 - F.cosine_similarity(first, second, dim=1).flatten(1)
        expected = expected + distance.topk(10, dim=1).values.mean()
    torch.testing.assert_close(distillation_loss(teacher, student, "hard-reference", 0.5), expected)


def test_the_reference_hard_loss_of_a_small_stage_takes_what_there_is():
    teacher, student = ([stage[..., :2, :2] for stage in stages(2, seed)] for seed in (0, 1))
    expected = hard_distillation_loss(teacher, student, 1.0) + flattened_distillation_loss(teacher, student)
    torch.testing.assert_close(distillation_loss(teacher, student, "hard-reference", 0.5), expected)


def test_the_reference_structure_loss_by_hand():
    """Softmaxes (1/2, 1/2) and (3/4, 1/4): (ln (2/3) + ln 2) / 2 over two positions, averaged over them."""
    teacher, student = torch.zeros(1, 1, 1, 2), torch.tensor([math.log(3), 0]).view(1, 1, 1, 2)
    expected = (math.log(2 / 3) + math.log(2)) / 4
    assert reference_structure_loss([teacher], [student]).item() == pytest.approx(expected, rel=1e-5)
    assert reference_structure_loss([1e4 * teacher + 1e3], [student + 1e3]).isfinite()


# ------------------------------------------------------------------------------------------------- images and views


@pytest.mark.parametrize("name", ["rd", "rdpp", "gnl"])
def test_separate_passes_sum_the_losses_of_images_and_views(name: str):
    """Each with batch statistics of its own: as if the other were not there."""
    settings: dict[str, Any] = {"augment": "blind", "augment_share": 1.0, "augment_batch": "separate"}
    method = build(name, **settings, **({"ssot": "off"} if name == "rdpp" else {})).train()
    good, views, rng = stages(4, 0), stages(4, 1), np.random.default_rng(0)
    others = {"noisy": stages(4, 2)}
    together = method.losses({NORMAL: good, AUGMENTED: views, **others}, rng)
    alone = [method.losses({NORMAL: each, **others}, rng) for each in (good, views)]
    for term in ("distill", "structure") if name == "gnl" else ("distill",):
        torch.testing.assert_close(together[term], alone[0][term] + alone[1][term])
    joint = build(name, **{**settings, "augment_batch": "joint"}).train()
    joint.load_state_dict(method.state_dict())
    mixed = joint.losses({NORMAL: good, AUGMENTED: views, **others}, rng)["distill"]
    assert abs(2 * mixed - together["distill"]) > 1e-4 * mixed  # statistics of both are others


# ---------------------------------------------------------------------------------------------------------- segmentation


def test_the_papers_segmentation_network_is_trained_by_sgd_at_its_own_rates():
    method = gnl(segmentation_optimizer="sgd")
    assert isinstance(method.head, PaperSegmentationHead)
    phase = method.phases()[1]
    assert (method.optimizer, phase.optimizer) == (None, "sgd")
    groups = phase.trained_parameters(5e-3)
    assert [group["lr"] for group in groups] == [0.1, 0.01]
    assert {id(p) for p in groups[0]["params"]} == {id(p) for p in method.head.blocks.parameters()}
    trained = [id(p) for group in groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in method.head.parameters())


def test_the_probability_is_added_to_the_distance_without_smoothing():
    method = gnl(segmentation_sum="probability", segmentation_weight=1.0, score_normalization="none", correction="none")
    method.eval()
    torch.nn.init.normal_(method.head.last[1].weight)
    batch = images(2)
    with torch.no_grad():
        features = method.teacher(batch)
        student = method.reconstruct(features)
        probability = method.head(features, student).sigmoid()[:, None]
        expected = method.residuals(features, student, (64, 64))
        expected = expected + F.interpolate(probability, (64, 64), mode="bilinear", align_corners=False)[:, 0]
        torch.testing.assert_close(method.anomaly_map(batch), expected)
        before = {key: value.clone() for key, value in method.state_dict().items()}
        method.fit_scale(np.zeros((2, 64, 64, 3), np.uint8))
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


def test_views_of_all_images_come_after_the_anomalies(monkeypatch: pytest.MonkeyPatch):
    method = gnl(segmentation_views="all", random_rotation="always", correction="none")
    seen = []

    def view(batch: Tensor, rng: np.random.Generator, kind: str, in_place: bool) -> Tensor:
        assert in_place
        seen.append(batch)
        return batch / 2

    monkeypatch.setattr("shiftproof.methods.rd.augmix", view)
    monkeypatch.setattr(
        "shiftproof.methods.rd.random_rotation", lambda *_: pytest.fail("the masks would not turn along")
    )
    phase = method.phases()[1]
    assert isinstance(phase, SegmentationPhase)
    views = phase.views(images(4), np.random.default_rng(0))
    assert len(seen) == 1
    assert torch.equal(views[SYNTHETIC], seen[0] / 2)
    assert not torch.equal(seen[0], images(4))  # they had their anomalies already
    for before, after, mask in zip(images(4), seen[0], views[MASKS], strict=True):
        assert torch.equal(before[:, mask == 0], after[:, mask == 0])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"augment_batch": "both"}, "both"),
        ({"hard_fraction": 0.0}, "hard fraction 0.0"),
        ({"smoothing_sigma": -1.0}, "smoothing sigma -1.0"),
        ({"structure": "max"}, "max"),
        ({"segmentation_network": "papers"}, "papers"),
        ({"segmentation_optimizer": "adam"}, "adam"),
        ({"segmentation_optimizer": "sgd"}, "sgd"),  # whose rates are of the paper's network
        ({"segmentation_sum": "logit"}, "logit"),
        ({"segmentation_views": "none"}, "none"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, Any], named: str):
    with pytest.raises(UsageError, match=named):
        GnlConfig(**settings)


def test_no_default_has_changed():
    defaults = RdConfig()
    assert (defaults.distillation, defaults.augment_batch, defaults.hard_fraction) == ("hard", "joint", 0.02)
    head = GnlConfig()
    assert (head.structure, head.segmentation_network, head.segmentation_optimizer) == (
        "sum",
        "lightweight",
        "schedule",
    )
    assert (head.segmentation_sum, head.segmentation_views) == ("scaled", "half")
