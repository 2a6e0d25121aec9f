from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shiftproof.report.top_k import TopK


@given(st.lists(st.integers(0, 5)), st.integers(1, 4))
def test_the_highest_are_kept_and_of_equals_the_earlier(ranks: list[int], most: int) -> None:
    kept: TopK[tuple[int, int]] = TopK(most)
    for number, rank in enumerate(ranks):
        kept.push(rank, lambda pair=(rank, number): pair)
    assert kept.items() == sorted(zip(ranks, range(len(ranks)), strict=True), key=lambda pair: -pair[0])[:most]


def test_what_is_not_kept_is_never_made() -> None:
    made: list[int] = []
    kept: TopK[None] = TopK(3)
    for rank in range(100, 0, -1):
        kept.push(rank, lambda rank=rank: made.append(rank))
    assert made == [100, 99, 98]
