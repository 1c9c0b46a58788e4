"""The command line's words, parsed by Hydra's grammar.

Hydra takes only strings as options of a group: `quote_values` turns every value of a value group into a
quoted string, and the source `value://` (hydra_plugins/auxgrad) answers for options that have no file.
The only module that uses private parts of Hydra: `Override._value`, since the public `value()` refuses a
glob, and `get_args_parser`, since Hydra offers no other way to see its flags before it acts on them.
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
from auxgrad.config.values import format_value, parse_scalar, quote, visible
from auxgrad.errors import ConfigError

# How the keys of options of classes begin, as which Hydra takes any.
OPTIONS = ("problem.", "data.")
# A word whose value may be put into quotes: a pair without a sign that has a meaning in a value.
QUOTABLE = re.compile(r"(\+{0,2}[A-Za-z_][\w.@/:-]*)=(?!\w+\()([^][{}'\",]+)", re.DOTALL)
MOST_VALUES = 100_000  # Of a range; each is a run.

__all__ = [
    "OPTIONS",
    "expand_glob",
    "get_args_parser",
    "parse_flags",
    "parse_overrides",
    "parse_values",
    "quote_values",
]


def parse_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the flags and the overrides of a command line. Raises ConfigError for an unknown flag."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return get_args_parser().parse_args(arguments)
    except SystemExit as ending:
        if not ending.code:  # It was asked for the version.
            raise
    reason = " ".join(said.getvalue().partition(": error: ")[2].split())
    raise ConfigError(f"{reason}; --hydra-help lists the flags")


def parse_overrides(words: Iterable[str]) -> dict[str, Override]:
    """Return the overrides by key, value groups quoted; the last one of a key counts."""
    parser = OverridesParser.create()
    parsed = [_parse(parser, word) for word in quote_values(words)]
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
        _check_text(word)
        override = _parse(parser, _readable(parser, word)) if "=" in word else None
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
    may be new to Hydra, since a file need not list the options that a class has. A value that is no word
    of Hydra's grammar, such as a path with an umlaut, is put into quotes. All else is left alone.

    >>> quote_values(["mode=Orthogonal", "lam=1,42.5", "seed=range(3)", "--multirun", "data.path=a"])
    ['mode=Orthogonal', "lam='1','42.5'", "seed='0','1','2'", '--multirun', '++data.path=a']
    """
    parser = OverridesParser.create()
    quoted = []
    for argument in arguments:
        _check_text(argument)
        quoted.append(_quote(parser, _readable(parser, argument)))
    return quoted


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


def _check_text(word: str) -> None:
    """Raise ConfigError for a word that no message could show in one line, or no file keep."""
    shown = visible(word.replace("\t", " "))
    if any(
        "\ud800" <= char <= "\udfff" for char in word
    ):  # How Python stands for bytes it cannot decode.
        raise ConfigError(f"{shown}: is not text in this locale; with LC_ALL=C.UTF-8 UTF-8 is")
    if len(shown) != len(word):
        raise ConfigError(f"{shown}: has a line break or another control character; leave it out")


def _parse(parser: OverridesParser, word: str) -> Override:
    """The override of a word. Raises HydraException, and ConfigError for a range that has no end."""
    try:
        override = parser.parse_override(word)
    except ValueError as error:  # Of a number with thousands of digits.
        raise ConfigError(f"{word}: {error}") from None
    if not override.key_or_group:
        raise ConfigError(f"{word}: must be key=value")
    found = override._value
    if isinstance(found, RangeSweep):
        start, stop, step = found.start or 0, found.stop or 0, found.step
        if step == 0 or not (stop - start) / step <= MOST_VALUES:
            raise ConfigError(f"{word}: must be a range of at most {MOST_VALUES:,} values")
    return override


def _readable(parser: OverridesParser, argument: str) -> str:
    """The argument, with its value in quotes if Hydra cannot read it else."""
    if argument.startswith("-"):
        return argument
    try:
        _parse(parser, argument)
    except HydraException:
        if pair := QUOTABLE.fullmatch(argument):
            return f"{pair[1]}={quote(pair[2].strip())}"
    return argument


def _quote(parser: OverridesParser, argument: str) -> str:
    if argument.startswith(OPTIONS) and "=" in argument:
        return f"++{argument}"
    key = argument.partition("=")[0].lstrip("+")
    if key not in VALUE_GROUPS or argument == key:
        return argument
    try:
        override = _parse(parser, argument)
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
