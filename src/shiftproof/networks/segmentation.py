"""GNL's segmentation network (after DeSTSeg, CVPR 2023): it learns which disagreements of the student are defects."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shiftproof.errors import UsageError

ATROUS_RATES = (6, 12, 18)
FIRST_PROBABILITY = 0.01  # of a defect, anywhere, before anything is learned


class SegmentationHead(nn.Module):
    """From teacher and student features to the probability of a defect.

    The products of the normalized features, channel by channel, tell more than their sum, the cosine, does. They are
    negated, so that more is more anomalous, brought to the finest stage and concatenated; then two residual blocks,
    atrous spatial pyramid pooling (DeepLabv3) with rates 6, 12 and 18, a 3x3 convolution and a linear one to a logit.

    The first step is a 1x1 convolution of each stage at its own size, before it is resized: the same function of the same
    products as one of all stages after resizing and concatenating them, at a fraction of the cost. The paper's own network
    is :class:`PaperSegmentationHead`.

    Args:
        channels: of the stages, fine to coarse.
        width: channels inside; the cost grows with its square.
    """

    def __init__(self, channels: tuple[int, ...], width: int = 64):
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(Residual(width), Residual(width))
        self.pyramid = AtrousPyramid(width)
        logit = nn.Conv2d(width, 1, 1)
        nn.init.normal_(logit.weight, std=0.01)
        nn.init.constant_(logit.get_parameter("bias"), math.log(FIRST_PROBABILITY / (1 - FIRST_PROBABILITY)))
        self.last = nn.Sequential(_convolution(width, width, 3), logit)

    def forward(self, teacher: list[Tensor], student: list[Tensor]) -> Tensor:
        """Compare the stages.

        Args:
            teacher: stages [B, C_k, H_k, W_k], fine to coarse.
            student: the same shapes.

        Returns:
            logits [B, H_0, W_0], of the finest stage's size.
        """
        size = (teacher[0].shape[-2], teacher[0].shape[-1])
        total = torch.zeros((), device=teacher[0].device)
        for reduce, expected, found in zip(self.reduce, teacher, student, strict=True):
            reduced = reduce(negated_product(expected, found))
            total = total + F.interpolate(reduced, size=size, mode="bilinear", align_corners=False)
        x = F.relu(self.norm(total))
        return self.last(self.pyramid(self.blocks(x))).squeeze(1)


class PaperSegmentationHead(nn.Module):
    """The network of DeSTSeg and GNL, layer by layer: 11,147,009 parameters for ``wide_resnet50_2`` at width 256.

    The products of all stages, resized and concatenated (1792 channels), go through two residual blocks, the first of
    which reduces them with a 3x3 convolution beside a 1x1 shortcut; then atrous spatial pyramid pooling of three rates and
    the whole image, joined by a 3x3 convolution; a 3x3 convolution, and a linear one to a logit. The products are of unit
    features. Residual blocks start from He's initialisation, the rest as PyTorch starts it.

    Args:
        channels: of the stages, fine to coarse.
        width: channels inside (paper: 256).
    """

    def __init__(self, channels: tuple[int, ...], width: int = 256):
        super().__init__()
        self.blocks = nn.Sequential(Residual(width, sum(channels)), Residual(width))
        for part in self.blocks.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        self.pyramid = PaperPyramid(width)
        self.last = nn.Sequential(_convolution(width, width, 3), nn.Conv2d(width, 1, 1))

    def forward(self, teacher: list[Tensor], student: list[Tensor]) -> Tensor:
        """Compare the stages as :meth:`SegmentationHead.forward` does."""
        size = (teacher[0].shape[-2], teacher[0].shape[-1])
        products = [
            F.interpolate(negated_product(*pair) / pair[0].shape[1], size=size, mode="bilinear", align_corners=False)
            for pair in zip(teacher, student, strict=True)
        ]
        return self.last(self.pyramid(self.blocks(torch.cat(products, dim=1)))).squeeze(1)


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where other than ``width`` channels come in."""

    def __init__(self, width: int, before: int | None = None):
        super().__init__()
        before = before or width
        self.first = _convolution(before, width, 3)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.shortcut = nn.Sequential()
        if before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same height and width."""
        return F.relu(self.shortcut(x) + self.second(self.first(x)))


class PaperPyramid(nn.Module):
    """Atrous spatial pyramid pooling as DeSTSeg has it: the image as a whole and three rates, joined by a 3x3 convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.branches = nn.ModuleList(_convolution(width, width, 3, rate) for rate in ATROUS_RATES)
        self.whole = _convolution(width, width, 1)
        self.join = _convolution(width * (len(ATROUS_RATES) + 1), width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        if self.training and x.shape[0] == 1:
            raise UsageError("the paper's segmentation network cannot train on batches of 1 image: expected 2 or more")
        whole = self.whole(x.mean(dim=(2, 3), keepdim=True)).expand_as(x)
        return self.join(torch.cat([whole, *(branch(x) for branch in self.branches)], dim=1))


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling: a position sees its surroundings at several distances, and the image as a whole."""

    def __init__(self, width: int):
        super().__init__()
        self.branches = nn.ModuleList(
            [_convolution(width, width, 1), *(_convolution(width, width, 3, rate) for rate in ATROUS_RATES)]
        )
        # No batch norm: of a batch of one image it would leave nothing.
        self.whole = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU())
        self.join = _convolution(width * (len(self.branches) + 1), width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        whole = self.whole(x.mean(dim=(2, 3), keepdim=True)).expand_as(x)
        return self.join(torch.cat([*(branch(x) for branch in self.branches), whole], dim=1))


def negated_product(first: Tensor, second: Tensor) -> Tensor:
    """Minus the product of two feature maps, channel by channel, each normalized at every position.

    To a mean square of 1, so that stages of many channels weigh what those of few do. Computed in float32, whatever
    comes in; where one of the maps is zero, so is the product.

    Args:
        first: [B, C, H, W].
        second: the same shape.

    Returns:
        float32 [B, C, H, W]; the mean over channels is minus the cosine similarity.
    """
    # 1e-6 bounds the gradient where a map is all but zero.
    first, second = F.normalize(first.float(), dim=1, eps=1e-6), F.normalize(second.float(), dim=1, eps=1e-6)
    return first * second * -first.shape[1]


def _convolution(before: int, after: int, side: int, rate: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; the size stays."""
    return nn.Sequential(
        nn.Conv2d(before, after, side, padding=side // 2 * rate, dilation=rate, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )
