from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from shiftproof.errors import UsageError
from shiftproof.synthesis import augmix as module
from shiftproof.synthesis.augmix import (
    AUGMENTATIONS,
    OPERATIONS,
    augmix,
    autocontrast,
    equalize,
    posterize,
    solarize,
    wave,
)
from shiftproof.synthesis.drift import DRIFTS, drift

LEVELS = np.arange(256.0)


def scene(height: int = 48, width: int = 64, gray: bool = False, count: int = 4) -> torch.Tensor:
    """Images whose levels are eighths of a byte's, as a decoder gives them: smooth, with a dark disk."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    disk = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 4) ** 2
    base = 120 + 60 * np.sin(x / 9)[..., None] * np.array([1, 0.8, 0.5]) - 70 * disk[..., None]
    pixels = np.clip(base + rng.normal(0, 6, size=(count, height, width, 3)), 0, 255).astype(np.uint8)
    if gray:
        pixels = np.repeat(pixels[..., :1], 3, axis=-1)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def pixels_of(images: torch.Tensor) -> np.ndarray:
    return (images[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)


def histogram_of(image: np.ndarray) -> np.ndarray:
    counts = [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(image, -1, 0)]
    return np.stack(counts)[None].astype(float)


def looked_up(image: np.ndarray, curve: np.ndarray) -> np.ndarray:
    levels = np.clip(np.floor(curve + 0.5), 0, 255).astype(np.uint8)
    return np.stack([levels[c][image[..., c]] for c in range(3)], axis=-1)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(32, 64), width=st.integers(32, 64), gray=st.booleans())
def test_views_keep_shape_range_and_gray(augment, seed, height, width, gray):
    images = scene(height, width, gray, count=2)
    before = images.clone()
    view = augmix(images, np.random.default_rng(seed), augment)
    assert view.shape == images.shape and view.dtype == images.dtype
    assert view.min() >= 0 and view.max() <= 1
    assert torch.equal(images, before), "the input must stay as it is"
    if gray:
        assert torch.equal(view[:, 0], view[:, 1]) and torch.equal(view[:, 1], view[:, 2])


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_same_state_same_views_and_another_state_others(augment):
    images = scene()
    first, again, other = (augmix(images, np.random.default_rng(seed), augment) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert (first - other).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_images_of_a_batch_get_views_of_their_own():
    images = scene(count=1).repeat(3, 1, 1, 1)
    view = augmix(images, np.random.default_rng(0))
    assert not torch.equal(view[0], view[1]) and not torch.equal(view[1], view[2])


def test_no_operation_of_a_blind_view_is_a_shift_of_the_test():
    """Whoever adds one decides here that it is neither brightness, contrast, exposure nor color temperature."""
    assert (autocontrast, equalize, posterize, solarize, wave) == OPERATIONS


def test_a_blind_view_is_a_tone_curve_of_each_channel():
    """No blur, noise, shading or move can hide in it: equal levels stay equal wherever they lie."""
    images = scene(count=8)
    view = augmix(images, np.random.default_rng(1))
    for channel, looked_up in zip(images.flatten(0, 1), view.flatten(0, 1), strict=True):
        for level in channel.unique():
            assert looked_up[channel == level].unique().numel() == 1


@pytest.mark.parametrize("seed", range(6))
def test_a_view_is_the_mix_that_whole_images_would_give(seed):
    """The short way through one curve equals carrying out the chains on pixels and mixing those."""
    images = scene(count=1)
    view = augmix(images, np.random.default_rng(seed))[0].permute(1, 2, 0).double().numpy()
    pixels = pixels_of(images)
    rng = np.random.default_rng(seed)
    weights, share, depths = rng.dirichlet([1, 1, 1]), rng.beta(1, 1), rng.integers(1, 4, size=3)
    chains = [pixels, pixels, pixels]
    for position in range(3):
        numbers, strengths = rng.integers(len(OPERATIONS), size=3), rng.uniform(0.1, 3, size=3) / 10
        for number, operation in enumerate(OPERATIONS):
            selected = [k for k in range(3) if numbers[k] == number and position < depths[k]]
            if not selected:
                continue
            curves = operation(
                np.concatenate([histogram_of(chains[k]) for k in selected]), strengths[selected].reshape(-1, 1, 1), rng
            )
            for k, curve in zip(selected, curves, strict=True):
                chains[k] = looked_up(chains[k], curve)
    mix = sum(weight * chain for weight, chain in zip(weights, chains, strict=True))
    np.testing.assert_allclose(view, (share * pixels + (1 - share) * mix) / 255, atol=1e-6)


def test_each_chain_draws_a_depth_of_its_own(monkeypatch):
    """The reference code draws it once: its chains are all as deep as the first."""
    seen: list[np.ndarray] = []
    chains = module._chains
    monkeypatch.setattr(module, "_chains", lambda h, depths, rng: seen.append(depths) or chains(h, depths, rng))
    augmix(torch.zeros(300, 3, 2, 2), np.random.default_rng(0))
    depths = seen[0].reshape(300, 3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        pairs = Counter(zip(depths[:, first], depths[:, second], strict=True))
        assert set(pairs) == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3)}
        assert all(15 <= count <= 60 for count in pairs.values()), pairs  # 33 expected


def test_share_of_the_image_itself_spans_none_to_all(monkeypatch):
    monkeypatch.setattr(module, "OPERATIONS", (lambda histograms, strengths, rng: np.zeros_like(histograms),))
    white = torch.ones(400, 3, 4, 4)
    shares = augmix(white, np.random.default_rng(0)).amax(dim=(1, 2, 3)).numpy()
    assert np.abs(np.quantile(shares, [0.25, 0.5, 0.75]) - [0.25, 0.5, 0.75]).max() < 0.08  # Beta(1, 1) is uniform


@pytest.mark.parametrize(
    ("operation", "strength", "pillow", "tolerance"),
    [
        (autocontrast, 0.2, ImageOps.autocontrast, 1),
        # Pillow counts in whole steps of pixels, which adds up over the levels of a small image.
        (equalize, 0.2, ImageOps.equalize, 6),
        (posterize, 0.2, lambda image: ImageOps.posterize(image, 4), 0),
        (posterize, 0.29, lambda image: ImageOps.posterize(image, 3), 0),
        (solarize, 0.25, lambda image: ImageOps.solarize(image, 192), 0),
    ],
)
def test_operations_are_those_of_pillow(operation, strength, pillow, tolerance):
    image = pixels_of(scene(count=1))
    (curve,) = operation(histogram_of(image), np.full((1, 1, 1), strength), np.random.default_rng(0))
    expected = np.asarray(pillow(Image.fromarray(image)), float)
    assert np.abs(looked_up(image, curve) - expected).max() <= tolerance


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), strength=st.floats(0.01, 0.3))
def test_wave_bends_the_tones_but_keeps_mean_and_spread(seed, strength):
    rng = np.random.default_rng(seed)
    histogram = histogram_of(rng.integers(30, 220, size=(20, 30, 3)))
    curves = wave(histogram, np.full((1, 1, 1), strength), rng)
    for counts, bent in zip(histogram[0], curves[0], strict=True):
        mean, bent_mean = np.average(LEVELS, weights=counts), np.average(bent, weights=counts)
        spread, bent_spread = (
            np.average((x - m) ** 2, weights=counts) ** 0.5 for x, m in ((LEVELS, mean), (bent, bent_mean))
        )
        assert bent_mean == pytest.approx(mean) and bent_spread == pytest.approx(spread)
        residual = bent - np.polyval(np.polyfit(LEVELS, bent, 1), LEVELS)
        assert np.abs(residual).max() > 10 * strength, "a straight curve would be brightness or contrast"


@pytest.mark.parametrize("augment", AUGMENTATIONS)
@pytest.mark.parametrize("level", [0.0, 100 / 255, 1.0])
def test_an_image_of_one_level_is_no_obstacle(augment, level):
    for seed in range(20):
        view = augmix(torch.full((1, 3, 32, 32), level), np.random.default_rng(seed), augment)
        assert view.isfinite().all() and view.min() >= 0 and view.max() <= 1


def test_unknown_views_are_named():
    with pytest.raises(UsageError, match=r"unknown augmentation 'blnd'; did you mean blind\?"):
        augmix(scene(), np.random.default_rng(0), "blnd")


@pytest.mark.parametrize("change", DRIFTS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("gray", [False, True])
def test_every_drift_changes_the_image_and_keeps_gray_gray(change, gray):
    image = pixels_of(scene(gray=gray, count=1))
    drifted = change(image, np.random.default_rng(0))
    assert drifted.shape == image.shape and drifted.dtype == np.uint8
    assert 0.3 < np.abs(drifted.astype(float) - image).mean() < 80
    if gray:
        assert (drifted == drifted[..., :1]).all()


def test_drift_gives_each_image_a_shift_of_its_own_and_draws_all_of_them(monkeypatch):
    seen: list[int] = []
    counters = tuple(lambda image, rng, n=n: seen.append(n) or image for n in range(len(DRIFTS)))
    monkeypatch.setattr("shiftproof.synthesis.drift.DRIFTS", counters)
    images = scene(count=100)
    assert torch.equal(drift(images, np.random.default_rng(0)), images)
    assert set(seen) == set(range(len(DRIFTS))) and len(seen) == 100


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_levels_out_of_range_are_clipped_and_touch_no_other_image(augment):
    images = scene(count=3)
    beyond = images.clone()
    beyond[1] = 3 * beyond[1] - 1
    clipped, view = (augmix(x, np.random.default_rng(2), augment) for x in (beyond.clamp(0, 1), beyond))
    assert torch.equal(view, clipped)


def test_views_in_place_never_move_a_pixel(monkeypatch):
    """Masks of what was put on an image before would no longer fit it."""
    monkeypatch.setattr("shiftproof.shifts.pose.move", lambda *_: pytest.fail("an image was moved"))
    images = torch.rand(60, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    augmix(images, np.random.default_rng(0), "production", True)
