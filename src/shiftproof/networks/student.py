"""Students of reverse distillation: a one-class bottleneck (OCBE) and a decoder that mirrors the teacher upwards.

One structure for every teacher (Deng & Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR
2022): stride-2 convolutions bring the three stages to stride 16, where they are concatenated; residual blocks embed
them at stride 32; a decoder of residual blocks gives the three stages back. :class:`StudentPlan` says of which blocks,
how many, and how wide:

- of a ResNet: the teacher's own block type, depths and widths, as in the paper;
- of any other network: narrow basic blocks, and a linear 1x1 convolution to the teacher's channels, because features
  such as EfficientNet's linear bottlenecks take both signs, which the paper's closing ReLU cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import timm
import torch
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn

from shiftproof.config.methods import STUDENTS
from shiftproof.errors import unknown

RESNET_PLANES = (64, 128, 256, 512)
LIGHTWEIGHT_WIDTHS = (32, 64, 128, 256)


@dataclass(frozen=True)
class StudentPlan:
    """The shape of a student."""

    channels: tuple[int, ...]  # of the teacher's three stages, fine to coarse
    planes: tuple[int, ...]  # base widths at stride 4, 8, 16, 32
    expansion: int  # 1: basic blocks; 4: bottleneck blocks
    base_width: int  # of the decoder's 3x3 convolutions at 64 planes (64; wide networks 128)
    groups: int  # of those convolutions (ResNeXt: 32)
    embedding_width: int  # as base_width, of the OCBE: the teacher's, as in the paper; 64 in the narrow form
    embedding_groups: int  # of the OCBE's convolutions
    embedding_blocks: int  # residual blocks of the OCBE
    decoder_blocks: tuple[int, ...]  # residual blocks at stride 4, 8, 16
    linear_output: bool  # end each stage in a linear 1x1 convolution

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the blocks' outputs at stride 4, 8, 16, 32."""
        return tuple(planes * self.expansion for planes in self.planes)


@cache
def plan_student(backbone: str, channels: tuple[int, ...], kind: str = "auto") -> StudentPlan:
    """The student that suits a teacher.

    Args:
        backbone: timm's name of the teacher.
        channels: of its three stages.
        kind: "paper" (the paper's, ResNets only), "lightweight", or "auto" (paper where it exists). "narrow" is the paper's
            with a bottleneck of ordinary width behind a wide teacher, as ADer and anomalib build it.
    """
    if kind not in STUDENTS:
        raise unknown("student", kind, STUDENTS)
    with torch.device("meta"):
        network: Any = timm.create_model(backbone, pretrained=False)
    block: Any = network.layer1[0] if hasattr(network, "layer1") else None
    resnet_only = kind in ("paper", "narrow")
    # A pruned ResNet has widths of its own, which the paper's student cannot reconstruct.
    plain = type(block) in (BasicBlock, Bottleneck) and channels == tuple(
        p * block.expansion for p in RESNET_PLANES[:3]
    )
    if kind == "lightweight" or not plain:
        if resnet_only:
            raise unknown("student for a teacher that is no plain ResNet", kind, ("lightweight",))
        return StudentPlan(channels, LIGHTWEIGHT_WIDTHS, 1, 64, 1, 64, 1, 2, (1, 1, 1), linear_output=True)
    depths = [len(getattr(network, f"layer{k}")) for k in (1, 2, 3, 4)]
    groups = block.conv2.groups
    base_width = block.conv1.out_channels // groups
    return StudentPlan(
        channels=channels,
        planes=RESNET_PLANES,
        expansion=block.expansion,
        base_width=base_width,
        groups=groups,
        embedding_width=64 if kind == "narrow" else base_width,
        embedding_groups=1 if kind == "narrow" else groups,
        embedding_blocks=depths[3],
        # The reference decoder runs through the teacher's depths from its own first stage, the coarsest.
        decoder_blocks=(depths[2], depths[1], depths[0]),
        linear_output=False,
    )


