"""Options as dataclass fields: default, choices, range and one-line help are written once, at the field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from shiftproof.errors import UsageError, unknown

Config = TypeVar("Config")
_KEY = "option"  # in a field's metadata


@dataclass(frozen=True)
class Option:
    """One field of a config, as the command line and the documentation show it."""

    name: str
    type: Any  # resolved, such as ``int | None``
    default: Any
    help: str  # one line, without the choices and the default
    choices: tuple[str, ...] = ()
    shown: str = ""  # the default as the help shows it, where it is not the value itself
    common: bool = False  # shown by ``--help``; the others by ``--help-all``


def option(default: Any, help: str, *, choices: tuple[str, ...] = (), common: bool = False, shown: str = "") -> Any:
    """Return a dataclass field with its default, its one-line help and its choices."""
    return field(default=default, metadata={_KEY: {"help": help, "choices": choices, "common": common, "shown": shown}})


def options_of(config: type) -> dict[str, Option]:
    """Return the options of a config class, by name.

    >>> @dataclass
    ... class Lens:
    ...     focus: str = option("auto", "How the lens focuses.", choices=("auto", "fixed"))
    >>> options_of(Lens)["focus"].choices
    ('auto', 'fixed')
    """
    hints = get_type_hints(config)
    return {
        item.name: Option(item.name, hints[item.name], item.default, **item.metadata[_KEY])
        for item in fields(config)
        if item.default is not MISSING
    }


def check_choices(config: Any) -> None:
    """Refuse a config in which a field has none of its choices.

    Raises:
        UsageError: it names the nearest choices.
    """
    for name, item in options_of(type(config)).items():
        value = getattr(config, name)
        if item.choices and value not in item.choices:
            raise unknown(name.replace("_", " "), str(value), item.choices)


def build_config(kind: type[Config], values: Mapping[str, Any], what: str) -> Config:
    """Return a config with some fields set.

    Args:
        kind: class of the config.
        values: its fields; the others keep their defaults.
        what: what a field is called in an error ("option of gnl").

    Raises:
        UsageError: a name that is not a field, with the nearest names; or a value that the config refuses.
    """
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise unknown(what, name, names)
    return kind(**values)


def parse_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """Return settings from NAME=VALUE; a value is parsed as JSON, or else is a string.

    >>> parse_settings(["batch_size=8", "ssot=off"])
    {'batch_size': 8, 'ssot': 'off'}
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not (name and equals and text):
            raise UsageError(f"setting {pair!r} is not understood: write NAME=VALUE, e.g. ssot=off")
        try:
            settings[name] = json.loads(text)
        except json.JSONDecodeError:
            settings[name] = text
    return settings


def typed_settings(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return parsed values in the types of a config's fields: 32 becomes a string where a field is a string.

    Raises:
        UsageError: a value that has another type than its field.

    >>> @dataclass
    ... class Numbers:
    ...     precision: str = "auto"
    ...     learning_rate: float = 0.1
    >>> typed_settings(Numbers, {"precision": 32, "learning_rate": 1})
    {'precision': '32', 'learning_rate': 1.0}
    """
    hints = get_type_hints(kind)
    typed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:  # build_config refuses it
            typed[name] = value
            continue
        wanted: Any = hints[name]
        if wanted is str:
            value = str(value)
        elif wanted is float and type(value) is int:
            value = float(value)
        elif Path in get_args(wanted) and isinstance(value, str):
            value = Path(value)
        # Python counts a bool as an int.
        fits = isinstance(value, get_origin(wanted) if get_origin(wanted) is tuple else wanted)
        if not fits or (isinstance(value, bool) and bool not in (wanted, *get_args(wanted))):
            what = {bool: "true or false", float: "a number"}.get(wanted, "a whole number")
            raise UsageError(f"setting {name}={value} is not understood: expected {what}")
        typed[name] = value
    return typed
