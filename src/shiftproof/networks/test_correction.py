from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from shiftproof.export.graph import to_onnx
from shiftproof.methods import to_images
from shiftproof.networks.correction import (
    BAND,
    GAIN,
    LEVELS,
    SHARPEN,
    STEP,
    FeatureMatching,
    SpectrumCorrection,
    ToneCorrection,
)
from shiftproof.runtime import INPUT

DEFECT = (slice(None), slice(None), slice(10, 14), slice(70, 74))


def scene(count: int = 4, seed: int = 0) -> Tensor:
    """Good parts, [count, 3, 64, 96] in [0, 1]: a dark disk on soft stripes, with little noise."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    stripes = 0.45 + 0.15 * torch.sin((x + 2 * y) / 6 + 6 * torch.rand(count, 1, 1, generator=generator))
    disk = (y - 32) ** 2 + (x - 48) ** 2 < 16**2
    images = torch.where(disk, stripes - 0.25, stripes)[:, None] * torch.tensor([1, 0.9, 0.7]).view(1, 3, 1, 1)
    return images + 0.01 * torch.randn(images.shape, generator=generator)


def noise(sigma: float, like: Tensor) -> Tensor:
    return sigma * torch.randn(like.shape, generator=torch.Generator().manual_seed(3))


def psnr(images: Tensor, truth: Tensor) -> float:
    """In decibels; the peak is 1."""
    return -10 * math.log10((images - truth).square().mean())


def tones_of(images: Tensor) -> ToneCorrection:
    correction = ToneCorrection()
    correction.fit([images])
    return correction


@pytest.fixture(scope="module")
def spectrum() -> SpectrumCorrection:
    correction = SpectrumCorrection()
    correction.fit(scene(24).split(8))
    return correction


# -------------------------------------------------------------------------------------------------------------- tones


@settings(max_examples=20)
@given(st.floats(0.55, 0.95))
def test_tones_within_the_usual_range_stay(gain: float):
    """Of eleven training images the two extreme ones are unusual."""
    base = scene(1)
    correction = tones_of(torch.cat([base * (0.5 + 0.05 * step) for step in range(11)]))
    torch.testing.assert_close(correction(gain * base), gain * base, atol=1e-6, rtol=0)


@settings(max_examples=30)
@given(
    st.lists(st.floats(0.1, 3.0), min_size=3, max_size=3),
    st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3),
)
def test_an_affine_shift_of_each_channel_is_undone(gains: list[float], lifts: list[float]):
    """Brightness, contrast, and the color of the lamp: one factor and one offset for each channel."""
    image = scene(1)
    shifted = image * torch.tensor(gains).view(1, 3, 1, 1) + torch.tensor(lifts).view(1, 3, 1, 1)
    # float32, divided by a gain of 0.1 at least.
    torch.testing.assert_close(tones_of(image)(shifted), image, atol=1e-4, rtol=0)


def test_a_shift_is_undone_as_far_as_the_usual_range_and_no_farther():
    """Training images are lifted by 0 to 0.1; one that is lifted by 0.4 comes back to 0.09 or so."""
    base = scene(1)
    correction = tones_of(torch.cat([base + 0.01 * step for step in range(11)]))
    torch.testing.assert_close(correction(base + 0.4), base + 0.09, atol=1e-5, rtol=0)
    torch.testing.assert_close(correction(base - 0.4), base + 0.01, atol=1e-5, rtol=0)


def test_a_small_defect_does_not_move_the_tones():
    good = scene(1)
    defective = good.clone()
    defective[DEFECT] = 1
    # One hundredth of a gray level's range: what a defect of this size moves the quantiles by.
    torch.testing.assert_close(tones_of(good)(defective), defective, atol=0.01, rtol=0)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_image_of_one_tone_becomes_the_dark_tone_that_is_wanted(value: float):
    correction = tones_of(scene())
    corrected = correction(torch.full((1, 3, 64, 96), value))
    assert corrected.isfinite().all()
    dark = correction.ranges[:, 0]
    wanted = torch.full((3,), value).clamp(dark[:, 0], dark[:, 1])
    torch.testing.assert_close(corrected, wanted.view(1, 3, 1, 1).expand_as(corrected), atol=1e-6, rtol=0)


def test_what_holds_next_to_no_contrast_is_not_stretched_without_end():
    faint = scene(1) * 1e-4
    corrected = tones_of(scene(1))(faint)
    assert (corrected - corrected.mean()).abs().max() <= GAIN * 1e-4 + 0.2  # the channels' own levels


def test_images_learned_without_any_contrast_are_no_obstacle():
    correction = tones_of(torch.full((2, 3, 64, 96), 0.5))
    assert correction(scene()).isfinite().all()


# ----------------------------------------------------------------------------------------------------------- spectrum


def test_an_image_as_quiet_and_sharp_as_the_training_images_stays():
    image = scene(1)
    correction = SpectrumCorrection()
    correction.fit([image])
    # float32 of a transform and its inverse, of values up to 1.
    torch.testing.assert_close(correction(image), image, atol=2e-6, rtol=0)
    correction.fit([torch.cat([0.5 * image, 2 * image])])  # duller ones and noisier ones
    # float32 of a transform and its inverse, of values up to 1.
    torch.testing.assert_close(correction(image), image, atol=2e-6, rtol=0)


def test_new_good_images_all_but_stay(spectrum: SpectrumCorrection):
    images = scene(seed=9)
    assert psnr(spectrum(images), images) > 42


@pytest.mark.parametrize("sigma", [0.03, 0.05, 0.1])
@pytest.mark.parametrize("clipped", [False, True])
def test_noise_is_taken_away(spectrum: SpectrumCorrection, sigma: float, clipped: bool):
    """By several decibels; what the camera has clipped as well."""
    images = scene(seed=9)
    noisy = images + noise(sigma, images)
    if clipped:
        noisy = noisy.clamp(0, 1)
    assert psnr(spectrum(noisy), images) > psnr(noisy, images) + (4 if sigma < 0.05 else 6)


@pytest.mark.parametrize(("sigma", "kept"), [(0.0, 0.98), (0.05, 0.8), (0.1, 0.6)])
def test_a_defect_of_four_pixels_is_no_noise(spectrum: SpectrumCorrection, sigma: float, kept: float):
    images = scene(seed=9)
    defective = images.clone()
    defective[DEFECT] += 0.4
    grain = noise(sigma, images)
    seen = (spectrum(defective + grain) - spectrum(images + grain))[DEFECT].mean().item()
    assert kept < seen / 0.4 < 1.1


def test_edges_stay_where_the_noise_goes(spectrum: SpectrumCorrection):
    """They soften, over two pixels or so; what lies on either side stays apart."""
    images = scene(seed=9)
    noisy = images + noise(0.05, images)
    before, after = (each[..., 4:] - each[..., :-4] for each in (images, spectrum(noisy)))
    rim = before.abs() > 0.17
    assert 1000 < rim.sum() < 4000
    assert (after * before.sign())[rim].mean() > 0.8 * before.abs()[rim].mean()


def test_blur_is_made_up_for(spectrum: SpectrumCorrection):
    images = scene(seed=9)
    blurred = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), torch.full((3, 1, 5, 5), 1 / 25), groups=3)
    corrected = spectrum(blurred)
    assert psnr(corrected, images) > psnr(blurred, images) + 0.3
    sharpness = [(each[..., 1:] - each[..., :-1]).abs().max().item() for each in (blurred, corrected, images)]
    assert sharpness[0] < sharpness[1] < sharpness[2]


def test_no_band_is_amplified_beyond_measure(spectrum: SpectrumCorrection):
    faint = 0.5 + 1e-3 * noise(1, scene())
    corrected = spectrum(faint)
    assert (corrected - 0.5).abs().max() < 2 * SHARPEN * (faint - 0.5).abs().max()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_image_without_any_structure_stays(spectrum: SpectrumCorrection, value: float):
    flat = torch.full((2, 3, 64, 96), value)
    torch.testing.assert_close(spectrum(flat), flat, atol=1e-6, rtol=0)
    alone = SpectrumCorrection()
    alone.fit([flat])
    assert alone(scene()).isfinite().all()


@settings(max_examples=20)
@given(st.integers(3, 12), st.integers(3, 12), st.integers(0, 100))
def test_taken_apart_and_put_together_an_image_of_any_size_is_itself(rows: int, columns: int, seed: int):
    """Nothing learned yet but that anything is usual."""
    correction = SpectrumCorrection()
    correction.noise.fill_(1e3)
    image = torch.rand(1, 3, 4 * rows, 4 * columns, generator=torch.Generator().manual_seed(seed))
    # float32 of a transform and its inverse, of values up to 1.
    torch.testing.assert_close(correction(image), image, atol=2e-6, rtol=0)


# ----------------------------------------------------------------------------------------------------------- features


def features(count: int = 3, channels: int = 5, height: int = 12, width: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scales = torch.linspace(0.5, 4, channels).view(1, -1, 1, 1)
    return scales * torch.randn(count, channels, height, width, generator=generator) + scales


def learned(weight: float, stages: Tensor | None = None) -> FeatureMatching:
    stages = features(seed=1) if stages is None else stages
    correction = FeatureMatching(stages.shape[1], weight)
    correction.fit([stages])
    return correction


def ordered(stages: Tensor) -> Tensor:
    return stages.flatten(2).sort(dim=2).values


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(2, 12))
def test_weight_one_gives_the_expected_quantiles_in_the_order_of_the_values(seed: int, height: int, width: int):
    correction = learned(1)
    values = features(2, height=height, width=width, seed=seed)
    corrected = correction(values)
    expected = F.interpolate(correction.quantiles[None], size=height * width, mode="linear", align_corners=True)
    assert torch.equal(ordered(corrected), ordered(expected.unsqueeze(2).expand(2, -1, 1, -1)))
    first, second = (each.flatten(2).argsort(dim=2, stable=True) for each in (values, corrected))
    assert torch.equal(first, second)


def test_as_many_positions_as_levels_get_the_stored_quantiles_themselves():
    correction = learned(1)
    assert correction.quantiles.shape == (5, LEVELS)
    corrected = correction(features(1, height=27, width=19))  # 513 positions
    assert torch.equal(ordered(corrected)[0], correction.quantiles)


def test_the_quantiles_are_the_mean_of_the_images_own():
    """Exact feature distribution matching: with one training image of the same size it gives that image's values."""
    seen, values = features(4, height=5, width=13), features(2, height=5, width=13, seed=4)  # 64 divides 512
    torch.testing.assert_close(ordered(learned(1, seen[:1])(values)), ordered(seen[:1]).expand(2, -1, -1))
    torch.testing.assert_close(ordered(learned(1, seen)(values)), ordered(seen).mean(0).expand(2, -1, -1))


