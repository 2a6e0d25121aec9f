"""From what was asked for to runs: names checked, settings resolved, and nothing trained yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from shiftproof.benchmark.recipes import RECIPES, Recipe
from shiftproof.benchmark.runs import Run
from shiftproof.config import (
    CONFIGS,
    DEFAULT_BACKBONE,
    TrainConfig,
    build_config,
    fit_size,
    parse_settings,
    parse_size,
    typed_settings,
)
from shiftproof.data import calibration_images, categories, find_images, good_images, labelled_images, relative_name
from shiftproof.errors import DataError, UsageError, unknown
from shiftproof.methods import METHODS, method_class
from shiftproof.model_io import sha256_file
from shiftproof.networks.teacher import describe_teacher
from shiftproof.report.benchmark_results import LABELS
from shiftproof.shifts import parse_conditions

ORACLE_LOOKS = 20  # at the test set, where it is not said how often


@dataclass(frozen=True)
class Plan:
    """A benchmark before its first step."""

    out: Path
    runs: tuple[Run, ...]  # category by category, in it seed by seed
    methods: tuple[str, ...]  # columns, in the order of the tables
    categories: tuple[str, ...]  # rows
    seeds: tuple[int, ...]
    conditions: tuple[str, ...]  # names
    protocol: str
    recipe: Recipe | None
    differs: tuple[str, ...]  # where the recipe is not followed, what was set by hand included
    notes: tuple[str, ...]  # a line for each thing that a reader has to know
    without_correction: bool


@dataclass(frozen=True)
class BenchmarkRequest:
    """What a benchmark shall be; None and empty stand for the recipe's, or for the defaults of training."""

    methods: Sequence[str] = ()  # names, each perhaps with settings of its own: "rdpp:ssot=off,ssot_points=32"
    categories: Sequence[str] = ()  # names; all that are found where there are none
    seeds: Sequence[int] = (0,)
    shifts: str | None = None  # as --shifts takes them
    protocol: str = "blind"
    oracle_every: int | None = None  # epochs, or steps where the schedule counts steps
    recipe: str | None = None
    backbone: str | None = None
    weights: Path | None = None
    textures: Path | None = None  # for the methods that make synthetic anomalies
    layout: str = "auto"
    image_size: str | None = None
    steps: int | None = None
    epochs: int | None = None
    settings: Mapping[str, Any] = ()  # type: ignore[assignment]  # fields of TrainConfig or of the methods' configs
    without_correction: bool = False  # also evaluate models that have shift correction without it


def plan(roots: Sequence[Path], out: Path, request: BenchmarkRequest) -> Plan:
    """Find the categories and resolve the settings of every run.

    Raises:
        UsageError: an unknown name, or a setting that nobody has. DataError: no category is recognised, or two have the
            same name.
    """
    if request.protocol not in LABELS:
        raise unknown("protocol", request.protocol, LABELS)
    if request.oracle_every is not None and (request.protocol != "oracle" or request.oracle_every < 1):
        raise UsageError(
            f"oracle every {request.oracle_every}: expected 1 or more, and --protocol oracle, which alone looks at the test set"
        )
    if request.recipe is not None and request.recipe not in RECIPES:
        raise unknown("recipe", request.recipe, RECIPES)
    if not request.seeds or len(set(request.seeds)) < len(request.seeds):
        raise UsageError(f"seeds {list(request.seeds)}: expected one or more, each once")
    recipe = RECIPES[request.recipe] if request.recipe else None
    names = tuple(request.methods) or (recipe.methods if recipe else ("rd", "rdpp"))
    if len(set(names)) < len(names):
        raise UsageError(f"methods {', '.join(names)}: one is named twice; its table would have one column twice")
    backbone = request.backbone or (recipe.backbone if recipe else DEFAULT_BACKBONE)
    describe_teacher(backbone)  # refuses what is no teacher
    found = find_categories(roots, request.categories)
    conditions = [c.name for c in parse_conditions(request.shifts or (recipe.shifts if recipe else "clean"))]
    schedule, options, differs = _settings(request, recipe, names)
    shared = {
        "backbone": backbone,
        "weights": _file_hash(request.weights),
        "textures": _listing(find_images(request.textures), request.textures) if request.textures else None,
        "layout": request.layout,
        "protocol": request.protocol,
        "conditions": conditions,
        "without_correction": request.without_correction,
    }
    runs: list[Run] = []
    notes: list[str] = []
    for category, data in found.items():
        fingerprint, stray = _fingerprint(data, request.layout)
        notes += [f"{category}: {line}" for line in stray]
        for seed in request.seeds:
            for name in names:
                config = schedule(category, seed)
                settings = {
                    **shared,
                    "category": category,
                    "data": fingerprint,
                    "method": name.partition(":")[0],
                    "options": options[name],
                    "schedule": asdict(config),
                }
                if request.protocol == "oracle":
                    settings["oracle_every"] = request.oracle_every or _every(config)
                if not CONFIGS[settings["method"]](**options[name]).synthetic_anomalies:
                    settings["textures"] = None
                textures = request.textures if settings["textures"] else None
                runs.append(Run(out, name, category, seed, settings, data, request.weights, textures))
    return Plan(
        out,
        tuple(runs),
        names,
        tuple(found),
        tuple(request.seeds),
        tuple(conditions),
        request.protocol,
        recipe,
        differs,
        tuple(notes),
        request.without_correction,
    )


