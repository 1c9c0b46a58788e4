"""Plan a sweep: make its distinct configs without composing each of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from auxgrad.config.composing import check_overrides, choices_of, typed_config, values_of
from auxgrad.config.groups import VALUE_GROUPS, options
from auxgrad.config.overrides import OPTION_PREFIXES, expand_glob, parse_overrides
from auxgrad.config.schema import Config
from auxgrad.config.setting import KNOBS
from auxgrad.config.values import format_value, parse_scalar
from auxgrad.errors import ConfigError

Compose = Callable[[list[str]], DictConfig]


@dataclass(frozen=True)
class Plan:
    """The distinct configs of a sweep.

    Attributes:
        axes: The keys that have several values.
        n_combinations: The number of combinations of all values.
        configs: The distinct configs, in the order in which they are run.
    """

    axes: tuple[str, ...]
    n_combinations: int
    configs: tuple[Config, ...]


@dataclass(frozen=True)
class _Axis:
    """A key with its values, as overrides on the command line (`lines`) and parsed (`values`)."""

    group: str
    lines: tuple[str, ...]
    values: tuple[object, ...]

    def is_plain(self, files: Callable[[str], Iterable[str]]) -> bool:
        """Return whether the values can be put into a composed config without composing it again.

        This is not so if a user's file has the name of a value, because it may set other keys too.
        """
        if self.group in VALUE_GROUPS:
            if self.group == "mode" or any(isinstance(value, str) for value in self.values):
                return False
            own = set(files(self.group)) - set(options(self.group))
            return own.isdisjoint(format_value(value) for value in self.values)
        return len(self.lines) > 1 and all(isinstance(value, int | float) for value in self.values)


def plan(
    compose: Compose,
    arguments: Iterable[str],
    params: Mapping[str, object] | None = None,
    grids: Sequence[Mapping[str, object]] | None = None,
    files: Callable[[str], Iterable[str]] = options,
) -> Plan:
    """Return the distinct configs of a sweep.

    Configs that differ only in a knob that the mode does not use are the same config. One config is
    composed for each combination of modes and other files; numbers are put in afterwards.

    Args:
        compose: A function that returns the composed config of one run from its overrides.
        arguments: The overrides of the command line, including those with several values.
        params: The values of each key, as a list or as text as on the command line. `arguments`
            take precedence.
        grids: Further mappings like `params`. Each of them makes a grid together with `params`.
        files: A function that returns the options of a config group that have a file.

    Returns:
        The plan of the sweep.

    Raises:
        ConfigError: A key or a value is wrong in one of the runs.
    """
    asked = parse_overrides(arguments)
    configs: dict[Config, None] = {}
    n_combinations, swept = 0, []
    for grid in grids or [{}]:
        given = parse_overrides(_word(key, value) for key, value in {**(params or {}), **grid}.items())
        axes = [_axis(override, files) for override in {**given, **asked}.values()]
        swept += [axis.group for axis in axes if len(axis.lines) > 1]
        # Seeds vary fastest, so that runs that can share a compiled model follow one another.
        axes.sort(key=lambda axis: {"lam": 1, "seed": 2}.get(axis.group, 0))
        inner = [axis for axis in axes if axis.is_plain(files)]
        outer = [axis for axis in axes if axis not in inner]
        for fixed in itertools.product(*(axis.lines for axis in outer)):
            words = [*fixed, *(axis.lines[0] for axis in inner)]
            base = compose(words)
            check_overrides(base, words)
            n_combinations += _add_configs(configs, base, inner)
    return Plan(tuple(dict.fromkeys(swept)), n_combinations, tuple(configs))


def _word(key: str, values: object) -> str:
    """Return the override of a key with all its values from YAML, which are a list or a text."""
    if isinstance(values, list | tuple):
        return f"{key}={','.join(format_value(value) for value in values)}"
    return f"{key}={format_value(values)}"


def _add_configs(configs: dict[Config, None], base: DictConfig, inner: Sequence[_Axis]) -> int:
    """Add the configs with all values of the inner axes, and return the number of combinations."""
    make = _maker(base, [axis.group for axis in inner])
    first = [axis.values[0] for axis in inner]
    for place, axis in enumerate(inner):
        for value in axis.values:
            make([*first[:place], value, *first[place + 1 :]])
    # All values have been validated. One value is enough for a knob that the mode does not use.
    relevant = [axis.group not in KNOBS or axis.group in base.mode_uses for axis in inner]
    choices = [
        axis.values if matters else axis.values[:1]
        for axis, matters in zip(inner, relevant, strict=True)
    ]
    for chosen in itertools.product(*choices):
        configs.setdefault(make(chosen).normalise())
    return math.prod(len(axis.values) for axis in inner)


def _maker(base: DictConfig, keys: Sequence[str]) -> Callable[[Sequence[object]], Config]:
    """Return a function that makes a config from the composed one and values of these keys."""
    choices, values = choices_of(base.hydra), values_of(base)
    if values == values_of(base, resolve=False):
        if not any(key.startswith(OPTION_PREFIXES) for key in keys):
            made = typed_config(values, choices)
            values.pop("data", None)
            values.update(problem=made.problem, names=made.names)
        return lambda chosen: typed_config(
            _replaced(values, dict(zip(keys, chosen, strict=True))), choices
        )
    plain = OmegaConf.masked_copy(base, [str(key) for key in base if key != "hydra"])

    def interpolated(chosen: Sequence[object]) -> Config:
        # A value is interpolated from others, so that OmegaConf has to resolve it.
        for key, value in zip(keys, chosen, strict=True):
            OmegaConf.update(plain, key, value, force_add=True)
        return typed_config(values_of(plain), choices)

    return interpolated


def _replaced(values: Mapping[Any, Any], changes: Mapping[str, object]) -> dict[Any, Any]:
    """Return the nested values with the values at these dotted keys replaced."""
    made = dict(values)
    for key, value in changes.items():
        group, _, rest = key.partition(".")
        made[group] = _replaced(made.get(group, {}), {rest: value}) if rest else value
    return made


def _axis(override: Override, files: Callable[[str], Iterable[str]]) -> _Axis:
    key, group = override.get_key_element(), override.key_or_group
    values: list[object]
    if names := expand_glob(override, files):
        lines = [f"{key}={name}" for name in names]
        values = [*names]
    elif not override.is_sweep_override():
        lines = [override.input_line or ""]
        values = [override.value()]
    elif override.is_discrete_sweep():
        lines = [f"{key}={text}" for text in override.sweep_string_iterator()]
        values = list(override.sweep_iterator())
    else:
        raise ConfigError(
            f"{override.input_line}: the grid sweeper needs single values; "
            "hydra/sweeper=optuna searches intervals"
        )
    if not lines:
        raise ConfigError(f"{override.input_line}: has no value")
    if group == "experiment" and len(lines) > 1:
        raise ConfigError(f"{override.input_line}: only one experiment at a time")
    if group in VALUE_GROUPS:
        values = [parse_scalar(line.partition("=")[2].strip("'")) for line in lines]
    return _Axis(group, tuple(lines), tuple(values))
