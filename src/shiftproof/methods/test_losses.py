from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from shiftproof.errors import UsageError
from shiftproof.methods import losses as module
from shiftproof.methods.losses import (
    DISTILLATIONS,
    SSOT,
    contrast_loss,
    distillation_loss,
    flattened_distillation_loss,
    hard_distillation_loss,
    position_distillation_loss,
    reconstruct_loss,
    ssot_loss,
    structure_loss,
)

Stages = list[Tensor]
SHAPES = ((3, 6, 8, 8), (3, 10, 4, 4), (3, 14, 2, 2))


def stages(seed: int, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> Stages:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def column(*vectors: tuple[float, ...]) -> Stages:
    """One stage of one image: a vector for each position."""
    return [torch.tensor(vectors).T[None, :, :, None].float()]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------------------- values by hand

TEACHER = column((1, 0), (1, 0), (0, 2), (0, 2))
STUDENT = column((1, 0), (0, 1), (0, -2), (0, 1))  # distances 0, 1, 2, 0


def test_position_by_hand():
    assert position_distillation_loss(TEACHER, STUDENT).item() == pytest.approx(3 / 4)


def test_flattened_by_hand():
    # Inner product 1 + 0 - 4 + 2; squared norms 1 + 1 + 4 + 4 and 1 + 1 + 4 + 1.
    assert flattened_distillation_loss(TEACHER, STUDENT).item() == pytest.approx(1 + 1 / math.sqrt(70))


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.01, 2), (0.25, 2), (0.26, 1.5), (0.5, 1.5), (0.75, 1), (1, 0.75)]
)
def test_hard_by_hand(fraction: float, expected: float):
    assert hard_distillation_loss(TEACHER, STUDENT, fraction).item() == pytest.approx(expected)


def test_reconstruct_by_hand():
    assert reconstruct_loss(STUDENT, TEACHER).item() == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("other", "expected"), [((3.0, 0.0), 0.5), ((4.0, 3.0), 0.3), ((1.0, 2.0), 0), ((0.0, 1.0), 0), ((-1.0, 0.0), 0)]
)
def test_contrast_by_hand(other: tuple[float, float], expected: float):
    """max(0, cosine - 0.5): alike costs 0.5, a cosine of 0.8 costs 0.3, below the margin nothing does."""
    assert contrast_loss(column((2, 0)), column(other)).item() == pytest.approx(expected, abs=1e-6)
    assert contrast_loss(column((2, 0)), column(other), margin=0).item() == pytest.approx(
        max(0, F.cosine_similarity(torch.tensor([2.0, 0]), torch.tensor(other), dim=0).item()), abs=1e-6
    )


def test_identical_features_cost_nothing_and_opposite_ones_the_most():
    features = stages(0)
    opposite = [-feature for feature in features]
    for loss in (flattened_distillation_loss, position_distillation_loss, reconstruct_loss):
        # 1 - cosine in float32: 1e-7 a position, three stages.
        assert loss(features, features).item() == pytest.approx(0, abs=1e-5)
        assert loss(features, opposite).item() == pytest.approx(2 * len(features), rel=1e-5)


# ------------------------------------------------------------------------------------- against torch's own formulas


def test_flattened_agrees_with_torch():
    first, second = stages(0), stages(1)
    expected = sum(
        1 - F.cosine_similarity(a.flatten(1), b.flatten(1)).mean() for a, b in zip(first, second, strict=True)
    )
    torch.testing.assert_close(flattened_distillation_loss(first, second), expected)


def test_position_agrees_with_torch():
    first, second = stages(0), stages(1)
    expected = sum((1 - F.cosine_similarity(a, b, dim=1)).mean() for a, b in zip(first, second, strict=True))
    torch.testing.assert_close(position_distillation_loss(first, second), expected)
    torch.testing.assert_close(reconstruct_loss(first, second), expected)


@pytest.mark.parametrize("fraction", [0.001, 0.02, 0.1, 0.5, 1.0])
def test_hard_agrees_with_torch(fraction: float):
    first, second = stages(0), stages(1)
    expected = torch.zeros(())
    for a, b in zip(first, second, strict=True):
        distance = (1 - F.cosine_similarity(a, b, dim=1)).flatten(1).sort(dim=1, descending=True).values
        expected += distance[:, : max(1, math.ceil(fraction * distance.shape[1]))].mean()
    torch.testing.assert_close(hard_distillation_loss(first, second, fraction), expected)