class Student(nn.Module):
    """Bottleneck and decoder in one: features in, the same features reconstructed through a narrow passage."""

    def __init__(self, plan: StudentPlan):
        super().__init__()
        self.bottleneck = OneClassBottleneck(plan)
        self.decoder = Decoder(plan)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Rebuild the teacher's stages.

        Args:
            features: three float tensors [B, C_k, H / s_k, W / s_k] for s_k = 4, 8, 16; H and W multiples of 32.

        Returns:
            three tensors of the same shapes.
        """
        return self.decoder(self.bottleneck(features))


class OneClassBottleneck(nn.Module):
    """Multi-scale fusion and one-class embedding (OCBE)."""

    def __init__(self, plan: StudentPlan):
        super().__init__()
        fine, middle, coarse = plan.channels
        width = plan.widths[2]
        half = plan.widths[1]
        self.reduce_fine = nn.Sequential(_conv_norm_relu(fine, half), _conv_norm_relu(half, width))
        self.reduce_middle = _conv_norm_relu(middle, width)
        embedding = replace(plan, base_width=plan.embedding_width, groups=plan.embedding_groups)
        blocks = [_residual_block(embedding, 2 * width + coarse, plan.planes[3], stride=2)]
        blocks += [_residual_block(embedding, plan.widths[3], plan.planes[3]) for _ in range(plan.embedding_blocks - 1)]
        self.embed = nn.Sequential(*blocks)
        _initialise(self)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Embed three stages [B, C_k, H / s_k, W / s_k] as one map [B, C, H / 32, W / 32]."""
        fine, middle, coarse = features
        return self.embed(torch.cat([self.reduce_fine(fine), self.reduce_middle(middle), coarse], dim=1))


class Decoder(nn.Module):
    """Residual blocks upwards; the first of each stage doubles the size with a 2x2 transposed convolution."""

    def __init__(self, plan: StudentPlan):
        super().__init__()
        stages, heads = [], []
        for level in (2, 1, 0):
            blocks: list[nn.Module] = [UpBlock(plan, plan.widths[level + 1], plan.planes[level])]
            blocks += [
                _residual_block(plan, plan.widths[level], plan.planes[level])
                for _ in range(plan.decoder_blocks[level] - 1)
            ]
            stages.append(nn.Sequential(*blocks))
            heads.append(
                nn.Conv2d(plan.widths[level], plan.channels[level], 1) if plan.linear_output else nn.Identity()
            )
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(heads)
        # The reference leaves transposed convolutions as PyTorch starts them: 1.7 to 2.4 times smaller.
        _initialise(self, transposed=plan.linear_output)

    def forward(self, embedding: Tensor) -> list[Tensor]:
        """Rebuild the three stages, fine to coarse, from the embedding [B, C, H / 32, W / 32]."""
        reconstructed = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            embedding = stage(embedding)
            reconstructed.append(head(embedding))
        return reconstructed[::-1]


class UpBlock(nn.Module):
    """A residual block, basic or bottleneck, that doubles height and width."""

    def __init__(self, plan: StudentPlan, channels: int, planes: int):
        super().__init__()
        out = planes * plan.expansion
        if plan.expansion == 1:
            self.residual = nn.Sequential(
                *_up_norm(channels, planes), nn.ReLU(inplace=True), *_conv_norm(planes, planes, 3)
            )
        else:
            inner = _inner_width(plan, planes)
            self.residual = nn.Sequential(
                *_conv_norm(channels, inner, 1),
                nn.ReLU(inplace=True),
                *_up_norm(inner, inner, groups=plan.groups),
                nn.ReLU(inplace=True),
                *_conv_norm(inner, out, 1),
            )
        self.shortcut = nn.Sequential(*_up_norm(channels, out))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', 2H, 2W]."""
        return torch.relu(self.residual(x) + self.shortcut(x))


def _residual_block(plan: StudentPlan, channels: int, planes: int, stride: int = 1) -> nn.Module:
    """The block that timm builds the teacher of."""
    out = planes * plan.expansion
    shortcut = None
    if stride != 1 or channels != out:
        shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
    if plan.expansion == 1:
        return BasicBlock(channels, planes, stride, shortcut)
    return Bottleneck(channels, planes, stride, shortcut, cardinality=plan.groups, base_width=plan.base_width)


def _inner_width(plan: StudentPlan, planes: int) -> int:
    return planes * plan.base_width // 64 * plan.groups


def _conv_norm(channels: int, out: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)


def _up_norm(channels: int, out: int, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.ConvTranspose2d(channels, out, 2, 2, groups=groups, bias=False), nn.BatchNorm2d(out)


def _conv_norm_relu(channels: int, out: int) -> nn.Module:
    return nn.Sequential(*_conv_norm(channels, out, 3, stride=2), nn.ReLU(inplace=True))


def _initialise(module: nn.Module, *, transposed: bool = True) -> None:
    """He's normal initialisation of the convolutions, the transposed ones among them only where that is wanted."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d) or (transposed and isinstance(part, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
