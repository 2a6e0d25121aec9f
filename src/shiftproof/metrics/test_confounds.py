from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from shiftproof.metrics.confounds import CONFIDENCE, STRIKING, Confound, find_confounds

DEFECTIVE = np.arange(120) % 3 > 0
NAMES = ("light", "contrast", "grain")


def values_of(*shifts: float, seed: int = 0) -> np.ndarray:
    """Statistics in which defective images lie that many standard deviations off."""
    return np.random.default_rng(seed).normal(0, 1, (120, len(shifts))) + np.outer(DEFECTIVE, shifts)


def test_what_tells_the_kinds_apart_is_found_whichever_is_higher_and_the_strongest_first():
    values = values_of(3.0, 0.2, -8.0)
    found = find_confounds(DEFECTIVE, values, NAMES)
    assert [confound.name for confound in found] == ["grain", "light"]
    assert found[0] == Confound("grain", 1.0)
    assert found[1].auroc == pytest.approx(roc_auc_score(DEFECTIVE, values[:, 0]))


def test_a_difference_that_may_be_chance_is_not_called_one():
    """At the limit itself a statistic is called a confound as seldom as promised."""
    limit = 1.19  # standard deviations at which the AUROC of two normal distributions is 0.8
    called = [bool(find_confounds(DEFECTIVE, values_of(limit, seed=seed), NAMES[:1])) for seed in range(400)]
    assert roc_auc_score(DEFECTIVE, values_of(limit, seed=1)[:, 0]) == pytest.approx(STRIKING, abs=0.1)
    assert np.mean(called) < 2 * (1 - CONFIDENCE)
    assert np.mean([bool(find_confounds(DEFECTIVE, values_of(2.5, seed=s), NAMES[:1])) for s in range(50)]) > 0.9


def test_few_images_and_constant_ones_say_nothing():
    few = np.arange(20) < 11  # nine good ones
    assert find_confounds(few, np.arange(20.0)[:, None], NAMES[:1]) == ()
    assert find_confounds(DEFECTIVE, np.ones((120, 3)), NAMES) == ()
    assert len(find_confounds(np.arange(20) < 10, np.arange(20.0)[:, None], NAMES[:1])) == 1
