"""Parse the overrides of the command line with Hydra's grammar.

Hydra accepts only strings as options of a group. `quote_values` therefore converts each value of a value
group to a quoted string, and the config source `value://` (hydra_plugins/auxgrad) provides options that
have no file.

This is the only module that uses private parts of Hydra: `Override._value`, because the public
`value()` does not accept a glob, and `get_args_parser`, because Hydra has no other way to parse its
flags before it acts on them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, RangeSweep, ValueType
from hydra.errors import HydraException

from auxgrad.config.groups import VALUE_GROUPS, options
from auxgrad.config.values import escape_controls, format_value, parse_scalar, quote
from auxgrad.errors import ConfigError

# Prefixes of the keys that set options of the user's classes. Any such key is passed on to Hydra.
OPTION_PREFIXES = ("problem.", "data.")
# An argument whose value may be put into quotes, because it contains no syntax of Hydra's grammar.
QUOTABLE = re.compile(r"(\+{0,2}[A-Za-z_][\w.@/:-]*)=(?!\w+\()([^][{}'\",]+)", re.DOTALL)
MAX_VALUES = 100_000  # The largest number of values in a range; each value is a run.

__all__ = [
    "OPTION_PREFIXES",
    "expand_glob",
    "format_flags",
    "get_args_parser",
    "parse_flags",
    "parse_overrides",
    "parse_values",
    "quote_values",
]


def parse_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the flags and the overrides of a command line, in any order.

    Args:
        arguments: the arguments of `auxgrad.train`.

    Returns:
        The flags, with the overrides as `overrides`.

    Raises:
        ConfigError: a flag is unknown or has a wrong value, or an override begins with a dash.
        SystemExit: the version was requested, and has been printed.
    """
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            # Unlike Hydra's own call, this accepts flags between overrides.
            given = get_args_parser().parse_intermixed_args(arguments)
    except SystemExit as ending:
        if not ending.code:  # The version was requested.
            raise
        reason = " ".join(output.getvalue().partition(": error: ")[2].split())
        raise ConfigError(
            f"{reason}; --hydra-help lists the flags, and options are written key=value"
        ) from None
    for override in given.overrides:
        if override.startswith("-"):  # After the separator "--", or a negative number.
            raise ConfigError(f"{override}: must be key=value")
    return given


def format_flags(given: argparse.Namespace) -> list[str]:
    """Return the flags as words of a command line, without the overrides.

    >>> format_flags(parse_flags(["lam=3", "-m", "-cd", "conf", "seed=1"]))
    ['--multirun', '--config-dir=conf']

    Args:
        given: the result of `parse_flags`.
    """
    return [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in vars(given).items()
        if name != "overrides" and value not in (None, False)
    ]


def parse_overrides(arguments: Iterable[str]) -> dict[str, Override]:
    """Parse overrides, with the values of value groups as quoted strings.

    Args:
        arguments: the overrides of the command line.

    Returns:
        The overrides by key; the last one of each key.

    Raises:
        HydraException: an override cannot be parsed.
        ConfigError: an override is not key=value, or its range is too long.
    """
    parser = OverridesParser.create()
    parsed = [_parse(parser, argument) for argument in quote_values(arguments)]
    return {override.key_or_group: override for override in parsed}


def parse_values(arguments: Iterable[str]) -> dict[str, list[str]]:
    """Parse key=value arguments that may have several values each.

    >>> parse_values(["mode=Projection,Multitask", "lam=1e2", "problem.hidden=[8, 8]"])
    {'mode': ['Projection', 'Multitask'], 'lam': ['100'], 'problem.hidden': ['[8,8]']}

    Args:
        arguments: the arguments of the command line.

    Returns:
        All values of each key, in the form of `format_value`.

    Raises:
        HydraException: an argument cannot be parsed.
        ValueError: an argument is not key=value.
        ConfigError: a range is too long, or a text contains control characters.
    """
    values: dict[str, list[str]] = {}
    parser = OverridesParser.create()
    for argument in arguments:
        _check_text(argument)
        override = _parse(parser, _quote_if_needed(parser, argument)) if "=" in argument else None
        if (
            override is None
            or override.is_delete()
            or override.is_add()
            or override.value_type is ValueType.INTERVAL_SWEEP
            or (isinstance(override._value, Glob) and override.key_or_group not in VALUE_GROUPS)
        ):
            raise ValueError(f"{argument}: must be key=value or key=value,value,...")
        values.setdefault(override.key_or_group, []).extend(_texts(override))
    return values


