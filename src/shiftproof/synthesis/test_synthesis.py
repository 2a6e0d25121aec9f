from __future__ import annotations

import numpy as np
import pytest
import torch

from shiftproof.synthesis.pseudo_anomaly import add_pseudo_anomalies
from shiftproof.synthesis.simplex import octave_noise, simplex_noise


def test_simplex_noise_equals_the_opensimplex_package():
    internals = pytest.importorskip("opensimplex.internals")
    permutation = internals._init(7)[0]
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-300, 300, size=(2, 3000))
    expected = [internals._noise2(a, b, permutation) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(simplex_noise(x, y, np.asarray(permutation)), expected, atol=1e-9)


def test_simplex_noise_is_bounded_centered_and_smooth():
    permutation = np.random.default_rng(3).permutation(256)
    y, x = np.mgrid[0:60:0.1, 0:60:0.1]
    noise = simplex_noise(x, y, permutation)
    assert np.abs(noise).max() <= 1
    assert abs(noise.mean()) < 0.02
    assert noise.std() > 0.2
    assert np.abs(np.diff(noise, axis=0)).max() < 0.4


def test_octaves_add_up_with_the_persistence():
    ones = octave_noise(4, 5, np.random.default_rng(0), noise=lambda x, y, p: np.ones_like(x))
    assert ones.shape == (4, 5)
    np.testing.assert_allclose(ones, sum(0.6**k for k in range(6)))


def test_octaves_halve_the_wavelength():
    seen = []
    octave_noise(1, 2, np.random.default_rng(0), octaves=3, noise=lambda x, y, p: seen.append(x[:, 0, 1]) or x)
    np.testing.assert_allclose(seen[0], [1 / 32, 1 / 16, 1 / 8])


@pytest.mark.parametrize("size", [(256, 256), (640, 256), (64, 96)])
def test_pseudo_anomaly_changes_one_rectangle_of_the_papers_size(size):
    images = torch.full((8, 3, *size), 0.5)
    noisy = add_pseudo_anomalies(images, np.random.default_rng(1))
    assert torch.equal(images, torch.full_like(images, 0.5)), "the input must stay as it is"
    scale = min(size) / 256
    for image in noisy:
        changed = (image != 0.5).all(dim=0)
        rows, columns = changed.any(dim=1).sum().item(), changed.any(dim=0).sum().item()
        for side in (rows, columns):
            assert round(10 * scale) - 1 <= side <= round(31 * scale)
        assert changed.sum() >= 0.9 * rows * columns
        assert torch.equal(image[0], image[1])
        assert (image - 0.5).abs().max() <= 0.2 * 2.39


def test_same_state_same_pseudo_anomalies():
    images = torch.rand(3, 3, 64, 64)
    first = add_pseudo_anomalies(images, np.random.default_rng(5))
    again = add_pseudo_anomalies(images, np.random.default_rng(5))
    other = add_pseudo_anomalies(images, np.random.default_rng(6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
