from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftproof.methods.segmentation_loss import segmentation_loss


def by_hand(logit: float, mask: float, gamma: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    focal = -mask * (1 - p) ** gamma * math.log(p) - (1 - mask) * p**gamma * math.log(1 - p)
    return focal + abs(p - mask)


@settings(max_examples=60, deadline=None)
@given(logit=st.floats(-12, 12), mask=st.floats(0, 1), gamma=st.sampled_from([0.0, 2.0, 4.0]))
def test_equals_the_formula(logit, mask, gamma):
    found = segmentation_loss(torch.full((1, 2, 2), logit), torch.full((1, 2, 2), mask), gamma)
    # By hand it is float64; float32 of (1 - q) ** gamma loses three digits where q is near 1.
    assert found.item() == pytest.approx(by_hand(logit, mask, gamma), rel=1e-3, abs=1e-6)


def test_gamma_zero_is_cross_entropy_plus_l1():
    logits, masks = torch.randn(2, 8, 8), torch.rand(2, 8, 8)
    expected = (
        torch.nn.functional.binary_cross_entropy_with_logits(logits, masks) + (logits.sigmoid() - masks).abs().mean()
    )
    torch.testing.assert_close(segmentation_loss(logits, masks, gamma=0.0), expected)


def test_masks_are_averaged_down_to_the_logits():
    masks = torch.zeros(1, 16, 32)
    masks[:, :2, :4] = 1  # half of the first cell's rows: a mask by nearest neighbour would say all or nothing
    small = torch.zeros(1, 4, 8)
    small[0, 0, 0] = 0.5
    logits = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(segmentation_loss(logits, masks), segmentation_loss(logits, small))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("logit", [-1e4, -60.0, 0.0, 60.0, 1e4])
@pytest.mark.parametrize("mask", [0.0, 0.3, 1.0])
def test_stays_finite_with_its_gradient_whatever_the_logit(dtype, logit, mask):
    logits = torch.full((1, 2, 2), logit, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = segmentation_loss(logits, torch.full((1, 8, 8), mask))
    assert loss.dtype == torch.float32 and loss.isfinite() and loss >= 0
    loss.backward()
    assert logits.grad.isfinite().all()


def test_the_right_answer_is_better_than_any_other():
    masks = torch.zeros(1, 8, 8)
    masks[:, 2:5, 3:6] = 1
    right = 8 * (2 * masks - 1)
    losses = [segmentation_loss(x, masks).item() for x in (right, 0 * right, torch.full_like(right, -8.0), -right)]
    assert losses == sorted(losses) and losses[0] < 0.01


def test_focal_weighs_what_is_settled_for_next_to_nothing():
    """Next to plain cross-entropy; what L1 adds is the same on both sides."""
    masks = torch.zeros(1, 1, 1)
    shares = []
    for logit in (-3.0, 1.0):
        logits = torch.full((1, 1, 1), logit)
        l1 = logits.sigmoid().item()
        plain, focal = (segmentation_loss(logits, masks, gamma).item() - l1 for gamma in (0.0, 4.0))
        shares.append(focal / plain)
    assert shares[0] < 1e-4 and shares[1] > 0.25


def test_gradient_points_to_the_mask():
    logits = torch.zeros(1, 2, 2, requires_grad=True)
    masks = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    segmentation_loss(logits, masks).backward()
    assert torch.equal(logits.grad < 0, masks > 0.5)
