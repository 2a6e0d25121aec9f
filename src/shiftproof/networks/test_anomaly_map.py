from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from shiftproof.networks.anomaly_map import GaussianSmoothing, cosine_distance, sum_of_distances


def test_cosine_distance_by_hand():
    first = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [3.0, 4.0]]).T[None, :, :, None]
    second = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [4.0, 3.0]]).T[None, :, :, None]
    expected = torch.tensor([0, 1, 2, 1 - 24 / 25])[None, :, None]
    torch.testing.assert_close(cosine_distance(first, second), expected)


def test_cosine_distance_agrees_with_torch_and_ignores_scale():
    torch.manual_seed(0)
    first, second = torch.randn(2, 2, 5, 4, 6)
    expected = 1 - F.cosine_similarity(first, second, dim=1)
    torch.testing.assert_close(cosine_distance(first, second), expected)
    torch.testing.assert_close(cosine_distance(first * 100, second * 0.01), expected)


def test_cosine_distance_is_float32_and_defined_at_zero():
    zeros = torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16)
    distance = cosine_distance(zeros, torch.ones_like(zeros))
    assert distance.dtype == torch.float32
    assert distance.unique().tolist() == [1]


def test_sum_of_distances_upsamples_with_corners_aligned_and_adds():
    """A stage whose left column is opposite gives a ramp from 2 to 0; a stage that is orthogonal everywhere adds 1."""
    first = torch.zeros(1, 2, 2, 2)
    first[:, 0] = 1
    opposite = first.clone()
    opposite[..., 0] *= -1
    orthogonal = first.flip(1)
    total = sum_of_distances([first, first], [opposite, orthogonal], (3, 5))
    assert total.shape == (1, 3, 5)
    torch.testing.assert_close(total[0], torch.tensor([3, 2.5, 2, 1.5, 1]).expand(3, 5))


def test_sum_of_distances_needs_as_many_stages_on_both_sides():
    stage = torch.ones(1, 2, 2, 2)
    with pytest.raises(ValueError, match="zip"):
        sum_of_distances([stage, stage], [stage], (4, 4))


@pytest.mark.parametrize("sigma", [0.7, 2.0, 4.0])
def test_smoothing_agrees_with_scipy(sigma: float):
    maps = torch.from_numpy(np.random.default_rng(0).random((2, 40, 56), dtype=np.float32))
    expected = np.stack([gaussian_filter(m, sigma, mode="mirror", truncate=4.0) for m in maps.double().numpy()])
    np.testing.assert_allclose(GaussianSmoothing(sigma)(maps).numpy(), expected, atol=2e-6)


def test_smoothing_keeps_constants_and_sigma_zero_keeps_all():
    constant = torch.full((1, 32, 32), 0.3)
    torch.testing.assert_close(GaussianSmoothing(4)(constant), constant)
    maps = torch.rand(2, 7, 5)
    assert GaussianSmoothing(0)(maps) is maps


def test_smoothing_has_no_weights_to_keep():
    assert not GaussianSmoothing(4).state_dict()
