from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shiftproof.networks.selection import HALVINGS, by_halving, kth_smallest


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
    assert torch.equal(kth_smallest(values, k), expected[:, k - 1])
    found = by_halving(values, k)
    span = expected[:, -1] - expected[:, 0]
    assert (found >= expected[:, k - 1]).all()
    assert (found - expected[:, k - 1] <= span * 2.0**-HALVINGS).all()
    assert (found[:, None] == values).any(dim=1).all()


@pytest.mark.parametrize("select", [kth_smallest, by_halving])
@pytest.mark.parametrize("k", [1, 613, 6144, 12288])
def test_long_rows_are_exact(select, k):
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 12288)).astype(np.float32))
    span = values.amax() - values.amin()
    expected = values.sort(dim=-1).values[..., k - 1]
    torch.testing.assert_close(select(values, k), expected, rtol=0, atol=float(span) * 2.0**-HALVINGS)


@pytest.mark.parametrize("select", [kth_smallest, by_halving])
def test_ties_are_one_value(select):
    values = torch.tensor([[1.0, 2.0, 2.0, 2.0, 3.0], [4.0] * 5])
    assert [select(values, k).tolist() for k in (1, 2, 4, 5)] == [[1, 4], [2, 4], [2, 4], [3, 4]]


def test_an_exported_graph_halves():
    class Median(torch.nn.Module):
        def forward(self, values):
            return kth_smallest(values, 3)

    values = torch.tensor([[1.0, 5.0, 2.0, 4.0, 3.0]])
    program = torch.export.export(Median(), (values,))
    assert "kthvalue" not in str(program.graph)
    assert program.module()(values).tolist() == [3]
