"""Image metrics against scikit-learn, and against what squashed or rounded scores would give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve

from shiftproof.metrics import image_metrics, roc_points

# Few distinct values: ties within and across the classes.
tied = st.lists(st.tuples(st.booleans(), st.integers(-3, 3).map(lambda k: k / 7)), min_size=2, max_size=30)
free = st.lists(st.tuples(st.booleans(), st.floats(-1e300, 1e300)), min_size=2, max_size=30)


@given(tied | free)
def test_the_values_are_those_of_scikit_learn(items):
    labels, scores = (np.array(column) for column in zip(*items, strict=True))
    measured = image_metrics(labels, scores)
    if labels.all() or not labels.any():
        assert measured == {"auroc": None, "ap": None, "f1_max": None}
        return
    assert measured["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert measured["ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    exhaustive = max(f1_score(labels, scores >= threshold) for threshold in scores)
    assert measured["f1_max"] == pytest.approx(exhaustive, abs=1e-12)


@given(tied)
def test_the_roc_curve_is_that_of_scikit_learn(items):
    labels, scores = (np.array(column) for column in zip(*items, strict=True))
    if labels.all() or not labels.any():
        with pytest.raises(ValueError, match="some of each"):
            roc_points(labels, scores)
        return
    fpr, tpr = roc_points(labels, scores)
    expected_fpr, expected_tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected_fpr, atol=1e-12)
    np.testing.assert_allclose(tpr, expected_tpr, atol=1e-12)


def test_scores_that_a_sigmoid_would_tie_are_told_apart():
    labels = np.repeat([False, True], 50)
    assert image_metrics(labels, np.linspace(100, 200, 100))["auroc"] == 1.0
    assert image_metrics(labels, 1.0 + np.arange(100) * 2.0**-52)["auroc"] == 1.0  # float32 would tie them


def test_infinite_scores_are_the_highest():
    assert image_metrics([False, True], [1e308, np.inf])["auroc"] == 1.0


@pytest.mark.parametrize("labels", [[], [True, True], [False]])
def test_an_absent_class_leaves_the_metrics_undefined(labels):
    assert set(image_metrics(labels, np.zeros(len(labels))).values()) == {None}


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([True, False], [0.5, np.nan], "score 1 of 2 is NaN"),
        ([True, False], [0.5], r"labels \(2,\) and scores \(1,\)"),
        ([[True, False]], [[0.5, 0.1]], "one label for each score"),
    ],
)
def test_what_cannot_be_ranked_is_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        image_metrics(labels, scores)
