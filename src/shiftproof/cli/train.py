"""``shiftproof train``: its flags are the fields of the configs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from shiftproof.cli.console import Bar, say, warn
from shiftproof.cli.flags import flag_class, given_flags
from shiftproof.cli.predict import FAILED_INPUTS
from shiftproof.config import (
    CONFIGS,
    DEFAULT_METHOD,
    TrainConfig,
    TrainOptions,
    options_of,
    parse_settings,
    typed_settings,
)
from shiftproof.errors import UsageError, unknown
from shiftproof.report.page import duration
from shiftproof.reporter import Reporter

Settings = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        consume_multiple=False,
        show_default=False,
        help="NAME=VALUE: any option of --help-all, e.g. --set segmentation_width=64; may be repeated.",
    ),
]


Recipe = Annotated[
    str | None,
    Parameter(
        show_default=False,
        help="A paper's settings: rd-cvpr2022, rdpp-cvpr2023, gnl-vand2024 or adshift-iccv2023; the output names what "
        "differs. Other options have precedence. [default: none]",
    ),
]


def train_command(*, show_all: bool = False) -> Callable[..., int]:
    """Return the command ``train``; with ``show_all`` its help shows every flag."""
    by_method = {method: (TrainOptions, TrainConfig, config) for method, config in CONFIGS.items()}
    flag_type = flag_class("TrainFlags", by_method, show_all=show_all)
    no_flags = flag_type()  # of its own type: where pydantic is imported, cyclopts checks the default with it

    def train(  # noqa: D417 - the flags have their help at the fields
        data: Path, model: Path, /, *, flags: Any = no_flags, recipe: Recipe = None, settings: Settings = ()
    ) -> int:
        """Train on images of good parts and write a model folder. --help-all shows every option.

        Parameters
        ----------
        data
            Folder of good images (flat or nested), a category with train/good, or a manifest. Nothing below test/ is read.
        model
            Folder to write.
        """
        options = _merged(given_flags(flags), parse_settings(settings))
        return _train(data, model, options if recipe is None else _with_recipe(recipe, data, options))

    train.__annotations__["flags"] = Annotated[flag_type, Parameter(name="*")]
    return train


def _merged(flags: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return flags and ``--set`` values together, each of the type of its field.

    Raises:
        UsageError: a name that no config has, with the nearest; a value of another type; a name that is set twice.
    """
    method = str(flags.get("method", settings.get("method", DEFAULT_METHOD)))
    if method not in CONFIGS:
        raise unknown("method", method, CONFIGS)
    own = (TrainOptions, TrainConfig, CONFIGS[method])
    known = {name for kind in (TrainOptions, TrainConfig, *CONFIGS.values()) for name in options_of(kind)}
    for name in settings:
        if name not in known:
            raise unknown("setting", name, known)
        if name in flags:
            raise UsageError(f"--{name.replace('_', '-')} and --set {name} set the same option: give one of them")
    typed: dict[str, Any] = {
        name: str(value) for name, value in settings.items() if name == "image_size"
    }  # the pipeline parses it
    for kind in own:
        values = {name: settings[name] for name in options_of(kind) if name in settings and name not in typed}
        typed |= typed_settings(kind, values)
    return {**flags, **settings, **typed}


def _with_recipe(recipe: str, data: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's settings, replaced by the options; print what differs from the paper's code."""
    from shiftproof.benchmark.settings import choose_settings

    inputs = {name: value for name, value in options.items() if name in (*options_of(TrainOptions), "seed")}
    by_hand = {name: value for name, value in options.items() if name not in inputs}
    method, backbone = inputs.pop("method", None), inputs.pop("backbone", None)
    selected = choose_settings(recipe, data.resolve().name, method, backbone, by_hand)
    for line in selected.differs:
        say(f"differs from {recipe}: {line}")
    return {
        **inputs,
        "method": selected.method,
        "backbone": selected.backbone,
        **selected.schedule,
        **selected.options,
    }


def _train(data: Path, model: Path, options: Mapping[str, Any]) -> int:
    from shiftproof.pipelines.train import train

    with Bar() as bar:
        detector = train(data, model, reporter=Reporter(info=say, warning=warn, progress=bar), **options)
    facts, record = detector.manifest["data"], detector.manifest["training"]
    steps = f": {record['steps']} steps in {duration(record['seconds'])}" if record["steps"] else ""
    say(f"trained {detector.manifest['method']} on {facts['train_images']} good images{steps}")
    say(f"threshold {detector.calibration.threshold:.4f}; {detector.calibration.sentence()}")
    say(f"model: {model}")
    return FAILED_INPUTS if facts["unreadable"] else 0
