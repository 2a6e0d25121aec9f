from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shiftproof.networks.order import kth_smallest


@given(
    rows=st.integers(1, 3).flatmap(
        lambda count: st.lists(
            st.lists(st.floats(-1e3, 1e3, width=32), min_size=7, max_size=7), min_size=count, max_size=count
        )
    ),
    k=st.integers(1, 7),
)
def test_it_is_what_sorting_finds(rows, k):
    values = torch.tensor(rows)
    expected = values.sort(dim=-1).values
    found = kth_smallest(values, k)
    span = expected[:, -1] - expected[:, 0]
    assert ((found - expected[:, k - 1]).abs() <= span * 2**-23).all()
    assert (found[:, None] == values).any(dim=1).all()


@pytest.mark.parametrize("k", [1, 613, 6144, 12288])
def test_long_rows_are_exact(k):
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 12288)).astype(np.float32))
    torch.testing.assert_close(kth_smallest(values, k), values.sort(dim=-1).values[..., k - 1], rtol=0, atol=0)


def test_ties_are_one_value():
    values = torch.tensor([[1.0, 2.0, 2.0, 2.0, 3.0], [4.0] * 5])
    assert [kth_smallest(values, k).tolist() for k in (1, 2, 4, 5)] == [[1, 4], [2, 4], [2, 4], [3, 4]]


def test_what_is_no_number_stays_none():
    assert kth_smallest(torch.tensor([1.0, float("nan"), 2.0]), 2).isnan()
