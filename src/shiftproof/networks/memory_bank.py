"""A memory bank: patch features of good images, and the distance of a patch to its nearest neighbor among them.

The embedding and the greedy coreset are those of PatchCore (Roth et al., "Towards Total Recall in Industrial Anomaly
Detection", CVPR 2022). What differs:

- each stage is standardized channel by channel and has the same weight;
- directions in which perturbations of light, color, focus or compression move the features count for less. Such a nuisance
  subspace is removed from residuals in NFAD (2026); here the metric shrinks it instead, in proportion to how far it moves;
- every patch in the bank keeps the index of its image, so that a training image can be scored without its own patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CANDIDATES = 30_000  # patches, drawn at random, among which the coreset is selected
PROJECTION = 32  # dimensions of the random projection in which the coreset is selected


class MemoryBank(nn.Module):
    """Distances of patch features to the nearest of a bank of good ones.

    Args:
        channels: of the stages that it reads, fine to coarse.
        size: patches in the bank.
        neighborhood: side of the neighborhood that a patch feature is the mean of, odd.
    """

    mean: Tensor
    metric: Tensor
    patches: Tensor
    weights: Tensor

    def __init__(self, channels: Sequence[int], size: int, neighborhood: int):
        super().__init__()
        self.neighborhood = neighborhood
        width = sum(channels)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("metric", torch.eye(width))
        self.register_buffer("patches", torch.zeros(size, width))
        self.register_buffer("weights", _stage_weights(channels), persistent=False)
        self.sources: Tensor | None = None  # index of the training image of each patch; only until the model is saved
        self.left_out: int | None = None  # index of a training image whose patches are left out

    def embed(self, stages: Sequence[Tensor]) -> Tensor:
        """Return patch features.

        Args:
            stages: float [B, C_k, H_k, W_k], fine to coarse.

        Returns:
            [B, H_1 * W_1, C]: each stage's means over the neighborhood, at the positions of the finest stage.
        """
        side = self.neighborhood
        size = stages[0].shape[-2:]
        parts = [
            F.avg_pool2d(stage.float(), side, 1, side // 2, count_include_pad=False) if side > 1 else stage.float()
            for stage in stages
        ]
        parts = [parts[0], *(F.interpolate(part, size=size, mode="bilinear") for part in parts[1:])]
        return torch.cat(parts, dim=1).flatten(2).transpose(1, 2)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Return the distance of each patch to its nearest neighbor in the bank, float32 [B, H_1, W_1]."""
        height, width = stages[0].shape[-2:]
        patches = self.transform(self.embed(stages))
        bank = self.patches
        offsets = bank.square().sum(dim=1)
        if self.left_out is not None and self.sources is not None:
            offsets = offsets.masked_fill(self.sources == self.left_out, torch.inf)
        # |x - b|^2 = |x|^2 + (|b|^2 - 2 x b): the nearest neighbor needs one matrix product. Image by image it takes a
        # matrix that the allocator can use again; a graph is written for a batch of any size.
        if torch.compiler.is_exporting():
            nearest = (offsets - 2 * patches @ bank.T).amin(dim=2)
        else:
            nearest = torch.stack([(offsets - 2 * each @ bank.T).amin(dim=1) for each in patches])
        nearest = nearest + patches.square().sum(dim=2)
        return nearest.clamp_min(0).sqrt().unflatten(1, (height, width))

    def fit(
        self,
        batches: Iterable[Sequence[Tensor]],
        images: int,
        rng: np.random.Generator,
        perturbed: Iterable[tuple[Sequence[Tensor], Sequence[Tensor]]] = (),
        invariance: float = 0.0,
    ) -> None:
        """Fit the metric and fill the bank by a greedy coreset.

        Args:
            batches: stages of good images, each a list of [B, C_k, H_k, W_k].
            images: how many images there are in all.
            rng: draws the candidates, the projection and the first patch.
            perturbed: pairs of stages of images and of the same images perturbed, nothing moved from its place.
            invariance: how much less the directions of perturbations count: a direction with the mean variance of all
                counts by 1 / sqrt(1 + invariance).
        """
        per_image = max(1, CANDIDATES // images)
        candidates, sources = [], []
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        squares, count, index = torch.zeros_like(total), 0, 0
        for stages in batches:
            embedded = self.embed(stages)
            flat = embedded.flatten(0, 1).double()
            total, squares, count = total + flat.sum(dim=0), squares + flat.square().sum(dim=0), count + len(flat)
            for patches in embedded:
                drawn = rng.permutation(len(patches))[:per_image]
                candidates.append(patches[torch.from_numpy(drawn).to(patches.device)])
                sources += [index] * len(drawn)
                index += 1
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
        scale = self.weights / deviation.clamp_min(1e-6).float()
        self.mean = mean.float()
        self.metric = scale[:, None] * self._invariant(perturbed, scale, invariance)
        transformed = self.transform(torch.cat(candidates))
        selected = greedy_coreset(transformed, len(self.patches), rng)
        self.patches = transformed[selected]
        self.sources = torch.tensor(sources, device=selected.device)[selected]

    def transform(self, embedded: Tensor) -> Tensor:
        """Return patch features [..., C] in the space in which distances are measured."""
        return (embedded - self.mean) @ self.metric

    def _invariant(
        self, perturbed: Iterable[tuple[Sequence[Tensor], Sequence[Tensor]]], scale: Tensor, invariance: float
    ) -> Tensor:
        """Return (I + invariance * S / mean variance)^(-1/2), [C, C], S the second moments of what perturbations change."""
        width = len(scale)
        moments, count = torch.zeros(width, width, dtype=torch.float64, device=scale.device), 0
        for before, after in perturbed:
            change = ((self.embed(after) - self.embed(before)) * scale).flatten(0, 1)
            moments, count = moments + (change.T @ change).double(), count + len(change)
        mean_variance = moments.trace() / width
        identity = torch.eye(width, dtype=torch.float64, device=scale.device)
        if not count or not invariance or mean_variance <= 0:
            return identity.float()
        values, vectors = torch.linalg.eigh(identity + invariance * moments / mean_variance)
        return (vectors * values.rsqrt() @ vectors.T).float()


def greedy_coreset(points: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """Select points so that the farthest of all others is as near as possible to a selected one (k-center, greedily).

    Distances are those of a random projection (Johnson and Lindenstrauss), as in PatchCore.

    Args:
        points: float [N, D].
        size: how many to select; with fewer points, points repeat.
        rng: draws the projection and the first point.

    Returns:
        int64 [size]: indices into the points.
    """
    if len(points) <= size:
        return torch.arange(size, device=points.device) % len(points)
    projection = rng.normal(scale=PROJECTION**-0.5, size=(points.shape[1], PROJECTION))
    projected = points @ torch.from_numpy(projection).to(points)
    norms = projected.square().sum(dim=1)
    nearest = torch.full_like(norms, torch.inf)
    selected = [int(rng.integers(len(points)))]
    for _ in range(size - 1):
        last = selected[-1]
        nearest = torch.minimum(nearest, norms - 2 * (projected @ projected[last]) + norms[last])
        selected.append(int(nearest.argmax()))
    return torch.tensor(selected, device=points.device)


def _stage_weights(channels: Sequence[int]) -> Tensor:
    """Return weights [C] with which a standardized stage has the variance 1, however many channels it has."""
    return torch.cat([torch.full((count,), count**-0.5) for count in channels])
