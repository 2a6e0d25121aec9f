"""From teacher and student features to one anomaly map and one score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from shiftproof.networks.selection import kth_smallest

FLOOR = 1e-6  # lower bound of distances and spreads
RIDGE = 0.005  # ridge penalty of the learned normalization, per image and unit of variance


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """1 - cosine similarity of two feature maps, position by position.

    Written as normalize and sum, which every exporter knows, and computed in float32 whatever comes in.

    Args:
        first: [B, C, H, W].
        second: the same shape.

    Returns:
        float32 [B, H, W], in [0, 2].
    """
    return 1 - (F.normalize(first.float(), dim=1) * F.normalize(second.float(), dim=1)).sum(dim=1)


def median_of_maps(maps: Tensor) -> Tensor:
    """The median of each map, from every fourth row and column, which a smoothed map does not notice.

    Args:
        maps: [B, H, W].

    Returns:
        [B, 1, 1]; of an even number of values the lower middle one.
    """
    values = maps[:, ::4, ::4].flatten(1)
    return kth_smallest(values, (values.shape[1] + 1) // 2)[:, None, None]


class LearnedNormalization(nn.Module):
    """Score normalization that predicts the maximum of a good image's map from the map's own background.

    A shift of the whole image lifts and roughens the whole map, and the maximum of a good image rises with them. A linear
    model, fitted to good training images and their augmented views, predicts the logarithm of the maximum from the
    logarithms of the map's median and of its median absolute deviation. The prediction is subtracted from the logarithm
    of the map. It is one number for an image, so that the order of positions within the image stays. (Normalized
    conformal prediction; Papadopoulos et al., 2002; Lei et al., JASA 2018: any such function is allowed if it is fixed
    before the calibration images are scored.)
    """

    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([0.5, 0.5, 0.0]))

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fit the model to maps [B, H, W] of good images and of their augmented views.

        Ridge regression pulls the two slopes towards 1/2 each, a sum of 1: a map of twice the values has twice the
        maximum. This prior decides where the images cannot.
        """
        rows, targets = [], []
        for maps in batches:
            logs = _log(maps)
            rows.append(self._terms(logs))
            targets.append(logs.amax(dim=(1, 2)))
        terms, highest = torch.cat(rows).double(), torch.cat(targets).double()
        prior = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64, device=terms.device)
        ridge = torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64, device=terms.device))
        ridge = RIDGE * len(terms) * ridge
        solved = torch.linalg.solve(terms.T @ terms + ridge, terms.T @ highest + ridge @ prior)
        self.weights = solved.float()

    def forward(self, maps: Tensor) -> Tensor:
        """Return normalized maps, in which the maximum of a good image is about 0; maps are [B, H, W], not negative."""
        logs = _log(maps)
        return logs - (self._terms(logs) @ self.weights)[:, None, None]

    @staticmethod
    def _terms(logs: Tensor) -> Tensor:
        """Return the predictors of the maximum, [B, 3]."""
        middle = median_of_maps(logs)
        spread = median_of_maps((logs.exp() - middle.exp()).abs())
        middle, spread = middle.flatten(), _log(spread).flatten()
        return torch.stack([middle, spread, torch.ones_like(middle)], dim=1)


class CommonScale(nn.Module):
    """The sum of several maps, each in standard deviations of its maximum over good calibration images.

    Args:
        weights: of the maps in the sum.
    """

    means: Tensor
    deviations: Tensor
    weights: Tensor

    def __init__(self, weights: tuple[float, ...]):
        super().__init__()
        self.register_buffer("means", torch.zeros(len(weights)))
        self.register_buffer("deviations", torch.ones(len(weights)))
        self.register_buffer("weights", torch.tensor(weights), persistent=False)

    def fit(self, maxima: Tensor) -> None:
        """Fit the scale of each kind of map to its maxima on good images, [N, kinds]."""
        self.means = maxima.mean(dim=0)
        self.deviations = maxima.std(dim=0, correction=0).clamp_min(1e-6)

    def forward(self, *maps: Tensor) -> Tensor:
        """Return the sum of maps [B, H, W], one of each kind."""
        total = torch.zeros((), device=maps[0].device)
        for each, mean, deviation, weight in zip(maps, self.means, self.deviations, self.weights, strict=True):
            total = total + weight * (each - mean) / deviation
        return total


def _log(values: Tensor) -> Tensor:
    return values.clamp_min(FLOOR).log()


def median_normalization(maps: Tensor) -> Tensor:
    """Subtract each map's median: what a shift of the whole image adds everywhere (docs/decisions/score.md).

    Args:
        maps: [B, H, W].

    Returns:
        [B, H, W]; 0 is the image's own background.
    """
    return maps - median_of_maps(maps)


def top_mean(maps: Tensor, fraction: float) -> Tensor:
    """Return the mean of each map's highest values, from every second row and column, at least one.

    It follows small defects as the maximum does, and is steadier: a single position of a good image does not decide.
    With t the k-th highest value, t + sum(max(v - t, 0)) / k is the mean of the k highest: no sorting is exported.

    Args:
        maps: float [B, H, W].
        fraction: of the values, in (0, 1].

    Returns:
        [B]; never above the maximum of the map.

    >>> top_mean(torch.arange(16.0).reshape(1, 4, 4), 0.5)  # of 0, 2, 8 and 10
    tensor([9.])
    """
    values = maps[:, ::2, ::2].flatten(1)
    count = max(1, round(fraction * values.shape[1]))
    least = kth_smallest(values, values.shape[1] - count + 1)[:, None]
    return (least + (values - least).clamp_min(0).sum(dim=1, keepdim=True) / count).squeeze(1)


class SmoothUpsampling(nn.Module):
    """Maps of several sizes, each brought to one size bilinearly (corners aligned), added and smoothed by a Gaussian.

    All of that is linear and goes by rows and columns: for each size of maps it is one matrix from the left and one from the
    right, and nothing is ever filtered at the full size. Borders are reflected with the edge pixel repeated, which SciPy
    calls `reflect` and NumPy `symmetric`; the Gaussian is cut at 4 sigma.

    Args:
        sigma: in pixels of the result (the papers': 4 at 256x256); 0 does not smooth.
    """

    def __init__(self, sigma: float):
        super().__init__()
        self.sigma = sigma

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """The sum of maps [B, H_k, W_k], float32 [B, height, width] of ``size``."""
        total = torch.zeros((), device=maps[0].device)
        for each in maps:
            rows, columns = (
                torch.tensor(_smooth_upsampling(before, after, self.sigma), device=each.device)
                for before, after in zip(each.shape[1:], size, strict=True)
            )
            total = total + rows @ each.float() @ columns.T
        return total


@cache
def _smooth_upsampling(before: int, after: int, sigma: float) -> NDArray[np.float32]:
    """The matrix [after, before] that resizes a line of values and smooths it."""
    resized = np.stack(
        [np.interp(np.linspace(0, before - 1, after), np.arange(before), unit) for unit in np.eye(before)]
    )
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-9)) ** 2)
    padded = np.pad(resized, ((0, 0), (radius, radius)), mode="symmetric")
    smoothed = [np.convolve(line, kernel / kernel.sum(), mode="valid") for line in padded]
    return np.stack(smoothed, axis=1).astype(np.float32)
