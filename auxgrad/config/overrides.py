"""The command line's words, parsed by Hydra's grammar.

Hydra takes only strings as options of a group: `quote_values` turns every value of a value group into a
quoted string, and the source `value://` (hydra_plugins/auxgrad) answers for options that have no file.
The only module that uses private parts of Hydra: `Override._value`, since the public `value()` refuses a
glob, and `get_args_parser`, since Hydra offers no other way to see its flags before it acts on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, ValueType
from hydra.errors import HydraException

from auxgrad.config.groups import VALUE_GROUPS, options
from auxgrad.config.values import format_value, parse_scalar, quote
from auxgrad.errors import ConfigError

# How the keys of options of classes begin, as which Hydra takes any.
OPTIONS = ("problem.", "data.")

__all__ = [
    "OPTIONS",
    "expand_glob",
    "get_args_parser",
    "parse_overrides",
    "parse_values",
    "quote_values",
]


def parse_overrides(words: Iterable[str]) -> dict[str, Override]:
    """Return the overrides by key, value groups quoted; the last one of a key counts."""
    parsed = OverridesParser.create().parse_overrides(quote_values(words))
    return {override.key_or_group: override for override in parsed}


def parse_values(words: Iterable[str]) -> dict[str, list[str]]:
    """Return keys with all their values, as `format_value` writes them.

    >>> parse_values(["mode=Projection,Multitask", "lam=1e2", "problem.hidden=[8, 8]"])
    {'mode': ['Projection', 'Multitask'], 'lam': ['100'], 'problem.hidden': ['[8,8]']}

    Raises HydraException or ValueError for what is not key=value.
    """
    values: dict[str, list[str]] = {}
    parser = OverridesParser.create()
    for word in words:
        override = parser.parse_override(word) if "=" in word else None
        if (
            override is None
            or override.is_delete()
            or override.is_add()
            or override.value_type is ValueType.INTERVAL_SWEEP
            or (isinstance(override._value, Glob) and override.key_or_group not in VALUE_GROUPS)
        ):
            raise ValueError(f"{word}: must be key=value or key=value,value,...")
        values.setdefault(override.key_or_group, []).extend(_texts(override))
    return values


def quote_values(arguments: Iterable[str]) -> list[str]:
    """Return command line arguments as Hydra takes them.

    The values of the value groups become quoted strings. Single values, lists, `range(...)` and
    `glob(...)` are understood; intervals for other sweepers pass unchanged. Keys of `problem` and `data`
    may be new to Hydra, since a file need not list the options that a class has. All else is left alone.

    >>> quote_values(["mode=Orthogonal", "lam=1,42.5", "seed=range(3)", "--multirun", "data.path=a"])
    ['mode=Orthogonal', "lam='1','42.5'", "seed='0','1','2'", '--multirun', '++data.path=a']
    """
    parser = OverridesParser.create()
    return [_quote(parser, argument) for argument in arguments]


def expand_glob(override: Override, names: Callable[[str], Iterable[str]]) -> list[str] | None:
    """Return the options of its group that a glob matches; None for an override that is no glob.

    Args:
        names: from a group to its options.

    Raises ConfigError if it matches none.
    """
    if not isinstance(override._value, Glob):
        return None
    known = list(names(override.key_or_group))
    matched = override._value.filter(known)
    if not matched:
        raise ConfigError(f"{override.input_line}: matches none of {', '.join(known)}")
    return list(matched)


def _quote(parser: OverridesParser, argument: str) -> str:
    if argument.startswith(OPTIONS) and "=" in argument:
        return f"++{argument}"
    key = argument.partition("=")[0].lstrip("+")
    if key not in VALUE_GROUPS or argument == key:
        return argument
    try:
        override = parser.parse_override(argument)
    except HydraException:
        return argument  # Hydra reports it, with the place.
    if override.value_type is ValueType.INTERVAL_SWEEP:
        return argument
    quoted = ",".join(quote(text) for text in _texts(override))
    if not quoted and isinstance(override._value, Glob):
        known = ", ".join(options(override.key_or_group))
        raise ConfigError(f"{argument}: matches none of {known}")
    return f"{override.get_key_element()}={quoted}" if quoted else argument


def _texts(override: Override) -> Iterator[str]:
    values: Sequence[object] | Iterator[object]
    if isinstance(override._value, Glob):
        values = override._value.filter(options(override.key_or_group))
    elif override.is_sweep_override():
        values = override.sweep_iterator()
    else:
        values = [override._value]
    for value in values:
        text = value.text if isinstance(value, QuotedString) else format_value(value)
        yield format_value(parse_scalar(text))
