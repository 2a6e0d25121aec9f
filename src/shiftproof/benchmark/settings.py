"""The settings of one training: a paper's recipe, and what is set by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from shiftproof.benchmark.recipes import RECIPES
from shiftproof.config import DEFAULT_BACKBONE, DEFAULT_METHOD, TrainConfig, typed_settings
from shiftproof.errors import unknown
from shiftproof.methods import method_class


@dataclass(frozen=True)
class Settings:
    """What a training is called with."""

    method: str
    backbone: str
    schedule: dict[str, Any]  # fields of TrainConfig
    options: dict[str, Any]  # fields of the method's config
    differs: tuple[str, ...]  # a line for each thing that is not done as in the paper's code; empty without a recipe


def choose_settings(
    recipe: str | None, category: str, method: str | None, backbone: str | None, by_hand: Mapping[str, Any]
) -> Settings:
    """Return a recipe's settings for a category, each replaced by what is set by hand.

    Args:
        recipe: a name of :data:`~shiftproof.benchmark.recipes.RECIPES`, or None for the defaults.
        category: the name of its folder, by which a paper may set epochs.
        method: None takes the recipe's, or the default.
        backbone: None takes the recipe's, or the default.
        by_hand: fields of TrainConfig and of the method's config.

    Raises:
        UsageError: an unknown recipe or method, or a value of the wrong type.
    """
    if recipe is not None and recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    paper = RECIPES[recipe] if recipe else None
    name = method or (paper.methods[0] if paper else DEFAULT_METHOD)
    config = method_class(name).Config
    known = {field.name for field in fields(config)}
    trained = {field.name for field in fields(TrainConfig)} - {"seed"}
    schedule = paper.schedule_of(category) if paper else {}
    if "steps" in by_hand:
        schedule.pop("epochs", None)
    options = {key: value for key, value in paper.options.items() if key in known} if paper else {}
    theirs = {**schedule, **options}
    for key, value in by_hand.items():
        if key in trained:
            schedule |= {key: value} if key == "image_size" else typed_settings(TrainConfig, {key: value})
        else:
            options |= typed_settings(config, {key: value})
    differs = [
        f"set by hand: {key} {value} instead of {theirs.get(key, 'what training takes')}"
        for key, value in by_hand.items()
        if paper and value != theirs.get(key)
    ]
    return Settings(
        name,
        backbone or (paper.backbone if paper else DEFAULT_BACKBONE),
        schedule,
        options,
        (*differs, *(paper.differs if paper else ())),
    )
