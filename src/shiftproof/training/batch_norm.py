"""Batch normalization over the batch of all processes, so that several devices train what one would."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist


def share_batch_statistics(module: nn.Module, device: str) -> None:
    """Let every batch normalization below a module take its statistics from all processes; weights and names stay.

    Args:
        module: changed in place.
        device: "cuda" takes PyTorch's own, which knows no processor.
    """
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:  # what trains; a teacher may have its own kinds, which rest
            shared = nn.SyncBatchNorm.convert_sync_batchnorm(child) if device == "cuda" else _share(child)
            setattr(module, name, shared)
        else:
            share_batch_statistics(child, device)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization whose mean and variance are those of the batches of all processes together."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same; B is each process's own."""
        if not self.training:
            return super().forward(x)
        axes, wide = (0, 2, 3), x.to(torch.promote_types(x.dtype, torch.float32))
        own = wide.new_tensor([x.numel() // x.shape[1]])
        total = _AllSum.apply(torch.cat([wide.sum(axes), own]))
        mean, count = total[:-1] / total[-1], total[-1].detach()
        centered = wide - mean[:, None, None]
        variance = _AllSum.apply(centered.square().sum(axes)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _AllSum(torch.autograd.Function):
    """The sum over all processes; what one of them asks of it, its gradient, is asked of all."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _share(norm: nn.BatchNorm2d) -> SharedBatchNorm2d:
    shared = SharedBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    shared.weight, shared.bias = norm.weight, norm.bias
    shared.running_mean, shared.running_var = norm.running_mean, norm.running_var
    shared.num_batches_tracked = norm.num_batches_tracked
    return shared.train(norm.training)
