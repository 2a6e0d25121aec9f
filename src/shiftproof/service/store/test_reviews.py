"""The interval of a measured rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from shiftproof.service.store.reviews import rate


@given(st.integers(1, 5000), st.data())
def test_the_interval_is_that_of_clopper_and_pearson(of, data):
    count = data.draw(st.integers(0, of))
    found = rate(count, of)
    low = beta.ppf(0.025, count, of - count + 1) if count else 0.0
    high = beta.ppf(0.975, count + 1, of - count) if count < of else 1.0
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)
    assert found.low <= found.rate <= found.high
