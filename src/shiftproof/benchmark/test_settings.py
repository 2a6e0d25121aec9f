from __future__ import annotations

import pytest

from shiftproof.benchmark.recipes import RECIPES
from shiftproof.benchmark.settings import choose_settings
from shiftproof.errors import UsageError
from shiftproof.methods import method_class
from shiftproof.training import TrainConfig


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_of_a_recipe_exists(name: str):
    found = choose_settings(name, "screw", None, None, {})
    recipe = RECIPES[name]
    assert (found.method, found.backbone) == (recipe.methods[0], "wide_resnet50_2.tv_in1k")
    assert found.options == recipe.options  # none is dropped as unknown to the method
    method_class(found.method).Config(**found.options)
    TrainConfig(**found.schedule)
    assert found.differs == recipe.differs


def test_rdpp_trains_as_long_as_its_code_says_for_each_category():
    epochs = {
        c: choose_settings("rdpp-cvpr2023", c, None, None, {}).schedule["epochs"] for c in ("screw", "carpet", "tire")
    }
    assert epochs == {"screw": 280, "carpet": 10, "tire": 200}


def test_what_is_set_by_hand_comes_first_and_is_named():
    found = choose_settings(
        "rdpp-cvpr2023", "screw", None, "resnet18.tv_in1k", {"steps": 9, "noisy_share": 1, "hard_fraction": 0.5}
    )
    assert found.schedule["steps"] == 9 and "epochs" not in found.schedule
    assert found.options["noisy_share"] == 1.0 and isinstance(found.options["noisy_share"], float)
    assert (found.options["hard_fraction"], found.backbone) == (0.5, "resnet18.tv_in1k")
    named = [line.split()[3] for line in found.differs if line.startswith("set by hand")]
    assert named == ["steps", "hard_fraction"]  # the noisy share is the recipe's


def test_a_setting_of_another_method_is_left_to_whoever_builds_the_config():
    assert choose_settings(None, "screw", "rdpp", None, {"segmentation": True}).options == {"segmentation": True}


def test_without_a_recipe_nothing_is_set_and_nothing_differs():
    found = choose_settings(None, "screw", None, None, {})
    assert (found.schedule, found.options, found.differs) == ({}, {}, ())
    assert choose_settings(None, "screw", "gnl", None, {"score_normalization": "none"}).options == {
        "score_normalization": "none"
    }


@pytest.mark.parametrize(
    ("recipe", "by_hand", "named"),
    [("rdpp", {}, "unknown recipe 'rdpp'"), (None, {"hard_fraction": "much"}, "hard_fraction=much")],
)
def test_what_is_not_understood_is_named(recipe, by_hand, named):
    with pytest.raises(UsageError, match=named):
        choose_settings(recipe, "screw", None, None, by_hand)
