"""Groups whose options are values: `lam=42.5` works although there is no file `lam/42.5.yaml`.

Hydra takes only strings as options of a group. `quote_values` is the front door that turns every value
of these groups into a quoted string, and the source `value://` (hydra_plugins/auxgrad) answers for the
options that have no file. The files are presets.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString, ValueType
from hydra.errors import HydraException
from omegaconf import OmegaConf

# `mode` is among them only so that the schema, not Hydra, answers for a name that does not exist.
VALUE_GROUPS = ("mode", "lam", "alpha", "overall", "seed")


def conf_dir() -> Path:
    """The folder `conf/`: inside an installed package, else beside it in a checkout."""
    installed = Path(__file__).parent / "conf"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "conf"


def options(group: str) -> list[str]:
    """Names of the files of a config group, numbers in numerical order.

    >>> options("lam")
    ['1', '3', '10', '30', '100', '300']
    """

    def order(name: str) -> tuple[float, str]:
        value = parse_scalar(name)
        return (value if isinstance(value, int | float) else math.inf, name)

    return sorted((file.stem for file in (conf_dir() / group).glob("*.yaml")), key=order)


@functools.cache
def preset(group: str, option: str) -> dict[str, Any]:
    """The content of a file of a config group.

    >>> preset("mode", "Multitask")["mode_uses"]
    ['lam']
    """
    loaded = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{option}.yaml"))
    assert isinstance(loaded, dict)
    return {str(key): value for key, value in loaded.items()}


def parse_scalar(text: str) -> int | float | bool | str:
    """The value that an option's name stands for.

    >>> [parse_scalar(text) for text in ("100", "1e-2", "true", "Orthogonal")]
    [100, 0.01, True, 'Orthogonal']
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def format_value(value: object) -> str:
    """The shortest text for the command line that means this value, the same for 100 and 100.0.

    >>> [format_value(value) for value in (100, 100.0, 0.01, True, [8, 16.0])]
    ['100', '100', '0.01', 'true', '[8,16]']
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(format_value(item) for item in value)}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def parse_values(words: Iterable[str]) -> dict[str, list[str]]:
    """Keys with all their values, as `format_value` writes them.

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
        ):
            raise ValueError(f"{word}: must be key=value or key=value,value,...")
        values.setdefault(override.key_or_group, []).extend(_texts(override))
    return values


def quote(text: str) -> str:
    """The text as a string of Hydra's grammar, whatever is in it."""
    return "'" + text.replace("'", "\\'") + "'"


def quote_values(arguments: Iterable[str]) -> list[str]:
    """Command line arguments, with the values of the value groups as quoted strings.

    Single values, lists, `range(...)` and `glob(...)` are understood; everything else, intervals for
    other sweepers included, passes unchanged.

    >>> quote_values(["mode=Orthogonal", "lam=1,42.5", "seed=range(3)", "--multirun", "data.path=a"])
    ["mode='Orthogonal'", "lam='1','42.5'", "seed='0','1','2'", '--multirun', 'data.path=a']
    """
    parser = OverridesParser.create()
    return [_quote(parser, argument) for argument in arguments]


def _quote(parser: OverridesParser, argument: str) -> str:
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