def test_weight_zero_changes_nothing_and_a_half_goes_half_way():
    values = features()
    assert torch.equal(learned(0)(values), values)
    torch.testing.assert_close(learned(0.5)(values), (values + learned(1)(values)) / 2)


def test_a_change_that_keeps_the_order_is_undone():
    values = features()
    torch.testing.assert_close(learned(1)(3 * values - 2), learned(1)(values))
    torch.testing.assert_close(learned(1)(values.exp()), learned(1)(values))


def test_an_image_is_matched_by_itself():
    """ADShift's code matches batches of one image."""
    values = features(5)
    alone = torch.cat([learned(0.5)(each[None]) for each in values])
    assert torch.equal(learned(0.5)(values), alone)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_equal_values_are_finite_and_nothing_is_lost(weight: float):
    values = features()
    values[0], values[1, 2], values[2] = 0, 7, values[2].clamp_min(values[2].median())  # as a ReLU leaves them
    correction = learned(weight)
    corrected = correction(values)
    assert corrected.isfinite().all()
    assert torch.equal(corrected, correction(values))
    if weight == 1:
        expected = ordered(correction(features(1)))
        torch.testing.assert_close(ordered(corrected), expected.expand(3, -1, -1), atol=1e-5, rtol=0)


def test_constant_training_features_are_no_obstacle():
    corrected = learned(1, torch.zeros(2, 5, 4, 4))(features())
    assert torch.equal(corrected, torch.zeros_like(corrected))