def test_contrast_agrees_with_torch():
    first, second = ([feature.abs() for feature in stages(seed)] for seed in (0, 1))
    expected = sum(
        F.cosine_embedding_loss(a.flatten(1), b.flatten(1), -torch.ones(len(a)), margin=0.5)
        for a, b in zip(first, second, strict=True)
    )
    assert expected > 0
    torch.testing.assert_close(contrast_loss(first, second), expected)


def test_distillation_by_name():
    first, second = stages(0), stages(1)
    flattened = flattened_distillation_loss(first, second)
    position = position_distillation_loss(first, second)
    torch.testing.assert_close(distillation_loss(first, second, "flattened", 0.1), flattened)
    torch.testing.assert_close(distillation_loss(first, second, "position", 0.1), position)
    expected = flattened + position + hard_distillation_loss(first, second, 0.1)
    torch.testing.assert_close(distillation_loss(first, second, "hard", 0.1), expected)
    with pytest.raises(UsageError, match="unknown distillation loss 'hrad'; did you mean hard"):
        distillation_loss(first, second, "hrad", 0.1)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.001, 1000), st.integers(0, 100))
def test_distillation_ignores_the_scale_of_a_map(scale: float, seed: int):
    first, second = stages(seed), stages(seed + 1)
    scaled = [feature * scale for feature in second]
    for kind in DISTILLATIONS:
        torch.testing.assert_close(
            distillation_loss(first, scaled, kind, 0.1),
            distillation_loss(first, second, kind, 0.1),
            rtol=1e-4,
            atol=1e-5,
        )


# --------------------------------------------------------------------------------------------------- the hard loss


@pytest.mark.parametrize("fraction", [0.02, 0.05, 0.2])
def test_the_hard_loss_takes_a_fraction_at_every_scale(fraction: float):
    """Ten positions, as in GNL, would be most of the coarsest map and next to nothing of the finest."""
    for side in (4, 8, 16, 32):
        teacher = [torch.zeros(2, 3, side, side)]
        teacher[0][:, 0] = 1
        taken = math.ceil(fraction * side * side)
        student = [teacher[0].clone()]
        student[0].flatten(2)[:, 0, :taken] = -1  # exactly that many positions are opposite
        assert hard_distillation_loss(teacher, student, fraction).item() == pytest.approx(2)
        student[0].flatten(2)[:, 0, 0] = 1  # one fewer
        assert hard_distillation_loss(teacher, student, fraction).item() == pytest.approx(2 * (taken - 1) / taken)


def test_the_hard_loss_takes_the_hardest_of_each_image():
    """One image that is hard everywhere must not use up what is taken of the other."""
    teacher = [torch.ones(2, 3, 4, 4)]
    student = [teacher[0].clone()]
    student[0][0] *= -1
    student[0][1, :, 0, 0] *= -1
    assert hard_distillation_loss(teacher, student, 1 / 16).item() == pytest.approx(2)


# ---------------------------------------------------------------------------------------------- the structure loss


def test_structure_by_hand():
    """Two positions of one channel, one standard deviation on either side of the mean: 0 and 2 units, a softmax of two."""
    teacher, student = [torch.tensor([[[[0.0, 6.0]]]])], [torch.tensor([[[[0.0, 0.0]]]])]
    wanted = torch.tensor([0.0, 2.0]).softmax(0)  # the standard deviation is 3
    expected = (wanted * (wanted / 0.5).log()).sum()
    torch.testing.assert_close(structure_loss(teacher, student), expected)
    assert structure_loss(teacher * 3, student * 3).item() == pytest.approx(3 * expected.item())  # summed over stages


