"""The few items that a page shows out of however many a run has seen."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class TopK(Generic[Item]):
    """Keeps the items of the highest rank; none is made unless it is kept, so memory and time stay small.

    Args:
        most: how many to keep.

    >>> best = TopK(2)
    >>> for word in ("b", "d", "a", "c"):
    ...     best.push(word, word.upper)
    >>> best.items()
    ['D', 'C']
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[Any, int, Item]] = []
        self._pushed = 0

    def push(self, rank: Any, make: Callable[[], Item]) -> None:
        """Make and keep an item if its rank, anything with an order, is among the highest; of equals the earlier."""
        self._pushed += 1
        place = (rank, -self._pushed)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (*place, make()))
        elif place > self._heap[0][:2]:
            heapq.heapreplace(self._heap, (*place, make()))

    def items(self) -> list[Item]:
        """What was kept, the highest rank first."""
        return [item for *_, item in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