# -------------------------------------------------------------------------------------------------------------- all


def test_learning_from_several_batches_is_learning_from_one():
    images, stages = scene(10), features(10)
    for correction, seen in (
        (ToneCorrection(), images),
        (SpectrumCorrection(), images),
        (FeatureMatching(5, 0.5), stages),
    ):
        before = {name: value.clone() for name, value in correction.state_dict().items()}
        correction.fit([seen])
        whole = {name: value.clone() for name, value in correction.state_dict().items()}
        assert whole and not any(torch.equal(value, before[name]) for name, value in whole.items())
        correction.fit(part for part in seen.split(4))  # of 4, 4 and 2
        for name, value in correction.state_dict().items():
            assert value.shape == before[name].shape, name  # what is kept is loaded into a fresh one
            torch.testing.assert_close(value, whole[name], msg=name)


def test_what_was_learned_is_kept_with_the_weights():
    seen = nn.Sequential(tones_of(scene()), SpectrumCorrection(), FeatureMatching(3, 0.5))
    seen[1].fit([scene()])
    seen[2].fit([scene()])
    fresh = nn.Sequential(ToneCorrection(), SpectrumCorrection(), FeatureMatching(3, 0.5))
    fresh.load_state_dict(seen.state_dict(), strict=True)
    shifted = 0.5 * scene(seed=5) + noise(0.05, scene())
    assert torch.equal(fresh(shifted), seen(shifted))
    assert not any(parameter.requires_grad for parameter in seen.parameters())


