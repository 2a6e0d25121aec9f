"""Shift correction: undo global shifts of an image before teacher and student are compared.

Papers call it matching or test-time adaptation (ATTA, EFDM). A camera, a lamp or a lens changes three things over the
whole image. Each is measured on the image itself, compared with the range in the good training images, and corrected
only as far as it is outside of that range:

- the **tones** of each channel (light, contrast, color of the lamp): an affine map brings the 5 % and 95 % quantiles back;
- the **spectrum**, band by band (noise, blur): noise beyond the training images' is removed, and edges duller than
  theirs are sharpened;
- the **features** after the teacher's first two stages: exact feature distribution matching (EFDM; Zhang et al., CVPR
  2022), as ATTA does it in ADShift (ICCV 2023) and GNL (VAND 2024), but towards the mean quantile functions of many
  training images instead of one picked by hand, and for batches of any size.

Each image is corrected by itself; the result does not depend on the rest of the batch. All of it can be exported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shiftproof.networks.selection import kth_smallest

TONES = (0.05, 0.95)  # the quantiles of a channel that are its dark and its bright level
RANGE = (0.1, 0.9)  # the quantiles over the training images that bound the usual range
GAIN = 16.0  # most that tones are stretched; darker images hold too little information
BAND = 8  # side of the cosine transform's windows, in pixels
STEP = 4  # from one window to the next
SHRINK = 3.0  # coefficients below this many standard deviations of the noise are set to zero
SHARPEN = 2.0  # most that a band is amplified
LEVELS = 513  # points of a stored quantile function


class ToneCorrection(nn.Module):
    """Bring each channel's dark and bright level back into the training images' range.

    Most images that are like the training images pass unchanged. An image in the outer tenths is moved to the range's end.
    """

    ranges: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ranges", torch.tensor([0.0, 1.0]).repeat(3, 2, 1))

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fit the range of the training images' levels, without the outer tenths; images [B, 3, H, W] in [0, 1]."""
        levels = torch.cat([_tones(images) for images in batches])
        self.ranges = levels.quantile(torch.tensor(RANGE, device=levels.device), dim=0).permute(1, 2, 0).contiguous()

    def forward(self, images: Tensor) -> Tensor:
        """Correct images [B, 3, H, W]; a constant channel is set to the dark level."""
        levels = _tones(images)
        wanted = levels.clamp(self.ranges[..., 0], self.ranges[..., 1])
        spread, wanted_spread = levels[..., 1] - levels[..., 0], wanted[..., 1] - wanted[..., 0]
        gain = (wanted_spread.clamp_min(1e-6) / spread.clamp_min(1e-6)).clamp_max(GAIN)
        return (images - levels[..., 0, None, None]) * gain[..., None, None] + wanted[..., 0, None, None]


