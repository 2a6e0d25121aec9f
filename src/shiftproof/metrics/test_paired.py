from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from shiftproof.metrics.paired import paired_auroc


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 4)), min_size=4))
def test_the_areas_are_those_of_scikit_learn_ties_included(images) -> None:
    defective, first, second = (np.array(column) for column in zip(*images, strict=True))
    if min(defective.sum(), (~defective).sum()) < 2:
        with pytest.raises(ValueError, match="expected two of each kind"):
            paired_auroc(defective, first, second)
        return
    before, after, error = paired_auroc(defective, first.astype(float), second.astype(float))
    assert before == pytest.approx(roc_auc_score(defective, first))
    assert after == pytest.approx(roc_auc_score(defective, second))
    assert error >= 0
    assert paired_auroc(defective, first.astype(float), first.astype(float))[2] == 0


def test_the_error_is_the_spread_over_drawn_sets() -> None:
    """Against what it estimates: the standard deviation of the change over many sets of images."""
    random = np.random.default_rng(0)
    defective = np.arange(160) % 2 == 1
    found = []
    for _ in range(400):
        part = random.normal(0, 1, 160) + 1.0 * defective  # what both conditions see of an image
        first, second = (part + random.normal(0, 0.5, 160) for _ in range(2))
        unrelated = random.normal(0, 1.1, 160) + 1.0 * defective
        before, after, error = paired_auroc(defective, first, second)
        found.append((after - before, error, paired_auroc(defective, first, unrelated)[2]))
    changes, errors, unrelated_errors = np.transpose(found)
    assert errors.mean() == pytest.approx(changes.std(), rel=0.1)
    assert errors.mean() < 0.6 * unrelated_errors.mean()  # that they are the same images is what makes it sharp


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="expected \\[N\\] three times"):
        paired_auroc(np.array([True, False]), np.zeros(2), np.zeros(3))
