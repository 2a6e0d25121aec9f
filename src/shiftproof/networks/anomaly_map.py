"""From teacher and student features to one anomaly map and one score."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


def sum_of_distances(teacher: list[Tensor], student: list[Tensor], size: tuple[int, int]) -> Tensor:
    """RD's anomaly map before smoothing: the stages' distances, upsampled bilinearly and summed.

    Args:
        teacher: stages [B, C_k, H_k, W_k].
        student: the same shapes.
        size: (height, width) of the map.

    Returns:
        float32 [B, height, width], in [0, 2 * stages].
    """
    total = torch.zeros((), device=teacher[0].device)
    for expected, found in zip(teacher, student, strict=True):
        distance = cosine_distance(expected, found).unsqueeze(1)
        total = total + F.interpolate(distance, size=size, mode="bilinear", align_corners=True)
    return total.squeeze(1)


def median_of_maps(maps: Tensor) -> Tensor:
    """The median of each map, from every fourth row and column, which a smoothed map does not notice.

    Written with top-k, which every exporter knows.

    Args:
        maps: [B, H, W].

    Returns:
        [B, 1, 1]; of an even number of values the lower middle one.
    """
    values = maps[:, ::4, ::4].flatten(1)
    smallest = torch.topk(values, (values.shape[1] + 1) // 2, dim=1, largest=False, sorted=True).values
    return smallest[:, -1:, None]


class GaussianSmoothing(nn.Module):
    """Separable Gaussian filter as one step of the graph; borders are reflected, the kernel is cut at 4 sigma.

    Args:
        sigma: in pixels of the map (the papers': 4 at 256x256); 0 leaves maps as they are.
    """

    kernel: Tensor

    def __init__(self, sigma: float):
        super().__init__()
        self.radius = int(4 * sigma + 0.5)
        offsets = torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (offsets / max(sigma, 1e-9)) ** 2)
        self.register_buffer("kernel", (kernel / kernel.sum()).float(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Smooth maps [B, H, W]; H and W must exceed the kernel's radius."""
        if self.radius == 0:
            return maps
        r = self.radius
        x = F.pad(maps.unsqueeze(1), (r, r, r, r), mode="reflect")
        x = F.conv2d(x, self.kernel.view(1, 1, -1, 1))
        return F.conv2d(x, self.kernel.view(1, 1, 1, -1)).squeeze(1)
