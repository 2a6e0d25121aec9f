from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from shiftproof.synthesis.synthetic_anomaly import AREAS, anomaly_mask, synthetic_anomalies
from shiftproof.synthesis.textures import Textures


def bank(height: int, width: int) -> Textures:
    return Textures(np.random.default_rng(1).integers(256, size=(4, height, width, 3)).astype(np.uint8))


def images(count: int, height: int = 64, width: int = 96, gray: bool = False) -> torch.Tensor:
    values = np.random.default_rng(0).uniform(0.3, 0.6, size=(count, 1 if gray else 3, height, width))
    return torch.from_numpy(values).float().expand(-1, 3, -1, -1).clone()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(2, 6),
    width=st.integers(2, 6),
    gray=st.booleans(),
    made=st.booleans(),
)
def test_only_what_is_masked_changes_and_all_images_stay_in_range(seed, height, width, gray, made):
    good = images(6, 32 * height, 32 * width, gray)
    before = good.clone()
    textures = Textures() if made else bank(32 * height, 32 * width)
    anomalous, masks = synthetic_anomalies(good, np.random.default_rng(seed), textures)
    assert torch.equal(good, before), "the input must stay as it is"
    assert anomalous.shape == good.shape and anomalous.dtype == good.dtype
    assert masks.shape == (6, 32 * height, 32 * width) and masks.dtype == good.dtype
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert anomalous.min() >= 0 and anomalous.max() <= 1
    changed = (anomalous != good).any(dim=1)
    assert not changed[masks == 0].any()
    for image, mask, where in zip(anomalous, masks, changed, strict=True):
        assert where.any() == mask.any(), "an image that counts as anomalous must be, and must say where"
        if gray:
            assert torch.equal(image[0], image[1]) and torch.equal(image[1], image[2])


def test_about_seven_in_ten_images_get_one():
    _, masks = synthetic_anomalies(images(400, 32, 32), np.random.default_rng(0), bank(32, 32))
    assert 0.62 < masks.flatten(1).any(dim=1).float().mean() < 0.78


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (1.0, 8)])
def test_share_reaches_none_and_all(share, expected):
    good = images(8)
    anomalous, masks = synthetic_anomalies(good, np.random.default_rng(0), Textures(), share)
    assert masks.flatten(1).any(dim=1).sum() == expected
    assert anomalous.data_ptr() != good.data_ptr()
    assert (expected > 0) or torch.equal(anomalous, good)


def test_same_state_same_anomalies_and_another_state_others():
    first, again, other = (
        synthetic_anomalies(images(3), np.random.default_rng(seed), Textures(), share=1) for seed in (5, 5, 6)
    )
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(32, 300),
    width=st.integers(32, 300),
    down=st.floats(0, 0.99),
    along=st.floats(0, 0.99),
)
def test_a_mask_is_never_empty_nor_the_whole_image(seed, height, width, down, along):
    mask = anomaly_mask((height, width), (int(down * height), int(along * width)), np.random.default_rng(seed))
    assert mask.shape == (height, width)
    assert 1 <= mask.sum() <= 1.01 * AREAS[1] * height * width + 1


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (320, 128)])
def test_sizes_follow_the_image_and_span_two_orders_of_magnitude(size):
    rng = np.random.default_rng(0)
    shares = np.array([anomaly_mask(size, (size[0] // 2, size[1] // 2), rng).mean() for _ in range(300)])
    assert np.quantile(shares, 0.5) == pytest.approx((AREAS[0] * AREAS[1]) ** 0.5, rel=0.4)
    assert shares.max() / shares.min() > 60


def test_anomalies_are_a_few_spots_about_their_place_not_freckles():
    rng = np.random.default_rng(0)
    counts, distances = [], []
    for _ in range(200):
        mask = anomaly_mask((128, 128), (40, 90), rng)
        counts.append(label(mask, np.ones((3, 3)))[1])
        rows, columns = np.nonzero(mask)
        distances.append(np.hypot(rows - 40, columns - 90).mean())
    assert np.median(counts) <= 3 and np.quantile(counts, 0.9) <= 12
    assert np.median(distances) < 30  # 56 if they lay anywhere


def test_anomalies_seek_out_a_small_part():
    good = torch.full((400, 3, 64, 64), 0.8)
    good[:, :, 20:28, 40:48] = 0.1
    _, masks = synthetic_anomalies(good, np.random.default_rng(0), bank(64, 64), share=1)
    part, background = (masks[:, 20:28, left : left + 8].flatten(1).any(dim=1).float().mean() for left in (40, 16))
    assert part > 2 * background


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_texture_like_the_part_is_made_unlike_it(level):
    good = torch.full((20, 3, 32, 32), level)
    same = Textures(np.full((1, 32, 32, 3), round(255 * level), np.uint8))
    anomalous, masks = synthetic_anomalies(good, np.random.default_rng(0), same, share=1)
    changes = ((anomalous - good).abs().mean(dim=1) * masks).sum(dim=(1, 2)) / masks.sum(dim=(1, 2))
    assert changes.min() > 0.09  # half of the range, at least a fifth of it shown


def test_at_most_four_fifths_of_the_part_shine_through():
    good = torch.zeros(300, 3, 32, 32)
    white = Textures(np.full((1, 32, 32, 3), 255, np.uint8))
    anomalous, _ = synthetic_anomalies(good, np.random.default_rng(0), white, share=1)
    shown = anomalous.amax(dim=(1, 2, 3))
    assert 0.199 < shown.min() < 0.25 and 0.95 < shown.max() <= 1