class SpectrumCorrection(nn.Module):
    """Remove noise and sharpen blur as far as they exceed the training images'.

    Overlapping windows of the image are taken apart into 64 bands by a cosine transform. Noise adds its variance to all
    coefficients of a band, blur lowers the large ones, at edges. So two numbers for each band are measured on the image
    itself and compared with the training images':

    - the median absolute coefficient, which edges and defects do not move. What exceeds the training images' 95 %
      quantile is noise that is new: coefficients below three of its standard deviations are set to zero (sliding-window
      DCT denoising; Yu & Sapiro, IPOL 2011; with a level for each band, as resizing colors the noise).
    - the 97 % quantile of absolute coefficients, which says how sharp the edges are. What it lacks to the training
      images' 10 % quantile is a gain, up to :data:`SHARPEN`: more would amplify what the blur has destroyed.

    An image as quiet and as sharp as the training images passes unchanged up to rounding.
    """

    noise: Tensor
    edges: Tensor
    basis: Tensor
    synthesis: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.zeros(3, BAND * BAND))
        self.register_buffer("edges", torch.zeros(3, BAND * BAND))
        self.register_buffer("basis", _cosine_basis(BAND), persistent=False)
        self.register_buffer("synthesis", _overlap_add(self.basis), persistent=False)

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fit both numbers of each band to training images [B, 3, H, W] in [0, 1]."""
        noise, edges = [], []
        for images in batches:
            windows = self._analyse(images)
            noise.append(self._noise(windows, len(images)))
            edges.append(self._edges(windows, len(images)))
        self.noise = torch.cat(noise).quantile(0.95, dim=0)
        self.edges = torch.cat(edges).quantile(0.1, dim=0)

    def forward(self, images: Tensor) -> Tensor:
        """Correct images [B, 3, H, W]; H and W multiples of 4, above 8."""
        count, channels = images.shape[:2]
        windows = self._analyse(images)
        # The first band is the window's mean, which has no noise and no blur to correct.
        varying = torch.arange(BAND * BAND, device=images.device) > 0
        excess = self._noise(windows, count).square() - self.noise.square()
        limits = SHRINK * excess.clamp_min(0).sqrt() * varying
        gains = (self.edges / self._edges(windows, count).clamp_min(1e-6)).clamp(1.0, SHARPEN)
        gains = torch.where(varying, gains, torch.ones_like(gains))
        limits, gains = (each.reshape(count * channels, -1, 1, 1) for each in (limits, gains))
        return self._synthesize(torch.where(windows.abs() > limits, windows * gains, 0.0), images.shape)

    def denoise(self, images: Tensor, deviations: Tensor) -> Tensor:
        """Remove white noise of the standard deviations [B] from images [B, 3, H, W], as the correction does.

        Images without noise lose the fine detail that would have been removed with it. Fitted statistics are not used.
        """
        windows = self._analyse(images)
        varying = torch.arange(BAND * BAND, device=images.device) > 0
        limits = SHRINK * deviations.repeat_interleave(images.shape[1])[:, None] * varying
        return self._synthesize(torch.where(windows.abs() > limits[..., None, None], windows, 0.0), images.shape)

    def _synthesize(self, windows: Tensor, shape: torch.Size) -> Tensor:
        """Images from cosine coefficients; the margin around them, where fewer windows overlap, is cut off."""
        means = F.pixel_shuffle(F.conv2d(windows, self.synthesis, padding=BAND // STEP - 1), STEP)
        return means[..., BAND : BAND + shape[2], BAND : BAND + shape[3]].reshape(shape)

    def _analyse(self, images: Tensor) -> Tensor:
        """Cosine coefficients [B * 3, 64, rows, columns] of all windows."""
        margins = F.pad(images, (BAND, BAND, BAND, BAND), mode="reflect")
        return F.conv2d(margins.flatten(0, 1).unsqueeze(1), self.basis, stride=STEP)

    @staticmethod
    def _noise(windows: Tensor, count: int) -> Tensor:
        """Standard deviation in each band, [B, 3, 64], from every fourth row and column of windows."""
        values = windows[..., ::4, ::4].abs().flatten(2)
        return kth_smallest(values, (values.shape[2] + 1) // 2).reshape(count, -1, BAND * BAND) / 0.6745

    @staticmethod
    def _edges(windows: Tensor, count: int) -> Tensor:
        """97 % quantile in each band, [B, 3, 64], from every second row and column of windows."""
        values = windows[..., ::2, ::2].abs().flatten(2)
        rank = values.shape[2] + 1 - max(1, round(0.03 * values.shape[2]))
        return kth_smallest(values, rank).reshape(count, -1, BAND * BAND)


class FeatureMatching(nn.Module):
    """Shift correction of a stage's features: exact feature distribution matching (EFDM).

    The target is the mean quantile function of many training images, for each channel.

    Args:
        channels: of the stage.
        weight: blend weight of the matched value, in [0, 1] (ATTA: 0.5).
    """

    quantiles: Tensor

    def __init__(self, channels: int, weight: float):
        super().__init__()
        self.weight = weight
        self.register_buffer("quantiles", torch.zeros(channels, LEVELS))

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fit the mean over images of each channel's quantile function; batches are stages [B, C, H, W]."""
        total, count = torch.zeros(1), 0
        for features in batches:
            ordered = features.float().flatten(2).sort(dim=2).values
            functions = F.interpolate(ordered, size=LEVELS, mode="linear", align_corners=True)
            total, count = total.to(functions.device) + functions.sum(dim=0), count + len(features)
        self.quantiles = total / count

    def forward(self, features: Tensor) -> Tensor:
        """Match a stage [B, C, H, W]: the k-th smallest value of a channel moves towards the k-th smallest expected."""
        values = features.flatten(2)
        order = values.argsort(dim=2, stable=True)  # equal values by their place, as every exported graph does
        expected = F.interpolate(self.quantiles[None], size=values.shape[2], mode="linear", align_corners=True)
        matched = torch.zeros_like(values).scatter(2, order, expected.to(values.dtype).expand_as(values))
        return torch.lerp(values, matched, self.weight).reshape(features.shape)


def _tones(images: Tensor) -> Tensor:
    """Return the :data:`TONES` of each channel, [B, 3, 2], of means over 4 x 4 pixels, in which noise counts for little."""
    values = images.unflatten(3, (-1, 4)).mean(dim=4).unflatten(2, (-1, 4)).mean(dim=3).flatten(2)
    last = values.shape[2] - 1
    return torch.stack([kth_smallest(values, round(tone * last) + 1) for tone in TONES], dim=2)


def _cosine_basis(side: int) -> Tensor:
    """The orthonormal two-dimensional cosine transform (DCT-II) as filters [side * side, 1, side, side]."""
    index = torch.arange(side, dtype=torch.float64)
    waves = math.sqrt(2 / side) * torch.cos(math.pi * (2 * index[None] + 1) * index[:, None] / (2 * side))
    waves[0] /= math.sqrt(2)
    return torch.einsum("ai,bj->abij", waves, waves).reshape(side * side, 1, side, side).float()


def _overlap_add(basis: Tensor) -> Tensor:
    """Filters [STEP * STEP, C, n, n], n = BAND / STEP: ``conv_transpose2d`` with ``basis``, turned round, and divided by n * n.

    Each block of STEP x STEP pixels is a mean over the n x n windows that cover it: an ordinary convolution with a channel
    for each pixel of the block, which every backend computes well; the transposed one to a single channel they do not.
    """
    count, taps = len(basis), BAND // STEP
    blocks = basis.reshape(count, taps, STEP, taps, STEP).permute(2, 4, 0, 1, 3)
    return blocks.reshape(STEP * STEP, count, taps, taps).flip(2, 3).contiguous() / taps**2
