from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import correlate

from shiftproof.shifts import SHIFTS, apply_shift
from shiftproof.shifts.camera import disk_kernel, line_kernel

LENSES = SHIFTS["defocus_blur"].parameters


@pytest.mark.parametrize(
    ("lens", "rim", "total"),
    [
        # On the row through the centre: the last weight above 0.0001 times 1e6, and the sum, as OpenCV's GaussianBlur
        # of the reference code has them.
        ((3, 0.1), 34482.76, 1.000000),
        ((4, 0.5), 1710.60, 1.000000),
        ((6, 0.5), 741.77, 1.000000),
        ((8, 0.5), 4225.18, 1.012975),
        ((10, 0.5), 2624.99, 1.010786),
    ],
)
def test_disks_are_imagenet_cs(lens, rim, total):
    kernel = disk_kernel(*lens)
    middle = kernel[len(kernel) // 2]
    assert 1e6 * middle[middle > 1e-4][-1] == pytest.approx(rim, abs=0.01)
    assert kernel.sum() == pytest.approx(total, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-15)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_defocus_is_the_convolution_with_a_mirrored_border(severity, gray):
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    if gray:
        image[:] = image[..., :1]
    expected = correlate(image.astype(float), disk_kernel(*LENSES[severity - 1])[..., None], mode="mirror")
    blurred = apply_shift("defocus_blur", image, None, severity, 0).image
    np.testing.assert_allclose(blurred, np.clip(expected, 0, 255), atol=0.5001)


@pytest.mark.parametrize("angle", [0, 0.4, np.pi / 2, 2.5])
@pytest.mark.parametrize("length", [0.2, 1, 7, 30.5])
def test_a_line_has_its_length_its_direction_and_one_pixels_width(length, angle):
    kernel = line_kernel(length, angle)
    reach = len(kernel) // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    assert kernel.sum() == pytest.approx(1)
    # A line of n pixels has variance (n^2 - 1) / 12; the slack is that of drawing it on pixels.
    assert (kernel * along**2).sum() == pytest.approx(max(length**2 - 1, 0) / 12, rel=0.06, abs=0.3)
    assert (kernel * across**2).sum() < 0.2


def test_noise_has_the_stated_deviation_in_each_channel_by_itself():
    image = np.full((200, 200, 3), 128, np.uint8)
    noise = apply_shift("gaussian_noise", image, None, 1, 0).image.reshape(-1, 3) - 128.0
    np.testing.assert_allclose(noise.std(axis=0), 255 * 0.08, rtol=0.02)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.4)
    np.testing.assert_allclose(np.corrcoef(noise.T), np.eye(3), atol=0.02)


def test_jpeg_is_pillows_at_the_stated_quality():
    image = np.random.default_rng(0).integers(0, 256, (64, 70, 3), dtype=np.uint8)
    for severity, quality in enumerate((25, 18, 15, 10, 7), start=1):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        np.testing.assert_array_equal(apply_shift("jpeg", image, None, severity, 0).image, np.array(Image.open(file)))