def test_the_onnx_graph_takes_any_batch_and_says_the_same():
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    class Each(nn.Module):
        """All three. Features get pixels of 8 bits, among which many are equal; their order is that of their places."""

        def __init__(self) -> None:
            super().__init__()
            self.tones, self.spectrum, self.features = ToneCorrection(), SpectrumCorrection(), FeatureMatching(3, 0.5)
            for correction in (self.tones, self.spectrum, self.features):
                correction.fit(scene(12).split(6))

        def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            images = to_images(pixels)
            tones = self.tones(images)
            return tones, self.spectrum(tones), self.features(images)

    network = Each().eval()
    graph = to_onnx(network, (64, 96)).SerializeToString()
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    shifted = 0.5 * scene(3, seed=5) + 0.3 + noise(0.05, scene(3))
    flat = torch.full((2, 3, 64, 96), 0.5)
    for images in (shifted[:1], shifted, flat):
        pixels = (images * 255).round().byte().permute(0, 2, 3, 1).contiguous()
        found = session.run(None, {INPUT: pixels.numpy()})
        for expected, each in zip(network(pixels), found, strict=True):
            # What another runtime's order of float32 sums makes of values about 1.
            torch.testing.assert_close(torch.from_numpy(each), expected, atol=1e-4, rtol=1e-4)


def test_overlapping_windows_are_averaged_as_a_transposed_convolution_adds_them():
    torch.manual_seed(0)
    spectrum, windows = SpectrumCorrection(), torch.randn(2, BAND * BAND, 7, 9)
    expected = F.conv_transpose2d(windows, spectrum.basis, stride=STEP) * (STEP / BAND) ** 2
    blocks = F.conv2d(windows, spectrum.synthesis, padding=1)
    torch.testing.assert_close(F.pixel_shuffle(blocks, STEP), expected)


# ----------------------------------------------------------------------------------------------------- denoised views


def test_denoising_is_what_correction_does_to_noise_of_that_deviation(spectrum: SpectrumCorrection):
    """Told the noise instead of measuring it; correction sharpens besides, which noise gives no cause for."""
    noisy = scene() + noise(0.1, scene())
    corrected, denoised = spectrum(noisy), spectrum.denoise(noisy, torch.full((len(noisy),), 0.1))
    assert (denoised - corrected).square().mean() < 0.1 * (noisy - corrected).square().mean()


def test_each_image_is_shrunk_by_its_own_deviation(spectrum: SpectrumCorrection):
    clean = scene(3)
    views = spectrum.denoise(clean, torch.tensor([0.0, 0.02, 0.2]))
    torch.testing.assert_close(views[0], clean[0], atol=1e-5, rtol=0)
    changes = (views - clean).square().mean(dim=(1, 2, 3))
    assert changes[0] < changes[1] < changes[2]
    alone = spectrum.denoise(clean[1:2], torch.tensor([0.02]))
    torch.testing.assert_close(views[1:2], alone, atol=1e-6, rtol=0)


def test_a_shrunk_view_keeps_strong_edges_and_the_mean(spectrum: SpectrumCorrection):
    step = torch.zeros(1, 3, 64, 64)
    step[..., 27:] = 0.8
    view = spectrum.denoise(step + noise(0.01, step), torch.tensor([0.03]))
    # The noise that is left; the step is 0.8 high.
    torch.testing.assert_close(view, step, atol=0.05, rtol=0)
    assert view.mean().item() == pytest.approx(step.mean().item(), abs=1e-3)
