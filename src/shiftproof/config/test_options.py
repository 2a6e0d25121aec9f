"""One source for every option: signatures, configs and help agree."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import get_type_hints

import pytest

from shiftproof.config import CONFIGS, TrainConfig, TrainOptions, options_of, typed_settings
from shiftproof.config.settings import Settings
from shiftproof.errors import UsageError

EVERY = (TrainOptions, TrainConfig, *CONFIGS.values())
NAMED = {"image_size", "steps", "epochs", "seed"}  # parameters of shiftproof.train with their own names


@pytest.mark.parametrize("config", EVERY)
def test_every_field_has_a_default_and_one_line_of_help(config: type):
    options = options_of(config)
    assert list(options) == [item.name for item in fields(config)]
    for item in options.values():
        assert item.help.endswith(".") and "\n" not in item.help
        assert not item.choices or item.default in item.choices


def test_settings_have_the_names_and_types_of_the_fields():
    expected = {
        item.name: item.type for config in (TrainConfig, *CONFIGS.values()) for item in options_of(config).values()
    }
    assert get_type_hints(Settings) == {name: kind for name, kind in expected.items() if name not in NAMED}


def test_no_name_is_a_field_of_two_kinds_of_config():
    kinds = [{item.name for item in fields(config)} for config in (TrainOptions, TrainConfig)]
    own = {item.name for config in CONFIGS.values() for item in fields(config)}
    assert not (kinds[0] & kinds[1] or (kinds[0] | kinds[1]) & own)


def test_the_methods_have_the_configs():
    from shiftproof.methods import METHODS

    assert {name: method.Config for name, method in METHODS.items()} == dict(CONFIGS)


@pytest.mark.parametrize("config", EVERY)
def test_a_choice_that_is_unknown_is_refused_with_the_nearest(config: type):
    for item in options_of(config).values():
        for choice in item.choices:
            if len(choice) > 3:
                with pytest.raises(UsageError, match=f"unknown .* '{choice}s'; did you mean .*{choice}"):
                    config(**{item.name: f"{choice}s"})


@pytest.mark.parametrize(
    "values", [{"steps": 2.5}, {"steps": True}, {"steps": "many"}, {"learning_rate": "fast"}, {"epochs": "one"}]
)
def test_a_value_of_another_type_is_refused(values: dict[str, object]):
    (name,) = values
    with pytest.raises(UsageError, match=f"setting {name}="):
        typed_settings(TrainConfig, values)


def test_options_need_no_torch():
    code = "import sys, shiftproof.config, shiftproof.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