def find_categories(roots: Sequence[Path], wanted: Sequence[str]) -> dict[str, Path]:
    """The categories of the data sets by name: their paths below the data set, or the folder's name of a single one.

    Raises:
        DataError: nothing is recognised, or two are called the same; UsageError: a wanted one is not there.
    """
    if not roots:
        raise UsageError("no data set is named: give a folder of categories, or a category")
    found: dict[str, Path] = {}
    for root in roots:
        for folder in categories(root):
            name = folder.relative_to(root).as_posix() if folder != root else root.resolve().name
            if name in found:
                raise DataError(f"{found[name]} and {folder} are both called {name}: benchmark them one at a time")
            found[name] = folder
    for name in wanted:
        if name not in found:
            raise unknown("category", name, found)
    return {name: found[name] for name in dict.fromkeys(wanted)} if wanted else found


def _settings(
    request: BenchmarkRequest, recipe: Recipe | None, names: Sequence[str]
) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """The schedule as a function of category and seed, each method's options, and where the recipe is not followed."""
    trained = {field.name for field in fields(TrainConfig)} - {"seed", "devices", "feature_cache"}
    given = dict(request.settings)
    if request.image_size is not None:
        given["image_size"] = request.image_size
    if "image_size" in given:
        given["image_size"] = fit_size(parse_size(str(given["image_size"])))
    given |= {key: getattr(request, key) for key in ("steps", "epochs") if getattr(request, key) is not None}
    if {"steps", "epochs"} <= given.keys():
        raise UsageError("epochs and steps both say how long to train: give one of them")
    own = {name: _own(name) for name in names}
    known = {name: {field.name for field in fields(method_class(name.partition(":")[0]).Config)} for name in names}
    for key in given:
        if key not in trained and not any(key in fields_of for fields_of in known.values()):
            raise unknown("setting", key, trained.union(*known.values()))
    base = dict(recipe.schedule) if recipe else {}
    if "steps" in given:
        base.pop("epochs", None)
    by_hand = {key: value for key, value in given.items() if key in trained}
    config = build_config(TrainConfig, {**base, **typed_settings(TrainConfig, by_hand)}, "setting")
    own_epochs = recipe.epochs if recipe and not {"steps", "epochs"} & given.keys() else {}

    def schedule(category: str, seed: int) -> TrainConfig:
        epochs = own_epochs.get(category.rpartition("/")[2], config.epochs)
        return replace(config, seed=seed, epochs=epochs)

    options = {}
    for name in names:
        kind = method_class(name.partition(":")[0])
        wanted = {
            **{key: value for key, value in (recipe.options if recipe else {}).items() if key in known[name]},
            **{key: value for key, value in given.items() if key in known[name]},
            **own[name],
        }
        options[name] = asdict(
            build_config(kind.Config, typed_settings(kind.Config, wanted), f"option of {name.partition(':')[0]}")
        )
    return schedule, options, _differs(recipe, request, given)


def _differs(recipe: Recipe | None, request: BenchmarkRequest, given: Mapping[str, Any]) -> tuple[str, ...]:
    if recipe is None:
        return ()
    theirs = {**recipe.schedule, **recipe.options, "backbone": recipe.backbone, "shifts": recipe.shifts}
    ours = {**given, "backbone": request.backbone, "shifts": request.shifts}
    set_here = [
        f"set by hand: {key} {value} instead of {theirs.get(key, 'what training takes')}"
        for key, value in ours.items()
        if value is not None and value != theirs.get(key)
    ]
    return (*set_here, *recipe.differs)


def _own(name: str) -> dict[str, Any]:
    """The settings that a method's name carries.

    >>> _own("rdpp:ssot=off,ssot_points=32")
    {'ssot': 'off', 'ssot_points': 32}
    """
    method, _, rest = name.partition(":")
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    return parse_settings(rest.split(",")) if rest else {}


def _every(config: TrainConfig) -> int:
    """How often the oracle looks where nobody has said it: a twentieth of the schedule, rounded up."""
    return -(-(config.epochs or config.steps) // ORACLE_LOOKS)


def _fingerprint(data: Path, layout: str) -> tuple[str, list[str]]:
    """A hash of the category's files (names and sizes), and lines on what it has not got; an empty hash where it is broken.

    A category that cannot be used is found out again, and said, when its runs run.
    """
    try:
        test = labelled_images(data, layout)
        paths = [*good_images(data, layout), *calibration_images(data, layout), *(item.path for item in test.images)]
        paths += [mask for item in test.images for mask in item.masks]
    except DataError:
        return "", []
    stray = []
    if not any(item.defective for item in test.images):
        stray.append("no defective image to test on: figures of image and pixels are null, detection too")
    elif all(item.defective for item in test.images):
        stray.append("no good image to test on: image figures and false alarms are null")
    if not test.has_masks:
        stray.append("no masks: pixel figures are null")
    return _listing(paths, data), stray


def _listing(paths: Iterable[Path], root: Path) -> str:
    sizes = ((path, path.stat().st_size if path.exists() else -1) for path in paths)  # a link may lead nowhere
    lines = sorted(f"{relative_name(root, path)}\0{size}" for path, size in sizes)
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def _file_hash(path: Path | None) -> str | None:
    if path is None:
        return None
    if not path.is_file():
        raise UsageError(f"no weights file at {path}: check the path")
    return sha256_file(path)[:16]
