"""The few items that a page shows out of however many a run has seen."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class Foremost(Generic[Item]):
    """Keeps the items of the highest rank; none is made unless it is kept, so memory and time stay small.

    Args:
        most: how many to keep.

    >>> best = Foremost(2)
    >>> for word in ("b", "d", "a", "c"):
    ...     best.offer(word, word.upper)
    >>> best.items()
    ['D', 'C']
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[Any, int, Item]] = []
        self._offered = 0

    def offer(self, rank: Any, make: Callable[[], Item]) -> None:
        """Make and keep an item if its rank, anything with an order, is among the highest; of equals the earlier."""
        self._offered += 1
        place = (rank, -self._offered)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (*place, make()))
        elif place > self._heap[0][:2]:
            heapq.heapreplace(self._heap, (*place, make()))

    def items(self) -> list[Item]:
        """What was kept, the highest rank first."""
        return [item for *_, item in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]
