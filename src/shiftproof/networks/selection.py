"""Selection of the k-th smallest value, fast on each device and in exported graphs."""

from __future__ import annotations

import torch
from torch import Tensor

HALVINGS = 20  # of the span of values: to a millionth of it


def kth_smallest(values: Tensor, k: int) -> Tensor:
    """The k-th smallest value of each row: by selection on a processor, by halving elsewhere and in exported graphs.

    Args:
        values: float [..., N], finite.
        k: 1 for the smallest, N for the largest.

    Returns:
        [...]; a value of the row, the k-th smallest; by halving perhaps one that lies above it by less than the row's
        span / 2**20.

    >>> kth_smallest(torch.tensor([[3.0, 1.0, 2.0], [7.0, 7.0, 5.0]]), 2)
    tensor([2., 7.])
    """
    if values.device.type == "cpu" and not torch.compiler.is_exporting():
        return values.kthvalue(k, dim=-1).values
    return by_halving(values, k)


def by_halving(values: Tensor, k: int) -> Tensor:
    """:func:`kth_smallest` by halving the span that holds it and counting what lies at or under its middle.

    Backends have no quick kernel for sorting or top-k of long rows: theirs took longer than all networks together.
    Comparing and counting is quick everywhere, and exports.

    >>> by_halving(torch.tensor([[3.0, 1.0, 2.0], [7.0, 7.0, 5.0]]), 2)
    tensor([2., 7.])
    """
    low, high = values.amin(dim=-1, keepdim=True), values.amax(dim=-1, keepdim=True)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = (values <= middle).to(values.dtype).sum(dim=-1, keepdim=True) >= k
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return torch.where(values <= high, values, low).amax(dim=-1)
