from __future__ import annotations

import numpy as np
import pytest

from shiftproof.pipelines.pictures import median_image, typical_conditions
from shiftproof.report.evaluation import ConditionScores
from shiftproof.shifts import parse_conditions


@pytest.mark.parametrize(
    ("severities", "shown"), [("1-5", 3), ("3", 3), ("1-2", 2), ("4-5", 5), ("1", 1), ("2-4", 3), ("5", 5)]
)
def test_a_shift_is_shown_at_its_third_severity_or_the_middle_one(severities: str, shown: int) -> None:
    conditions = parse_conditions(f"clean,jpeg:{severities},scale")
    assert [condition.name for condition in typical_conditions(conditions)] == ["clean", f"jpeg-{shown}", "scale-3"]


def test_the_median_is_of_its_kind_and_named_by_its_place_in_the_set() -> None:
    held = ConditionScores(
        defective=np.array([False, True, True, False, True]),
        scores=np.array([0.9, 0.3, 0.8, 0.1, 0.5]),
        images=np.array([0, 2, 5, 6, 9]),
    )
    assert median_image(held, defective=True) == 9
    assert median_image(held, defective=False) == 6  # of two in the middle the lower
    only = ConditionScores(np.array([True]), np.array([0.3]), np.array([4]))
    assert median_image(only, defective=False) is None
