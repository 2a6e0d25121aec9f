from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from shiftproof.networks.anomaly_map import (
    CommonScale,
    LearnedNormalization,
    SmoothUpsampling,
    cosine_distance,
    median_normalization,
    median_of_maps,
)


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


def test_maps_are_upsampled_with_corners_aligned_and_added():
    """A map that falls from 2 to 0 gives a ramp; one that is 1 everywhere adds 1."""
    ramp, ones = torch.tensor([[[2.0, 0.0], [2.0, 0.0]]]), torch.ones(1, 2, 2)
    total = SmoothUpsampling(0)([ramp, ones], (3, 5))
    assert total.shape == (1, 3, 5)
    torch.testing.assert_close(total[0], torch.tensor([3, 2.5, 2, 1.5, 1]).expand(3, 5))


@given(st.integers(2, 9), st.integers(2, 9), st.integers(2, 40), st.integers(2, 40))
def test_upsampling_agrees_with_torch(height, width, rows, columns):
    maps = torch.randn(2, height, width, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(maps[:, None], size=(rows, columns), mode="bilinear", align_corners=True)[:, 0]
    torch.testing.assert_close(SmoothUpsampling(0)([maps], (rows, columns)), expected)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 4.0])
def test_smoothing_agrees_with_scipy(sigma: float):
    maps = torch.from_numpy(np.random.default_rng(0).random((2, 10, 14), dtype=np.float32))
    large = F.interpolate(maps[:, None], size=(40, 56), mode="bilinear", align_corners=True)[:, 0]
    expected = np.stack([gaussian_filter(m, sigma) for m in large.double().numpy()])
    # float32 of values up to 1; the other reflection differs by 1e-2 at the border.
    np.testing.assert_allclose(SmoothUpsampling(sigma)([maps], (40, 56)).numpy(), expected, atol=2e-6)


def test_the_border_pixel_counts_twice():
    """What SciPy does unless told otherwise, and so the papers' maps: 1 0 | 0 1, and not 1 | 0 1."""
    edge = torch.zeros(1, 3, 8)
    edge[..., 0] = 1
    weights = np.exp(-0.5 * np.arange(-4, 5) ** 2)
    weights /= weights.sum()
    smoothed = SmoothUpsampling(1)([edge], (3, 8))[0, 1]
    expected = [weights[4] + weights[5], *(weights[4 + k] + weights[5 + k] for k in (1, 2, 3)), weights[8]]
    torch.testing.assert_close(smoothed[:5], torch.tensor(expected, dtype=torch.float32))


def test_constants_stay_and_no_weights_are_kept():
    smooth = SmoothUpsampling(4)
    torch.testing.assert_close(smooth([torch.full((1, 8, 8), 0.3)], (32, 32)), torch.full((1, 32, 32), 0.3))
    assert not smooth.state_dict()


# --------------------------------------------------------------------------------------------- against the background


def maps(count: int = 12, seed: int = 0) -> Tensor:
    """Smoothed distances of good images, [count, 32, 48]: soft ground, of a roughness of its own in each image."""
    generator = torch.Generator().manual_seed(seed)
    ground = SmoothUpsampling(1.5)([torch.randn(count, 32, 48, generator=generator)], (32, 48))
    roughness = torch.empty(count, 1, 1).uniform_(0.02, 0.06, generator=generator)
    return 0.5 + roughness * ground / ground.std()


def lifted(of: Tensor, seed: int) -> Tensor:
    """What a shift of the whole image does to its map: it stretches it and lifts it, each image's by another amount."""
    generator = torch.Generator().manual_seed(seed)
    stretch, lift = (torch.empty(len(of), 1, 1).uniform_(*span, generator=generator) for span in ((1, 3), (0, 1)))
    return stretch * of + lift


def maxima(of: Tensor) -> Tensor:
    return of.amax(dim=(1, 2))


def test_the_median_is_that_of_every_fourth_row_and_column():
    values = maps()
    expected = values[:, ::4, ::4].flatten(1).median(dim=1).values  # torch's is the lower middle one as well
    assert torch.equal(median_of_maps(values).flatten(), expected)


def test_the_median_of_every_fourth_row_and_column_is_subtracted():
    values = torch.zeros(1, 12, 12)
    values[0, ::4, ::4] = torch.arange(9.0).view(3, 3)
    values[0, 1, 1] = 12
    assert median_normalization(values)[0, 1, 1].item() == 8


