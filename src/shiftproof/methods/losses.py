"""Losses of reverse distillation and of RD++, as pure functions of feature maps.

All of them are computed in float32, whatever precision the networks run in.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from shiftproof.errors import unknown
from shiftproof.networks.anomaly_map import cosine_distance

DISTILLATIONS = ("hard", "position", "flattened")
SSOT = ("pairwise", "published", "off")


def flattened_distillation_loss(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
    """RD's loss: for each stage the mean over images of 1 - cosine of the flattened maps; summed over stages.

    Args:
        teacher: stages [B, C_k, H_k, W_k].
        student: the same shapes.

    Returns:
        scalar in [0, 2 * stages] (Deng & Li, CVPR 2022, eq. 2, as their code computes it).
    """
    return _sum(1 - F.cosine_similarity(t.float().flatten(1), s.float().flatten(1)).mean() for t, s in zip(teacher, student, strict=True))


def position_distillation_loss(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
    """For each stage the mean over positions of 1 - cosine; summed over stages (RD's eq. 1 and 2 as printed)."""
    return _sum(cosine_distance(t, s).mean() for t, s in zip(teacher, student, strict=True))


def hard_distillation_loss(teacher: list[Tensor], student: list[Tensor], fraction: float) -> Tensor:
    """For each stage the mean of 1 - cosine over each image's hardest positions; summed over stages.

    After GNL (VAND 2.0, 2024), which takes the ten hardest positions of every stage, whatever its size; here it is a
    fraction of them, at least one.

    Args:
        teacher: stages [B, C_k, H_k, W_k].
        student: the same shapes.
        fraction: of the positions, in (0, 1].
    """
    terms = []
    for t, s in zip(teacher, student, strict=True):
        distance = cosine_distance(t, s).flatten(1)
        hardest = max(1, math.ceil(fraction * distance.shape[1]))
        terms.append(distance.topk(hardest, dim=1).values.mean())
    return _sum(terms)


def distillation_loss(teacher: list[Tensor], student: list[Tensor], kind: str, fraction: float) -> Tensor:
    """The distillation loss by name: "flattened" and "position" alone; "hard" is the sum of all three."""
    if kind == "flattened":
        return flattened_distillation_loss(teacher, student)
    if kind == "position":
        return position_distillation_loss(teacher, student)
    if kind == "hard":
        return (
            hard_distillation_loss(teacher, student, fraction)
            + position_distillation_loss(teacher, student)
            + flattened_distillation_loss(teacher, student)
        )
    raise unknown("distillation loss", kind, DISTILLATIONS)


def reconstruct_loss(projected_noisy: list[Tensor], projected: list[Tensor]) -> Tensor:
    """The projected pseudo-anomalous features are to be the projected normal ones, by position (RD++, eq. 5)."""
    return _sum(cosine_distance(n, p).mean() for n, p in zip(projected_noisy, projected, strict=True))


def contrast_loss(noisy: list[Tensor], projected: list[Tensor], margin: float = 0.5) -> Tensor:
    """The projected normal features are to be unlike the raw pseudo-anomalous ones (RD++, eq. 6).

    For each stage the mean over images of max(0, cosine - margin) of the flattened maps; summed over stages.
    """
    return _sum(
        (F.cosine_similarity(n.float().flatten(1), p.float().flatten(1)) - margin).clamp_min(0).mean()
        for n, p in zip(noisy, projected, strict=True)
    )


def ssot_loss(projected: list[Tensor], random: np.random.Generator, kind: str = "pairwise", points: int = 64) -> Tensor:
    """Self-supervised optimal transport: projected features of normal images are to be distributed alike (RD++, eq. 4).

    - "pairwise": image i against image pi(i), pi(i) != i; each map is a cloud of sampled positions with unit features in
      channel space. The images of the (shuffled) batch are paired half against half; the divergence is symmetric, so
      one direction is enough.
    - "published": what the paper's code computes: the batch against a permutation of itself, both as one cloud. A cloud
      does not depend on the order of its points, so this is zero and so is its gradient; kept to show just that.
    - "off": zero.

    Args:
        projected: stages [B, C_k, H_k, W_k].
        random: draws positions.
        kind: one of the above.
        points: positions sampled from each map, at most.

    Returns:
        scalar, summed over the stages: debiased Sinkhorn divergence (p 2, blur 0.05), mean over pairs. Zero for a batch
        of one image.
    """
    if kind not in SSOT:
        raise unknown("ssot", kind, SSOT)
    batch = projected[0].shape[0]
    if kind == "off" or batch < 2:
        return projected[0].new_zeros(())
    if kind == "published":
        order = torch.from_numpy(random.permutation(batch)).to(projected[0].device)
        clouds = [p.float().flatten(1).softmax(dim=1) for p in projected]
        return _sum(_sinkhorn()(cloud, cloud[order]) for cloud in clouds)
    # With an odd batch the middle image serves in two pairs.
    first, second = torch.arange((batch + 1) // 2), torch.arange(batch // 2, batch)
    terms = []
    for stage in projected:
        clouds = F.normalize(stage.float().flatten(2).transpose(1, 2), dim=2)
        if clouds.shape[1] > points:
            chosen = torch.from_numpy(random.choice(clouds.shape[1], points, replace=False)).to(stage.device)
            clouds = clouds[:, chosen]
        # The Sinkhorn loop sees no more than its own small clouds: keep autocast away from its logarithms.
        with torch.autocast(stage.device.type, enabled=False):
            terms.append(_sinkhorn()(clouds[first].contiguous(), clouds[second].contiguous()).mean())
    return _sum(terms)


@cache
def _sinkhorn() -> Any:
    from geomloss import SamplesLoss

    # scaling 0.5: an eighth of the steps of geomloss's 0.9 and, on these clouds, a value within 12 %.
    return SamplesLoss("sinkhorn", p=2, blur=0.05, scaling=0.5, debias=True, backend="tensorized")


def _sum(terms: Any) -> Tensor:
    return torch.stack(list(terms)).sum()
