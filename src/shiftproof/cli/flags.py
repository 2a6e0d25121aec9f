"""Command-line flags from config classes: name, type, default, choices and help are those of the dataclass fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args

from cyclopts import Parameter

from shiftproof.cli.options import Whole
from shiftproof.config import Option, format_size, options_of


def flag_class(name: str, configs: Mapping[str, Sequence[type]], *, show_all: bool) -> type:
    """Return a dataclass whose fields are flags; None is the value of a flag that is not given.

    Args:
        name: of the class.
        configs: config classes by method; where defaults differ between methods, the help has all of them.
        show_all: show every flag in the help, not only the common ones.
    """
    options: dict[str, dict[str, Option]] = {}  # by field, then by method
    for method, classes in configs.items():
        for config in classes:
            for item in options_of(config).values():
                options.setdefault(item.name, {})[method] = item
    flags = [(key, _annotation(by_method, show_all), field(default=None)) for key, by_method in options.items()]
    # cyclopts opens a class of this module; it takes one of the module `types`, the default, for a builtin.
    return make_dataclass(name, flags, frozen=True, kw_only=True, namespace={"__module__": __name__})


def given_flags(flags: Any) -> dict[str, Any]:
    """Return the flags that were given, by field name."""
    values = {item.name: getattr(flags, item.name) for item in fields(flags)}
    return {name: value for name, value in values.items() if value is not None}


def _annotation(by_method: Mapping[str, Option], show_all: bool) -> Any:
    item = next(iter(by_method.values()))
    negative = f"--no-{item.name.replace('_', '-')}" if item.default is True or _varies(by_method) else ""
    parameter = Parameter(
        help=_help(item, by_method),
        show=show_all or item.common,
        show_default=False,
        negative=negative if _cli_type(item) is bool else "",
    )
    return Annotated[_cli_type(item) | None, parameter]


def _cli_type(item: Option) -> Any:
    """Return the type that the command line parses; an image size stays text."""
    kinds = [kind for kind in (get_args(item.type) or (item.type,)) if kind is not NoneType]
    return {(int,): Whole, (float,): float, (bool,): bool, (Path,): Path}.get(tuple(kinds), str)


def _help(item: Option, by_method: Mapping[str, Option]) -> str:
    """Return the help line with choices and default.

    Where methods have different defaults, the most frequent one comes first and the others with their methods.
    """
    choices = f" One of {', '.join(item.choices)}." if item.choices else ""
    defaults = {method: each.shown or _text(each.default) for method, each in by_method.items()}
    first = next(iter(defaults.values()))
    others = [f"{method}: {text}" for method, text in defaults.items() if text != first]
    default = "; ".join([first, *others])
    return f"{item.help}{choices} [default: {default}]"


def _varies(by_method: Mapping[str, Option]) -> bool:
    return len({each.default for each in by_method.values()}) > 1


def _text(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, tuple):
        return format_size((default[0], default[1]))
    return str(default)