@settings(max_examples=25)
@given(st.floats(-10, 10), st.integers(0, 100))
def test_what_lifts_a_whole_map_is_taken_out(lift: float, seed: int):
    values = maps(3, seed)
    torch.testing.assert_close(median_normalization(values + lift), median_normalization(values), atol=1e-4, rtol=1e-4)


def test_a_defect_over_a_fifth_of_the_image_keeps_its_height():
    values = maps(6)
    defective = values.clone()
    defective[:, :16, :20] += 1.0
    added = (median_normalization(defective) - median_normalization(values))[:, :16, :20].mean(dim=(1, 2))
    assert (added > 0.75).all()


@settings(max_examples=25)
@given(st.floats(0.01, 100), st.floats(-0.5, 1.5), st.integers(0, 100))
def test_a_map_times_a_constant_is_the_same_where_the_slopes_sum_to_one(factor: float, slope: float, seed: int):
    background = LearnedNormalization()
    background.weights = torch.tensor([slope, 1 - slope, 0.3])
    values = maps(3, seed)
    # float32 logarithms of values over seven decades.
    torch.testing.assert_close(background(factor * values), background(values), atol=1e-4, rtol=0)


def test_as_it_starts_a_map_times_a_constant_is_the_same():
    # float32 logarithms.
    torch.testing.assert_close(LearnedNormalization()(7 * maps()), LearnedNormalization()(maps()), atol=1e-5, rtol=0)


@pytest.mark.parametrize("law", [(0.8, 0.2, 1.5), (0.3, 0.7, 4.0), (1.1, 0.0, 0.8)])
def test_a_linear_law_is_learned(law: tuple[float, float, float], monkeypatch: pytest.MonkeyPatch):
    """Maps whose maximum follows from median and spread by a law of logarithms give that law back."""
    values = lifted(maps(100), 1)
    middle = median_of_maps(values)
    deviation = median_of_maps((values - middle).abs())
    highest = (law[0] * middle.log() + law[1] * deviation.log() + law[2]).exp().flatten()
    assert (highest > maxima(values)).all()
    values[:, 1, 1] = highest  # where no median looks
    monkeypatch.setattr("shiftproof.networks.anomaly_map.RIDGE", 1e-6)
    background = LearnedNormalization()
    background.fit(values.split(64))
    # The ridge of 1e-6 is what keeps the weights from the law itself.
    torch.testing.assert_close(background.weights, torch.tensor(law), atol=0.01, rtol=0)
    assert maxima(background(values)).abs().max() < 0.01


def test_slopes_that_the_images_do_not_tell_sum_to_one():
    """Copies of one image say one thing: the prior says the rest, so that a lamp twice as strong changes nothing."""
    background = LearnedNormalization()
    background.fit([maps(1)] * 6)
    # How far the ridge lets one image pull; doubled below, it shows as 0.05 ln 2.
    assert background.weights[:2].sum().item() == pytest.approx(1, abs=0.05)
    assert maxima(background(maps(1))).abs().max() < 1e-3
    torch.testing.assert_close(background(2 * maps(1)), background(maps(1)), atol=0.05, rtol=0)


def test_learning_from_several_batches_is_learning_from_one():
    whole, parts = LearnedNormalization(), LearnedNormalization()
    whole.fit([maps()])
    parts.fit(part for part in maps().split(5))
    torch.testing.assert_close(whole.weights, parts.weights)
    assert not torch.allclose(whole.weights, LearnedNormalization().weights)


def test_a_shift_of_the_whole_map_leaves_the_score_where_it_was():
    """Learned from good images under some looks, it holds for other images under others."""
    background = LearnedNormalization()
    background.fit([maps(60), lifted(maps(60), 2)])
    good = maps(60, seed=1)
    clean, shifted = maxima(background(good)), maxima(background(lifted(good, 3)))
    assert clean.mean().abs() < 0.1
    bare = maxima(lifted(good, 3)).log().mean() - maxima(good).log().mean()
    assert bare > 0.6  # what a threshold would have to bear
    assert (shifted.mean() - clean.mean()).abs() < 0.15 * bare
    # At a threshold for a twentieth of the clean ones.
    assert (shifted > clean.quantile(0.95)).float().mean() < 0.25
    assert (maxima(lifted(good, 3)) > maxima(good).quantile(0.95)).float().mean() > 0.9


