"""Small cases of the papers' layers, losses and maps, worked by hand: weights are given and the output is known.

Whoever changes one of these parts finds out here that it is no longer the papers'. Norms are left as they start, so that in
inference they do nothing but for their eps of 1e-5, which is what the tolerances of 1e-4 are for.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shiftproof.methods.losses import (
    contrast_loss,
    flattened_distillation_loss,
    reconstruct_loss,
    ssot_loss,
)
from shiftproof.methods.segmentation_loss import segmentation_loss
from shiftproof.networks.anomaly_map import SmoothUpsampling, cosine_distance
from shiftproof.networks.projection import Projection
from shiftproof.networks.student import Decoder, OneClassBottleneck, StudentPlan, UpBlock
from shiftproof.synthesis.simplex import octave_noise

# One channel everywhere: the smallest student there is.
TINY = StudentPlan((1, 1, 1), (1, 1, 1, 1), 1, 64, 1, 64, 1, 1, (1, 1, 1), linear_output=False)


def only(layer: nn.Module, *weights: float) -> None:
    """Leave a convolution to one channel nothing but the middle of its kernel: a weight for each channel that comes in."""
    assert isinstance(layer, nn.Conv2d)
    nn.init.zeros_(layer.weight)
    middle = layer.kernel_size[0] // 2
    layer.weight.data[0, :, middle, middle] = torch.tensor(weights)


def near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


# --------------------------------------------------------------------------------------------------------------- layers


def test_the_bottleneck_fuses_three_stages_fine_to_coarse():
    """Stride-2 convolutions keep every second position; what they keep is concatenated fine, middle, coarse, and embedded."""
    bottleneck = OneClassBottleneck(TINY).eval()
    for part in (bottleneck.reduce_fine[0], bottleneck.reduce_fine[1], bottleneck.reduce_middle):
        only(part[0], 1)
    block = bottleneck.embed[0]
    only(block.conv1, 1, 10, 100)
    only(block.conv2, 1)
    only(block.downsample[0], 1000, 10000, 100000)
    features = [torch.zeros(1, 1, 8 >> k, 8 >> k) for k in range(3)]
    for feature, value in zip(features, (1.0, 2.0, 3.0), strict=True):
        feature[..., 0, 0] = value
        feature[..., -1, -1] = 9  # which no convolution keeps
    near(bottleneck(features), torch.tensor([[[[321321.0]]]]))


def test_a_block_upwards_is_a_transposed_convolution_beside_another():
    """relu([[1, 2], [3, 4]] - 2) about each position, times its value."""
    block = UpBlock(TINY, 1, 1).eval()
    block.residual[0].weight.data[0, 0] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    only(block.residual[3], 1)
    nn.init.constant_(block.shortcut[0].weight, -2)
    near(block(torch.tensor([[[[1.0, 10.0]]]])), torch.tensor([[[[0.0, 0, 0, 0], [1, 2, 10, 20]]]]))


def test_the_decoder_gives_its_stages_back_fine_to_coarse():
    """Its first stage, at stride 16, doubles the embedding; the next ones take three and five times that."""
    decoder = Decoder(TINY).eval()
    for stage, factor in zip(decoder.stages, (2.0, 3.0, 5.0), strict=True):
        nn.init.ones_(stage[0].residual[0].weight)
        only(stage[0].residual[3], factor)
        nn.init.zeros_(stage[0].shortcut[0].weight)
    fine, middle, coarse = decoder(torch.ones(1, 1, 1, 1))
    near(fine, torch.full((1, 1, 8, 8), 30.0))
    near(middle, torch.full((1, 1, 4, 4), 6.0))
    near(coarse, torch.full((1, 1, 2, 2), 2.0))


def test_the_projection_is_an_hourglass_of_instance_norms_and_leaky_rectifiers():
    """Of two positions instance norm makes -1 and 1, whatever they were, and the rectifier -0.01 and 1."""
    projection = Projection((4,))
    convolutions = [layer for layer in projection.stages[0] if isinstance(layer, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in convolutions] == [(4, 2), (2, 1), (1, 2), (2, 4)]
    wanted = ([[1, 0, 0, 0], [0, 0, 0, 0]], [[1, 0]], [[1], [-1]], [[1, 0], [0, 1], [1, 1], [0, 0]])
    for layer, middle in zip(convolutions, wanted, strict=True):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        layer.weight.data[:, :, 1, 1] = torch.tensor(middle).float()
    stage = torch.zeros(1, 4, 1, 2)
    stage[0, 0, 0] = torch.tensor([1.0, 3.0])
    (projected,) = projection([stage])
    near(projected[0, :, 0], torch.tensor([[-0.01, 1], [1, -0.01], [0, 0], [0, 0]]))


# --------------------------------------------------------------------------------------------------------------- losses


def stage(*images: tuple[float, ...]) -> Tensor:
    """A stage [B, C, 1, 1]: a vector for each image."""
    return torch.tensor(images)[:, :, None, None]


def test_distillation_is_the_mean_over_images_and_the_sum_over_stages():
    """Cosines 1 and 0 in the first stage, 0.6 and -1 in the second: (0 + 1) / 2 + (0.4 + 2) / 2."""
    teacher = [stage((1, 0), (1, 0)), stage((2, 0), (0, 5))]
    student = [stage((7, 0), (0, 1)), stage((3, 4), (0, -1))]
    assert flattened_distillation_loss(teacher, student).item() == pytest.approx(1.7)
    assert reconstruct_loss(student, teacher).item() == pytest.approx(1.7)


def test_contrast_costs_what_the_cosine_is_above_one_half():
    """Cosines 1 and 0 in the first stage, 0.6 and -1 in the second: (0.5 + 0) / 2 + (0.1 + 0) / 2."""
    noisy = [stage((1, 0), (1, 0)), stage((2, 0), (0, 5))]
    projected = [stage((7, 0), (0, 1)), stage((3, 4), (0, -1))]
    assert contrast_loss(noisy, projected).item() == pytest.approx(0.3)


def test_optimal_transport_of_two_points_is_half_their_squared_distance():
    """Unit vectors at a right angle: 1; at 60 degrees: 1 / 2; summed over the stages."""
    right, sixty = stage((3, 0), (0, 2)), stage((1, 0), (0.5, math.sqrt(0.75)))
    assert ssot_loss([right], np.random.default_rng(0)).item() == pytest.approx(1, rel=1e-4)
    assert ssot_loss([right, sixty], np.random.default_rng(0)).item() == pytest.approx(1.5, rel=1e-4)


def test_focal_and_l1_by_hand():
    """A probability of 1/2 costs 2 ** -4 ln 2 and 1/2, whichever is right; one of 3/4 4 ** -4 ln (4/3) and 1/4 where it is."""
    logits = torch.tensor([[[0.0, math.log(3)]]])
    expected = (2**-4 * math.log(2) + 1 / 2 + 4**-4 * math.log(4 / 3) + 1 / 4) / 2
    for mask in ([0.0, 1.0], [1.0, 1.0]):
        assert segmentation_loss(logits, torch.tensor([[mask]])).item() == pytest.approx(expected)


# ----------------------------------------------------------------------------------------------------------------- maps


def test_the_anomaly_map_is_the_sum_of_the_stages_distances():
    """Distances 0, 1 and 0.4 everywhere in three stages; constants are not changed by resizing or smoothing."""
    vectors = (((1, 0), (2, 0)), ((1, 0), (0, 3)), ((1, 0), (3, 4)))
    maps = []
    for k, (first, second) in enumerate(vectors):
        pair = (torch.tensor(v).float().view(1, 2, 1, 1).expand(1, 2, 8 >> k, 8 >> k) for v in (first, second))
        maps.append(cosine_distance(*pair))
    near(SmoothUpsampling(4)(maps, (32, 32)), torch.full((1, 32, 32), 1.4))


def test_a_spot_is_spread_by_the_gaussian():
    """The peak of a normalised two-dimensional Gaussian of 2 pixels is the square of its one-dimensional one."""
    spot = torch.zeros(1, 17, 17)
    spot[0, 8, 8] = 1
    weights = [math.exp(-(k**2) / 8) for k in range(-8, 9)]
    smoothed = SmoothUpsampling(2)([spot], (17, 17))[0]
    assert smoothed[8, 8].item() == pytest.approx((1 / sum(weights)) ** 2, rel=1e-5)
    assert smoothed[8, 10].item() == pytest.approx(math.exp(-1 / 2) / sum(weights) ** 2, rel=1e-5)


# ---------------------------------------------------------------------------------------------------------------- noise


def test_six_octaves_by_hand():
    """A noise that gives x back: 0.6 ** k times 2 ** k / 32 of it in octave k."""
    values = octave_noise(2, 3, np.random.default_rng(0), noise=lambda x, y, permutation: x)
    total = sum(0.6**k * 2**k / 32 for k in range(6))
    np.testing.assert_allclose(values, [[0, total, 2 * total]] * 2)
