"""Matching: undo, before the networks compare anything, what has moved a whole image away from the training images.

Three things that a camera, a lamp or a lens changes everywhere at once, each measured on the image itself, compared with
what the good training images showed, and put right only as far as it lies outside of that:

- the **tones** of each channel (light, contrast, colour of the lamp): an affine map brings the 5 % and 95 % quantiles back;
- the **noise** in each frequency band: what exceeds the training images' level is shrunk away;
- the **features** after the teacher's first two stages: exact feature distribution matching (EFDM; Zhang et al., CVPR
  2022), as ATTA does it in ADShift (ICCV 2023) and GNL (VAND 2024), but towards the mean quantile functions of many
  training images instead of one picked by hand, and for batches of any size.

An image is matched by itself, never by its neighbours in the batch. Everything is tensors in, tensors out, and exports.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TONES = (0.05, 0.95)  # the quantiles of a channel that say how dark and how bright it is
RANGE = (0.1, 0.9)  # the quantiles over the training images that bound what is usual
GAIN = 16.0  # tones are stretched by this much at most: what is darker holds too little to see
BAND = 8  # side of the cosine transform's windows, in pixels
STEP = 4  # from one window to the next
SHRINK = 3.0  # coefficients below this many standard deviations of the noise are noise
LEVELS = 513  # points at which a channel's quantile function is kept


class ToneMatching(nn.Module):
    """Bring each channel's dark and bright level back into the range in which the training images have them.

    Nearly all images like the training images lie within and pass unchanged.
    """

    ranges: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ranges", torch.tensor([0.0, 1.0]).repeat(3, 2, 1))

    def learn(self, batches: Iterable[Tensor]) -> None:
        """Take the range of the training images' levels, without its outer tenths; images [B, 3, H, W] in [0, 1]."""
        levels = torch.cat([_tones(images) for images in batches])
        self.ranges = levels.quantile(torch.tensor(RANGE, device=levels.device), dim=0).permute(1, 2, 0).contiguous()

    def forward(self, images: Tensor) -> Tensor:
        """Match images [B, 3, H, W]; a constant channel becomes the dark level that is wanted."""
        levels = _tones(images)
        wanted = levels.clamp(self.ranges[..., 0], self.ranges[..., 1])
        spread, wanted_spread = levels[..., 1] - levels[..., 0], wanted[..., 1] - wanted[..., 0]
        gain = (wanted_spread.clamp_min(1e-6) / spread.clamp_min(1e-6)).clamp_max(GAIN)
        return (images - levels[..., 0, None, None]) * gain[..., None, None] + wanted[..., 0, None, None]


class NoiseMatching(nn.Module):
    """Shrink away the noise that exceeds the training images'.

    A window's cosine coefficients are small but for a few; noise adds its variance to all of them. Its level in each of
    the 64 bands is measured on the image itself (median of absolute values, which edges and defects do not move). What
    exceeds the 95 % quantile of the training images is noise that is new, and coefficients below three of its standard
    deviations are set to zero (sliding-window DCT denoising; Yu & Sapiro, IPOL 2011, with a level for each band). An
    image that is as quiet as the training images passes unchanged up to rounding.
    """

    scales: Tensor
    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scales", torch.zeros(3, BAND * BAND))
        self.register_buffer("basis", _cosine_basis(BAND), persistent=False)

    def learn(self, batches: Iterable[Tensor]) -> None:
        """Take the training images' level in each band: the 95 % quantile over images [B, 3, H, W] in [0, 1]."""
        scales = torch.cat([self._scales(self._analyse(images), len(images)) for images in batches])
        self.scales = scales.quantile(0.95, dim=0)

    def forward(self, images: Tensor) -> Tensor:
        """Match images [B, 3, H, W]; H and W multiples of 4, above 8."""
        count, channels, height, width = images.shape
        windows = self._analyse(images)
        excess = self._scales(windows, count).square() - self.scales.square()
        # The first band is the window's mean, which says nothing of noise; the bands around it share its level.
        limits = SHRINK * excess.clamp_min(0).sqrt() * (torch.arange(BAND * BAND, device=images.device) > 0)
        kept = windows * (windows.abs() > limits.reshape(count * channels, -1, 1, 1))
        # Windows overlap (BAND / STEP) squared times; the margin around the image has fewer and is cut off.
        sums = F.conv_transpose2d(kept, self.basis, stride=STEP)[..., BAND : BAND + height, BAND : BAND + width]
        return (sums * (STEP / BAND) ** 2).reshape(images.shape)

    def _analyse(self, images: Tensor) -> Tensor:
        """Cosine coefficients [B * 3, 64, rows, columns] of all windows."""
        margins = F.pad(images, (BAND, BAND, BAND, BAND), mode="reflect")
        return F.conv2d(margins.flatten(0, 1).unsqueeze(1), self.basis, stride=STEP)

    @staticmethod
    def _scales(windows: Tensor, count: int) -> Tensor:
        """Standard deviation in each band, [B, 3, 64], from every fourth window."""
        values = windows[..., ::4, ::4].abs().flatten(2)
        smallest = values.topk((values.shape[2] + 1) // 2, dim=2, largest=False, sorted=True).values
        return smallest[..., -1].reshape(count, -1, BAND * BAND) / 0.6745


class FeatureMatching(nn.Module):
    """EFDM of one stage's channels towards the training images' mean quantile functions.

    Args:
        channels: of the stage.
        weight: of the matched value in the mix with the value itself, in [0, 1] (ATTA: 0.5).
    """

    quantiles: Tensor

    def __init__(self, channels: int, weight: float):
        super().__init__()
        self.weight = weight
        self.register_buffer("quantiles", torch.zeros(channels, LEVELS))

    def learn(self, batches: Iterable[Tensor]) -> None:
        """Take the mean over images of each channel's quantile function; batches are stages [B, C, H, W]."""
        total, count = torch.zeros(1), 0
        for features in batches:
            ordered = features.float().flatten(2).sort(dim=2).values
            functions = F.interpolate(ordered, size=LEVELS, mode="linear", align_corners=True)
            total, count = total.to(functions.device) + functions.sum(dim=0), count + len(features)
        self.quantiles = total / count

    def forward(self, features: Tensor) -> Tensor:
        """Match a stage [B, C, H, W]: the k-th smallest value of a channel moves towards the k-th smallest expected."""
        values = features.flatten(2)
        order = values.argsort(dim=2)
        expected = F.interpolate(self.quantiles[None], size=values.shape[2], mode="linear", align_corners=True)
        matched = torch.zeros_like(values).scatter(2, order, expected.to(values.dtype).expand_as(values))
        return torch.lerp(values, matched, self.weight).reshape(features.shape)


def _tones(images: Tensor) -> Tensor:
    """The :data:`TONES` of each channel, [B, 3, 2], of means over 4 x 4 pixels, in which noise counts for little."""
    ordered = F.avg_pool2d(images, 4).flatten(2).sort(dim=2).values
    last = ordered.shape[2] - 1
    return torch.stack([ordered[..., round(tone * last)] for tone in TONES], dim=2)


def _cosine_basis(side: int) -> Tensor:
    """The orthonormal two-dimensional cosine transform (DCT-II) as filters [side * side, 1, side, side]."""
    index = torch.arange(side, dtype=torch.float64)
    waves = math.sqrt(2 / side) * torch.cos(math.pi * (2 * index[None] + 1) * index[:, None] / (2 * side))
    waves[0] /= math.sqrt(2)
    return torch.einsum("ai,bj->abij", waves, waves).reshape(side * side, 1, side, side).float()