def test_structure_agrees_with_torch():
    first, second = stages(0), stages(1)
    expected = torch.zeros(())
    for a, b in zip(first, second, strict=True):
        unit = a.std(dim=(0, 2, 3), correction=0)[:, None]
        wanted, given_ = ((each.flatten(2) / unit).log_softmax(2).flatten(0, 1) for each in (a, b))
        expected += F.kl_div(given_, wanted, log_target=True, reduction="batchmean")
    torch.testing.assert_close(structure_loss(first, second), expected)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_structure_is_zero_for_equal_features_and_positive_for_others(seed: int, scale: float):
    first, second = ([scale * feature for feature in stages(each)] for each in (seed, seed + 1))
    # A shift of 3 spreads leaves six digits of float32.
    assert structure_loss(first, first).item() == pytest.approx(0, abs=1e-5)
    assert structure_loss(first, [feature + 3 * scale for feature in first]).item() == pytest.approx(0, abs=1e-5)
    assert structure_loss(first, second) > 0.1
    # The teacher's unit is the unit: that features are a thousand times as large makes no difference.
    plain = structure_loss(stages(seed), stages(seed + 1))
    # torch's own divergence takes another path through float32.
    torch.testing.assert_close(structure_loss(first, second), plain, rtol=1e-3, atol=1e-4)


def as_in_the_reference(teacher: Stages, student: Stages) -> Tensor:
    """GNL's: exponentials as they are, and a mean over positions of what sums to one over positions."""
    total = torch.zeros(())
    for a, b in zip(teacher, student, strict=True):
        wanted, given_ = (each.flatten(2).exp() / each.flatten(2).exp().sum(2, keepdim=True) for each in (a, b))
        total += (wanted * (wanted / given_).log()).mean()
    return total


def test_structure_is_of_the_size_of_the_cosine_term_where_a_map_is_badly_rebuilt():
    """As published it is a thousandth of it: at 256 x 256 the finest stage has 4096 positions to average over."""
    shapes = ((2, 6, 64, 64), (2, 10, 32, 32), (2, 14, 16, 16))
    teacher, student = stages(0, shapes), stages(1, shapes)
    cosine = position_distillation_loss(teacher, student)
    assert 0.2 < structure_loss(teacher, student) / cosine < 5
    assert as_in_the_reference(teacher, student) / cosine < 0.01


def test_structure_does_not_overflow():
    """Features of EfficientNet reach dozens, and exp(89) is beyond float32."""
    teacher, student = ([200 * feature for feature in stages(seed)] for seed in (0, 1))
    assert not as_in_the_reference(teacher, student).isfinite()
    for scale in (1.0, 1e4, 1e12):
        trained = [(scale * feature).requires_grad_() for feature in student]
        loss = structure_loss(teacher, trained)
        loss.backward()
        assert loss.isfinite()
        assert all(feature.grad.isfinite().all() for feature in trained)


def test_structure_has_a_gradient_at_every_scale_of_the_map():
    """The gradient of a step of one standard deviation does not vanish with the number of positions."""
    pulls = []
    for side in (8, 32, 64):
        teacher = stages(0, ((2, 4, side, side),))
        trained = [feature.requires_grad_() for feature in stages(1, ((2, 4, side, side),))]
        structure_loss(teacher, trained).backward()
        pulls.append(trained[0].grad.norm().item() * side)  # each position is a share of the softmax
    assert min(pulls) > 0.1
    assert max(pulls) / min(pulls) < 2


def test_a_channel_that_is_dead_does_not_rule_the_structure():
    """A ReLU that never fires is a channel of zeros: whatever little the student makes of it is no matter of millions."""
    teacher, student = stages(0), stages(1)
    alive = structure_loss(teacher, student)
    for feature in teacher:
        feature[:, 0] = 0
    trained = [feature.requires_grad_() for feature in student]
    loss = structure_loss(teacher, trained)
    loss.backward()
    assert loss < 20 * alive
    for feature in trained:
        dead, others = feature.grad[:, 0].abs().max(), feature.grad[:, 1:].abs().max()
        assert dead < 200 * others


def test_channels_that_are_all_dead_are_no_obstacle():
    zeros = [torch.zeros_like(feature) for feature in stages(0)]
    assert structure_loss(zeros, zeros).item() == 0
    assert structure_loss(zeros, stages(0)).isfinite()


# ------------------------------------------------------------------------------------------- does it do anything?


def shifted(features: Stages, strength: float) -> Stages:
    return [feature + strength * noise for feature, noise in zip(features, stages(99), strict=True)]


def distilled(kind: str) -> Callable[[Stages, Stages], Tensor]:
    return lambda first, second: distillation_loss(first, second, kind, 0.1)


