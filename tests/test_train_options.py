"""The flags of ``shiftproof train``: every field of every config, by its flag and by ``--set``."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from shiftproof.config import CONFIGS, TrainConfig, TrainOptions, options_of
from shiftproof.pipelines import train as pipeline

OTHER = {int: 3, float: 0.25, bool: True, str: "text", int | None: 3, tuple[int, int]: "96x64"}
FIELDS = [
    (method, item)
    for method, config in CONFIGS.items()
    for kind in (TrainOptions, TrainConfig, config)
    for item in options_of(kind).values()
    if item.name != "method" and (method == "rd" or kind is config)
]


@pytest.fixture
def received(monkeypatch):
    """What the command passes to the pipeline."""
    calls = []

    def train(data, model, *, reporter, **options):
        calls.append(options)
        manifest = {"data": {"train_images": 1, "unreadable": []}, "training": {"steps": 1, "seconds": 1}, "method": ""}
        return SimpleNamespace(manifest=manifest, calibration=SimpleNamespace(threshold=1.0, sentence=str))

    monkeypatch.setattr(pipeline, "train", train)
    return calls


@pytest.mark.parametrize(("method", "item"), FIELDS, ids=lambda each: getattr(each, "name", each))
def test_every_field_has_a_flag_and_can_be_set(shiftproof, received, method, item):
    value = item.choices[-1] if item.choices else OTHER.get(item.type, "some/path")
    flag = f"--{item.name.replace('_', '-')}"
    given = (flag,) if item.type is bool else (flag, value)
    assert shiftproof("train", "data", "model", "--method", method, *given).code == 0
    text = "true" if value is True else value
    assert shiftproof("train", "data", "model", "--method", method, "--set", f"{item.name}={text}").code == 0
    by_flag, by_setting = received
    assert str(by_flag[item.name]) == str(by_setting[item.name]) == str(value)
    assert by_flag["method"] == method


def test_without_flags_the_pipeline_has_its_own_defaults(shiftproof, received):
    assert shiftproof("train", "data", "model").code == 0
    assert received == [{}]


def test_several_settings_and_switches(shiftproof, received):
    result = shiftproof(
        *("train", "data", "model", "--method", "gnl", "--no-segmentation", "--set", "steps=7", "--set"),
        *("learning_rate=1e-3", "--no-denoise-augmentation"),
    )
    assert result.code == 0
    expected = {
        "method": "gnl",
        "segmentation": False,
        "denoise_augmentation": False,
        "steps": 7,
        "learning_rate": 1e-3,
    }
    assert received == [expected]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--set", "learning_rte=1e-3"), ("learning_rte", "learning_rate")),
        (("--set", "steps"), ("steps", "NAME=VALUE")),
        (("--set", "steps=many"), ("steps=many", "whole number")),
        (("--set", "steps=3", "--steps", "4"), ("--steps", "--set steps")),
        (("--steps", "2.5"), ("2.5", "whole number")),
        (("--learning-rte", "1e-3"), ("--learning-rte", "--learning-rate")),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(shiftproof, received, options, named):
    result = shiftproof("train", "data", "model", *options)
    assert result.code == 2
    assert all(name in result.error for name in named)
    assert received == []


def test_help_is_two_screens_with_defaults_and_help_all_has_every_option(shiftproof, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    short, every = shiftproof("train", "--help").out, shiftproof("train", "--help-all").out
    assert len(short.splitlines()) <= 50
    shown, all_shown = (set(re.findall(r"^│ (--[a-z-]+)", text, flags=re.M)) for text in (short, every))
    options = {
        item.name: item for kind in (TrainOptions, TrainConfig, *CONFIGS.values()) for item in options_of(kind).values()
    }
    flags = {name: f"--{name.replace('_', '-')}" for name in options}
    assert all_shown == {"--set", "--recipe", *flags.values()}
    assert shown == {"--set", "--recipe", *(flags[name] for name, item in options.items() if item.common)}
    assert short.count("[default:") + len(re.findall(r"\[default:?$", short)) >= len(shown) - 1


def test_a_recipe_sets_what_no_option_sets(shiftproof, received):
    result = shiftproof(
        "train", "screw", "model", "--recipe", "rdpp-cvpr2023", "--steps", "5", "--seed", "2", "--set", "ssot=off"
    )
    assert result.code == 0
    (options,) = received
    assert (options["method"], options["steps"], options["seed"], options["ssot"]) == ("rdpp", 5, 2, "off")
    assert options["backbone"].startswith("wide_resnet50_2") and "epochs" not in options
    assert "differs from rdpp-cvpr2023" in result.out


def test_no_flags_are_needed_where_pydantic_is_imported(shiftproof, tmp_path):
    """The command line's library validates defaults with pydantic as soon as something has imported it."""
    pytest.importorskip("pydantic")
    result = shiftproof("train", tmp_path / "nowhere", tmp_path / "model")
    assert result.code == 2
    assert "nowhere" in result.error