def quote_values(arguments: Iterable[str]) -> list[str]:
    """Convert arguments of the command line to those that Hydra accepts.

    Values of value groups become quoted strings: single values, lists, `range(...)` and `glob(...)`.
    Intervals, for other sweepers, are not changed. Keys of `problem` and `data` get the prefix `++`,
    because a YAML file need not list the options of its class. A value outside Hydra's grammar, such as
    a path with an umlaut, is put into quotes. All other arguments are not changed.

    >>> quote_values(["mode=Orthogonal", "lam=1,42.5", "seed=range(3)", "--multirun", "data.path=a"])
    ['mode=Orthogonal', "lam='1','42.5'", "seed='0','1','2'", '--multirun', '++data.path=a']

    Args:
        arguments: overrides and flags.

    Raises:
        ConfigError: a glob matches nothing, a range is too long, or a text contains control characters.
    """
    parser = OverridesParser.create()
    quoted = []
    for argument in arguments:
        _check_text(argument)
        quoted.append(_quote(parser, _quote_if_needed(parser, argument)))
    return quoted


def expand_glob(override: Override, names: Callable[[str], Iterable[str]]) -> list[str] | None:
    """Return the options that the glob of an override matches.

    Args:
        override: any override.
        names: a function that returns the options of a config group.

    Returns:
        The options; None if the value of the override is not a glob.

    Raises:
        ConfigError: the glob matches no option.
    """
    if not isinstance(override._value, Glob):
        return None
    known = list(names(override.key_or_group))
    matched = override._value.filter(known)
    if not matched:
        raise ConfigError(f"{override.input_line}: matches none of {', '.join(known)}")
    return list(matched)


def _check_text(argument: str) -> None:
    """Raise ConfigError for an argument that cannot be shown in one line or stored in a file."""
    shown = escape_controls(argument.replace("\t", " "))
    # Python represents bytes that it cannot decode by surrogates.
    if any("\ud800" <= char <= "\udfff" for char in argument):
        raise ConfigError(f"{shown}: is not text in this locale; for UTF-8 set LC_ALL=C.UTF-8")
    if len(shown) != len(argument):
        raise ConfigError(f"{shown}: has a line break or another control character; leave it out")


def _parse(parser: OverridesParser, argument: str) -> Override:
    """Parse an override; raise HydraException, or ConfigError for a range that is too long."""
    try:
        override = parser.parse_override(argument)
    except ValueError as error:  # Raised for a number with thousands of digits.
        raise ConfigError(f"{argument}: {error}") from None
    if not override.key_or_group:
        raise ConfigError(f"{argument}: must be key=value")
    found = override._value
    if isinstance(found, RangeSweep):
        start, stop, step = found.start or 0, found.stop or 0, found.step
        if step == 0 or not (stop - start) / step <= MAX_VALUES:
            raise ConfigError(f"{argument}: must be a range of at most {MAX_VALUES:,} values")
    return override


def _quote_if_needed(parser: OverridesParser, argument: str) -> str:
    """Return the argument, with its value in quotes if Hydra cannot parse it otherwise."""
    if argument.startswith("-"):
        return argument
    try:
        _parse(parser, argument)
    except HydraException:
        if pair := QUOTABLE.fullmatch(argument):
            return f"{pair[1]}={quote(pair[2].strip())}"
    return argument


def _quote(parser: OverridesParser, argument: str) -> str:
    if argument.startswith(OPTION_PREFIXES) and "=" in argument:
        return f"++{argument}"
    key = argument.partition("=")[0].lstrip("+")
    if key not in VALUE_GROUPS or argument == key:
        return argument
    try:
        override = _parse(parser, argument)
    except HydraException:
        return argument  # Hydra reports the error, with its position.
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
