"""Losses of reverse distillation, of RD++ and of GNL, as pure functions of feature maps.

All of them are computed in float32, whatever precision the networks run in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from shiftproof.config.methods import DISTILLATIONS, SSOT
from shiftproof.errors import unknown

HARDEST = 10  # positions that GNL's code takes of every stage
LEAST_UNIT = 0.05  # of a channel in the structure loss, over the mean of all channels' units
EPSILON = 1e-16  # under a product of two squared norms: a map of zeros has distance 1 and a finite gradient


def flattened_distillation_loss(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
    """RD's loss: for each stage the mean over images of 1 - cosine of the flattened maps; summed over stages.

    Args:
        teacher: stages [B, C_k, H_k, W_k].
        student: the same shapes.

    Returns:
        scalar in [0, 2 * stages] (Deng & Li, CVPR 2022, eq. 2, as their code computes it).
    """
    return _sum(map(_flattened, _products(teacher, student)))


def position_distillation_loss(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
    """For each stage the mean over positions of 1 - cosine; summed over stages (RD's eq. 1 and 2 as printed)."""
    return _sum(_distance(*p).mean() for p in _products(teacher, student))


def hard_distillation_loss(teacher: list[Tensor], student: list[Tensor], fraction: float) -> Tensor:
    """For each stage the mean of 1 - cosine over each image's hardest positions; summed over stages.

    After GNL (VAND 2.0, 2024), which takes the ten hardest positions of every stage, whatever its size; here it is a
    fraction of them, at least one.

    Args:
        teacher: stages [B, C_k, H_k, W_k].
        student: the same shapes.
        fraction: of the positions, in (0, 1].
    """
    return _sum(_hardest(_distance(*p), fraction) for p in _products(teacher, student))


def structure_loss(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
    """Where in the image each channel is active is to be the same: KL(teacher || student) of spatial softmaxes.

    After structural teacher-student learning (arXiv 2402.17091) and GNL (VAND 2.0, 2024), whose code averages over
    positions what sums to one over positions, and takes exponentials that overflow; here it is a log-softmax and a sum.
    Each channel is taken in units of its teacher's standard deviation over the batch, so that a channel of large values
    does not reduce to its peak, nor one of small values to a flat map. A channel that is all but constant counts by a
    twentieth of the mean of these units: in its own, whatever the student makes of it would be beyond measure.

    Args:
        teacher: stages [B, C_k, H_k, W_k].
        student: the same shapes.

    Returns:
        scalar, not negative: summed over positions and stages, mean over images and channels.
    """
    terms = []
    for expected, found in zip(teacher, student, strict=True):
        expected, found = expected.float().flatten(2), found.float().flatten(2)
        unit = expected.std(dim=(0, 2), correction=0, keepdim=True)
        unit = unit.maximum(LEAST_UNIT * unit.mean()).clamp_min(1e-6)
        target, output = (expected / unit).log_softmax(dim=2), (found / unit).log_softmax(dim=2)
        terms.append((target.exp() * (target - output)).sum(dim=2).mean())
    return _sum(terms)


def reference_structure_loss(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
    """Return GNL's structure loss as its code computes it, but for the overflow.

    The divergence of :func:`structure_loss` without units, and averaged over positions, of which it is the sum: about 1e-3
    of the cosine terms. 1e-8 is added where the code adds it.

    Args:
        teacher: stages [B, C_k, H_k, W_k].
        student: the same shapes.
    """
    terms = []
    for expected, found in zip(teacher, student, strict=True):
        target, output = (each.float().flatten(2).softmax(dim=2) + 1e-8 for each in (expected, found))
        terms.append((target * (target / output + 1e-8).log()).mean())
    return _sum(terms)


def distillation_loss(teacher: list[Tensor], student: list[Tensor], kind: str, fraction: float) -> Tensor:
    """Return the distillation loss by name.

    "flattened" and "position" are single terms, and "hard" is the sum of all three. "hard-reference" is GNL's code: the
    ten hardest positions of each stage, and the flattened term.
    """
    if kind == "flattened":
        return flattened_distillation_loss(teacher, student)
    if kind == "position":
        return position_distillation_loss(teacher, student)
    if kind not in ("hard", "hard-reference"):
        raise unknown("distillation loss", kind, DISTILLATIONS)
    terms = []
    for products in _products(teacher, student):
        distance = _distance(*products)
        if kind == "hard-reference":
            hardest = distance.topk(min(HARDEST, distance.shape[1]), dim=1).values.mean()
            terms.append(hardest + _flattened(products))
            continue
        terms.append(_hardest(distance, fraction) + distance.mean() + _flattened(products))
    return _sum(terms)


def reconstruct_loss(projected_noisy: list[Tensor], projected: list[Tensor]) -> Tensor:
    """The projected pseudo-anomalous features are to be the projected normal ones, by position (RD++, eq. 5)."""
    return position_distillation_loss(projected, projected_noisy)


def contrast_loss(noisy: list[Tensor], projected: list[Tensor], margin: float = 0.5) -> Tensor:
    """The projected normal features are to be unlike the raw pseudo-anomalous ones (RD++, eq. 6).

    For each stage the mean over images of max(0, cosine - margin) of the flattened maps; summed over stages.
    """
    terms = []
    for products in _products(noisy, projected):
        inner, first, second = (values.sum(dim=1) for values in products)
        terms.append((1 - _distance(inner, first, second) - margin).clamp_min(0).mean())
    return _sum(terms)


def ssot_loss(projected: list[Tensor], rng: np.random.Generator, kind: str = "pairwise", points: int = 64) -> Tensor:
    """Self-supervised optimal transport: projected features of normal images are to be distributed alike (RD++, eq. 4).

    - "pairwise": image i against image pi(i), pi(i) != i; each map is a cloud of sampled positions with unit features
      in channel space. The images of the (shuffled) batch are paired half against half; the divergence is symmetric,
      so one direction is enough.
    - "reference": as the paper's code computes it: the batch against a permutation of itself, both as one cloud. A cloud
      does not depend on the order of its points, so the loss and its gradient are zero; kept for comparison.
    - "off": zero.

    Args:
        projected: stages [B, C_k, H_k, W_k].
        rng: draws positions.
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
        return projected[0].new_zeros((), dtype=torch.float32)
    if kind == "reference":
        order = torch.from_numpy(rng.permutation(batch)).to(projected[0].device)
        images = [stage.float().flatten(1).softmax(dim=1) for stage in projected]
        with torch.autocast(projected[0].device.type, enabled=False):
            return _sum(_sinkhorn()(cloud, cloud[order]) for cloud in images)
    # With an odd batch the middle image serves in two pairs.
    first, second = torch.arange((batch + 1) // 2), torch.arange(batch // 2, batch)
    terms = []
    for stage in projected:
        clouds = F.normalize(stage.float().flatten(2).transpose(1, 2), dim=2)
        if clouds.shape[1] > points:
            selected = torch.from_numpy(rng.choice(clouds.shape[1], points, replace=False)).to(stage.device)
            clouds = clouds[:, selected]
        # The Sinkhorn loop sees no more than its own small clouds: keep autocast away from its logarithms.
        with torch.autocast(stage.device.type, enabled=False):
            terms.append(_sinkhorn()(clouds[first].contiguous(), clouds[second].contiguous()).mean())
    return _sum(terms)


@cache
def _sinkhorn() -> Any:
    from geomloss import SamplesLoss

    # scaling 0.5: an eighth of the steps of geomloss's 0.9 and, on these clouds, a value within 12 %. All points lie in
    # the unit ball; the diameter that geomloss would measure instead is 0 where they coincide, and its schedule endless.
    return SamplesLoss("sinkhorn", p=2, blur=0.05, scaling=0.5, diameter=2, debias=True, backend="tensorized")


def _products(first: list[Tensor], second: list[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each stage the inner products at every position, [B, H * W] each: first with second, and each with itself.

    All three distances are made of these sums, which need none of the full-size quotients of normalized features.
    """
    for a, b in zip(first, second, strict=True):
        a, b = a.float(), b.float()
        yield (a * b).sum(1).flatten(1), (a * a).sum(1).flatten(1), (b * b).sum(1).flatten(1)


def _distance(inner: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """1 - cosine at every position."""
    return 1 - inner * (first * second).clamp_min(EPSILON).rsqrt()


def _flattened(products: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """1 - cosine of whole maps, mean over images."""
    inner, first, second = (values.sum(dim=1) for values in products)
    return _distance(inner, first, second).mean()


def _hardest(distance: Tensor, fraction: float) -> Tensor:
    """Mean over each image's hardest positions."""
    return distance.topk(max(1, math.ceil(fraction * distance.shape[1])), dim=1).values.mean()


def _sum(terms: Any) -> Tensor:
    return torch.stack(list(terms)).sum()