def transported(first: Stages, second: Stages) -> Tensor:
    """SSOT of a batch whose first half is `first` and whose second half is `second`."""
    return ssot_loss([torch.cat(pair) for pair in zip(first, second, strict=True)], generator())


LOSSES: dict[str, Callable[[Stages, Stages], Tensor]] = {
    "flattened": distilled("flattened"),
    "position": distilled("position"),
    "hard": distilled("hard"),
    "hardest positions alone": lambda first, second: hard_distillation_loss(first, second, 0.1),
    "structure": structure_loss,
    "reconstruct": lambda first, second: reconstruct_loss(second, first),
    "ssot": transported,
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
def test_a_loss_has_a_gradient_and_grows_with_the_difference(loss: Callable[[Stages, Stages], Tensor]):
    features = stages(0)
    near, far = (loss(features, shifted(features, strength)) for strength in (0.2, 1.0))
    assert 0 < near < far
    trained = [feature.requires_grad_() for feature in stages(1)]
    loss(features, trained).backward()
    for feature in trained:
        assert feature.grad.isfinite().all()
        assert feature.grad.abs().max() > 1e-4


def test_contrast_has_a_gradient_and_grows_with_the_likeness():
    noisy = [feature.abs() for feature in stages(0)]
    trained = [feature.abs().requires_grad_() for feature in stages(1)]
    unlike = contrast_loss(noisy, trained)
    assert 0 < unlike < contrast_loss(noisy, noisy)
    unlike.backward()
    assert all(feature.grad.abs().max() > 1e-4 for feature in trained)


# ------------------------------------------------------------------------------------------------------------ ssot


def test_ssot_as_in_the_reference_is_zero_and_teaches_nothing():
    """A cloud against a permutation of itself: whatever the features, there is nothing to learn from it."""
    trained = [feature.requires_grad_() for feature in stages(0)]
    loss = ssot_loss(trained, generator(), "reference")
    loss.backward()
    assert abs(loss.item()) < 1e-6
    assert max(feature.grad.abs().max().item() for feature in trained) < 1e-8


def test_ssot_pair_by_pair_is_clearly_not_zero_and_teaches():
    """Real features differ from image to image in direction: each image has a mean of its own here."""
    trained = [
        (f + 2 * f.mean(dim=(2, 3), keepdim=True) / f.mean(dim=(2, 3)).std()).requires_grad_() for f in stages(0)
    ]
    loss = ssot_loss(trained, generator())
    loss.backward()
    assert loss.item() > 0.1
    for feature in trained:
        assert feature.grad.abs().amax(dim=(1, 2, 3)).min() > 1e-3  # of every image


def test_ssot_of_identical_images_is_zero():
    alike = [feature[:1].expand(4, -1, -1, -1) for feature in stages(0)]
    # Sinkhorn stops at a blur of 0.05; its debiased terms cancel to float32.
    assert ssot_loss(alike, generator()).item() == pytest.approx(0, abs=1e-4)


def test_ssot_asks_for_a_distribution_and_not_for_places():
    """The same positions in another order are the same cloud."""
    image = torch.randn(1, 6, 4, 4)
    moved = image.flatten(2)[..., torch.randperm(16)].view_as(image)
    assert ssot_loss([torch.cat([image, moved])], generator()).item() == pytest.approx(0, abs=1e-4)


def test_ssot_of_a_batch_without_any_structure_is_zero():
    """All points in one place, as of blank images: there is no distance to measure a schedule by."""
    for kind in ("pairwise", "reference"):
        assert ssot_loss([torch.ones(4, 6, 4, 4)], generator(), kind).item() == pytest.approx(0, abs=1e-4)


def test_ssot_off_and_a_batch_of_one_are_zero():
    for kind in SSOT:
        assert ssot_loss([feature[:1] for feature in stages(0)], generator(), kind).item() == 0
    off = ssot_loss([feature.bfloat16() for feature in stages(0)], generator(), "off")
    assert off.item() == 0
    assert off.dtype == torch.float32
    with pytest.raises(UsageError, match="unknown ssot 'pairwize'; did you mean pairwise"):
        ssot_loss(stages(0), generator(), "pairwize")


@pytest.mark.parametrize("batch", range(2, 10))
def test_ssot_never_pairs_an_image_with_itself_and_forgets_none(batch: int, monkeypatch: pytest.MonkeyPatch):
    pairs: list[tuple[int, int]] = []

    def watch() -> Callable[[Tensor, Tensor], Tensor]:
        def divergence(first: Tensor, second: Tensor) -> Tensor:
            pairs.extend(zip(first[:, 0].argmax(1).tolist(), second[:, 0].argmax(1).tolist(), strict=True))
            return torch.zeros(len(first))

        return divergence

    monkeypatch.setattr(module, "_sinkhorn", watch)
    # Image i points along axis i at every position.
    ssot_loss([torch.eye(batch)[:, :, None, None].expand(-1, -1, 4, 4)], generator())
    assert len(pairs) == (batch + 1) // 2
    assert all(first != second for first, second in pairs)
    assert {image for pair in pairs for image in pair} == set(range(batch))


def test_ssot_samples_positions_reproducibly():
    features = [feature + 2 * torch.eye(4, 6)[:, :, None, None] for feature in stages(0, ((4, 6, 12, 12),))]
    first, same, other = (ssot_loss(features, generator(seed)).item() for seed in (0, 0, 1))
    assert first == same != other
    every = ssot_loss(features, generator(0), points=144).item()
    assert every == ssot_loss(features, generator(1), points=144).item()  # nothing left to draw
    # A sample of the positions: what drawing 64 of them leaves to chance.
    assert first == pytest.approx(every, rel=0.3)


@pytest.mark.parametrize("batch", [2, 4, 5])
def test_ssot_is_near_the_value_of_a_finer_schedule(batch: int):
    """The coarse schedule is an eighth of the price; the value stays within 5 % here."""
    from geomloss import SamplesLoss

    fine = SamplesLoss("sinkhorn", p=2, blur=0.05, scaling=0.9, debias=True, backend="tensorized")
    features = stages(0, ((batch, 8, 4, 4),))
    clouds = F.normalize(features[0].flatten(2).transpose(1, 2), dim=2)
    half, rest = (batch + 1) // 2, batch // 2
    expected = fine(clouds[:half].contiguous(), clouds[rest:].contiguous()).mean().item()
    assert expected > 0.05
    # A coarser schedule of Sinkhorn: see _sinkhorn.
    assert ssot_loss(features, generator()).item() == pytest.approx(expected, rel=0.05)


# -------------------------------------------------------------------------------------------- precision and zeros


def every_loss(first: Stages, second: Stages) -> Iterator[tuple[str, Tensor]]:
    for kind in DISTILLATIONS:
        yield kind, distillation_loss(first, second, kind, 0.1)
    yield "structure", structure_loss(first, second)
    yield "reconstruct", reconstruct_loss(second, first)
    yield "contrast", contrast_loss(first, second)
    for kind in ("pairwise", "reference"):
        yield kind, ssot_loss(second, generator(), kind)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_losses_of_bfloat16_features_are_float32_and_finite(scale: float):
    first, second = ([(scale * feature).bfloat16() for feature in stages(seed)] for seed in (0, 1))
    exact = dict(every_loss(*([feature.float() for feature in features] for features in (first, second))))
    for name, loss in every_loss(first, second):
        assert loss.dtype == torch.float32, name
        assert loss.isfinite(), name
        torch.testing.assert_close(loss, exact[name], msg=name)


def test_losses_under_autocast_are_what_they_are_without():
    first, second = stages(0), stages(1)
    expected = dict(every_loss(first, second))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for name, loss in every_loss(first, second):
            torch.testing.assert_close(loss, expected[name], msg=name)


@pytest.mark.parametrize("which", ["teacher", "student", "both", "one position"])
def test_zeros_give_finite_losses_and_gradients(which: str):
    first, second = stages(0), stages(1)
    if which in ("teacher", "both"):
        first = [torch.zeros_like(feature) for feature in first]
    if which in ("student", "both"):
        second = [torch.zeros_like(feature) for feature in second]
    if which == "one position":
        second = [feature.clone() for feature in second]
        for feature in second:
            feature[:, :, 0, 0] = 0
    trained: list[Any] = [feature.requires_grad_() for feature in second]
    for name, loss in every_loss(first, trained):
        assert loss.isfinite(), name
        for feature in trained:
            feature.grad = None
        loss.backward()
        assert all(feature.grad is None or feature.grad.isfinite().all() for feature in trained), name
