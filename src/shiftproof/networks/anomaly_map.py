"""From teacher and student features to one anomaly map and one score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from shiftproof.networks.order import kth_smallest

FLOOR = 1e-6  # under distances and spreads: what lies below is equal
TEMPER = 0.25  # power of its spread that a map is divided by: 0 is none, 1 would count in spreads
RIDGE = 0.005  # of the background's model, for each image and unit of variance


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """1 - cosine similarity of two feature maps, position by position.

    Written as normalise and sum, which every exporter knows, and computed in float32 whatever comes in.

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


class OwnBackground(nn.Module):
    """How far a map's maximum stands out from what this very image's background lets expect.

    A shift of the whole image lifts and roughens the whole map, and the maximum of a good image rises with them. How
    much is learned from the good training images and views of them, for which nothing but the look has changed: a linear
    model of the logarithm of the maximum from the logarithms of the map's median and of its median absolute deviation.
    Its prediction is taken from the logarithm of the map, which is one number for an image: the order of positions within
    it stays. (Normalised conformal prediction; Papadopoulos et al., 2002; Lei et al., JASA 2018: any such function is
    allowed, as long as it is fixed before the held-out images are scored.)
    """

    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor([0.5, 0.5, 0.0]))

    def learn(self, batches: Iterable[Tensor]) -> None:
        """Fit the model to maps [B, H, W] of good images under different looks.

        Ridge regression pulls the two slopes towards 1/2 each, a sum of 1: a map of twice the values is twice the
        maximum. That is what decides where the images at hand cannot.
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
        """From maps [B, H, W], not negative, to maps in which the maximum of a good image lies about 0."""
        logs = _log(maps)
        return logs - (self._terms(logs) @ self.weights)[:, None, None]

    @staticmethod
    def _terms(logs: Tensor) -> Tensor:
        """What the maximum is predicted from, [B, 3]."""
        middle = median_of_maps(logs)
        spread = median_of_maps((logs.exp() - middle.exp()).abs())
        middle, spread = middle.flatten(), _log(spread).flatten()
        return torch.stack([middle, spread, torch.ones_like(middle)], dim=1)


class CommonScale(nn.Module):
    """Several maps on one scale, added: each in standard deviations of its maximum over held-out good images.

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

    def learn(self, maxima: Tensor) -> None:
        """Take the scale of each kind of map from its maxima on good images, [N, kinds]."""
        self.means = maxima.mean(dim=0)
        self.deviations = maxima.std(dim=0, correction=0).clamp_min(1e-6)

    def forward(self, *maps: Tensor) -> Tensor:
        """Add maps [B, H, W] of each kind."""
        total = torch.zeros((), device=maps[0].device)
        for each, mean, deviation, weight in zip(maps, self.means, self.deviations, self.weights, strict=True):
            total = total + weight * (each - mean) / deviation
        return total


def _log(values: Tensor) -> Tensor:
    return values.clamp_min(FLOOR).log()


def above_own_background(maps: Tensor) -> Tensor:
    """Maps above their own median, in units of a power of their own spread.

    Whatever lifts a whole map is taken out with the median. Whatever roughens it would go with the spread, but a spread
    that a large defect widens takes the defect with it; its fourth root keeps most of both (docs/decisions/background.md).
    The spread is taken below the median, where no defect lies: from the lower quartile to the median.

    Args:
        maps: [B, H, W], from every fourth row and column of which the quartiles are taken.

    Returns:
        [B, H, W]; 0 is the image's own background.
    """
    values = maps[:, ::4, ::4].flatten(1)
    half = (values.shape[1] + 1) // 2
    median, quartile = (kth_smallest(values, rank)[:, None, None] for rank in (half, half // 2 + 1))
    return (maps - median) / (median - quartile).clamp_min(FLOOR) ** TEMPER


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