def test_a_defect_stands_out_before_and_after_a_shift():
    background = LearnedNormalization()
    background.fit([maps(60), lifted(maps(60), 2)])
    good = maps(40, seed=1)
    defective = good.clone()
    defective[:, 8:12, 8:12] += 0.6
    for look in (good, lifted(good, 3)):
        broken = defective if look is good else lifted(defective, 3)
        assert (maxima(background(broken)) > maxima(background(look)).max()).float().mean() > 0.9


@pytest.mark.parametrize("against", [LearnedNormalization(), median_normalization])
def test_the_order_of_positions_within_a_map_stays(against: Callable[[Tensor], Tensor]):
    values = maps()
    found = against(values)
    for before, after in zip(values.flatten(1), found.flatten(1), strict=True):
        assert (after[before.argsort()].diff() >= 0).all()


@pytest.mark.parametrize("value", [0.0, 1e-9, 0.7])
def test_maps_without_any_structure_are_finite(value: float):
    flat = torch.full((3, 32, 48), value)
    assert torch.equal(median_normalization(flat), torch.zeros_like(flat))
    assert LearnedNormalization()(flat).isfinite().all()
    background = LearnedNormalization()
    background.fit([flat])
    assert background.weights.isfinite().all()
    assert background(flat).isfinite().all()
    assert background(maps()).isfinite().all()


def test_an_image_is_measured_against_its_own_background():
    learned = LearnedNormalization()
    learned.fit([maps()])
    for background in (learned, median_normalization):
        alone = torch.cat([background(each[None]) for each in maps()])
        torch.testing.assert_close(background(maps()), alone)


# --------------------------------------------------------------------------------------------------- on a common scale


def test_maps_of_two_kinds_are_added_in_standard_deviations_of_their_maxima_on_calibration_images():
    """A probability beside an unbounded distance would count for nothing, or for all."""
    generator = torch.Generator().manual_seed(0)
    distance = 100 + 20 * torch.randn(50, 8, 8, generator=generator)
    logits = -5 + 0.1 * torch.randn(50, 8, 8, generator=generator)
    calibration_set = torch.stack([maxima(distance), maxima(logits)], dim=1)
    scale = CommonScale((1.0, 0.5))
    scale.fit(calibration_set)
    means, deviations = calibration_set.mean(dim=0), calibration_set.std(dim=0, correction=0)
    expected = (distance - means[0]) / deviations[0] + 0.5 * (logits - means[1]) / deviations[1]
    torch.testing.assert_close(scale(distance, logits), expected)
    # Each kind alone, at the maximum of a calibration image: about 0, and 1 standard deviation from it.
    for kind, (one, weight) in enumerate(((distance, 1.0), (logits, 0.5))):
        others = [means[0].expand(50, 8, 8), means[1].expand(50, 8, 8)]
        others[kind] = one
        found = maxima(scale(*others))
        # Mean and deviation of 50 values, exact but for float32 of numbers about 100.
        assert found.mean().item() == pytest.approx(0, abs=1e-3)
        assert found.std(correction=0).item() == pytest.approx(weight, rel=1e-3)


@settings(max_examples=20)
@given(st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_the_unit_of_either_map_makes_no_difference(factor: float, offset: float):
    first, second = maps(), maps(seed=1)
    totals = []
    for each in (second, factor * (second + offset)):
        scale = CommonScale((1.0, 1.0))
        scale.fit(torch.stack([maxima(first), maxima(each)], dim=1))
        totals.append(scale(first, each))
    # An offset of 10 under a factor of 1e-3 leaves three digits of float32.
    torch.testing.assert_close(*totals, atol=0.02, rtol=0.01)


def test_calibration_maxima_that_are_all_alike_are_no_obstacle():
    scale = CommonScale((1.0, 1.0))
    scale.fit(torch.ones(1, 2))
    assert scale(maps(), maps()).isfinite().all()


def test_the_weights_of_the_maps_are_a_setting_and_not_kept():
    assert set(CommonScale((1.0, 0.5)).state_dict()) == {"means", "deviations"}
