"""Create the problem and the data of a run from the classes that their YAML files name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import MISSING
from pydantic import ValidationError
from pydantic_core import PydanticUndefined, to_jsonable_python

from auxgrad.config.code.loading import load_class
from auxgrad.config.groups import options, preset
from auxgrad.config.identity import Names
from auxgrad.config.messages import explain_options, known_options, unknown_key
from auxgrad.config.values import format_value
from auxgrad.errors import ConfigError
from auxgrad.problems.base import DataSource, Problem

TARGET = "_target_"


def make_problem(
    values: Mapping[str, Any], data: Mapping[str, Any] | None, choices: Mapping[str, str | None]
) -> tuple[Problem, Names]:
    """Create the problem of a composed config.

    Args:
        values: the section `problem`.
        data: the section `data`; None if there is none.
        choices: the names of the files of the two sections, if they come from files.

    Returns:
        The problem, with its data, and the names of both.

    Raises:
        ConfigError: one line for each key that is unknown, missing or out of range; or a class that
            cannot be imported or is not derived from `Problem`; or data for a problem that takes none.
    """
    given = dict(values)
    kind = _class_of("problem", given, Problem)
    name = choices.get("problem") or kind.__name__.lower()
    if data is not None:
        if "data" not in kind.model_fields:
            option = next(
                (f"data.{key}={format_value(data[key])}" for key in data if key != TARGET), "data"
            )
            chosen = choices.get("data")
            raise ConfigError(f"{f'data={chosen}' if chosen else option}: problem={name} takes no data")
        own, wanted = dict(data), kind.model_fields["data"].annotation
        made = given["data"] = _make("data", _class_of("data", own, DataSource), own)
        if isinstance(wanted, type) and not isinstance(made, wanted):
            chosen = choices.get("data") or type(made).__name__
            raise ConfigError(f"data={chosen}: problem={name} takes data of class {wanted.__name__}")
    problem: Problem = _make("problem", kind, given)
    return problem, _names(problem, name, choices.get("data"))


def _names(problem: Problem, name: str, data_name: str | None) -> Names:
    shown = ["problem"] if name != default_problem() else []
    data = getattr(problem, "data", None)
    if not isinstance(data, DataSource):
        return Names(name, shown=tuple(shown))
    if type(data) is not type(type(problem).model_fields["data"].default):
        shown.append("data")
    return Names(name, data_name or type(data).__name__.lower(), tuple(shown))


def default_problem() -> str:
    """Return the name of the problem that conf/config.yaml chooses."""
    defaults: list[Any] = preset("", "config")["defaults"]
    return str(
        next(each["problem"] for each in defaults if isinstance(each, dict) and "problem" in each)
    )


def _class_of(section: str, values: dict[str, Any], base: type) -> Any:
    """Return the class that a section names, and remove its name from the values."""
    target = values.pop(TARGET, None)
    if not isinstance(target, str):
        raise ConfigError(f"{section}: its file must name a class, as in {TARGET}: module.Class")
    kind = load_class(f"{section}.{TARGET}", target, base)
    if missing := sorted(kind.__abstractmethods__):
        raise ConfigError(f"{section}.{TARGET}={target}: has no method {', '.join(missing)}")
    return kind


def _make(section: str, kind: Any, values: Mapping[str, Any]) -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain_options(error, section, kind)) from None


def unset_options(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of problem and data that a config leaves to the defaults of their classes.

    Args:
        sections: the sections `problem` and `data` of a config, as far as it has them.

    Returns:
        The default of each option as a JSON value, by key, such as problem.epochs; MISSING if the option
        has no default.

    Raises:
        ConfigError: a class cannot be imported, or has the wrong type.
    """
    found: dict[str, Any] = {}
    for section, values in sections.items():
        kind = _class_of(section, dict(values), Problem if section == "problem" else DataSource)
        for name, field in kind.model_fields.items():
            if name != "data" and name not in values:
                default = field.get_default(call_default_factory=True)
                is_missing = default is PydanticUndefined
                found[f"{section}.{name}"] = MISSING if is_missing else to_jsonable_python(default)
    return found


def check_option(key: str, value: str, problem: str, data: str | None) -> None:
    """Check that a packaged problem, or its data, has an option.

    Args:
        key: such as problem.epochs.
        value: the value that the user gave, for the message.
        problem: the name of the problem.
        data: the name of the data; None for that which the file of the problem chooses.

    Raises:
        ConfigError: a packaged class does not have the option.
    """
    section, _, name = key.partition(".")
    option = problem if section == "problem" else data
    if option is None and problem in options("problem"):
        defaults = preset("problem", problem).get("defaults", [])
        option = next((each["/data@_global_.data"] for each in defaults if isinstance(each, dict)), None)
    if option is None or option not in options(section):
        return  # A file of the user, which is not known here, or an unknown name, which Hydra reports.
    base = Problem if section == "problem" else DataSource
    kind = _class_of(section, preset(section, option).copy(), base)
    if name.partition(".")[0] not in kind.model_fields:
        raise ConfigError(
            unknown_key(key, value, known_options(section, kind)) + _elsewhere(section, name)
        )


def _elsewhere(section: str, name: str) -> str:
    """Return a hint if another packaged problem or choice of data has an option."""
    base = Problem if section == "problem" else DataSource
    for option in options(section):
        if name in _class_of(section, preset(section, option).copy(), base).model_fields:
            return f" ({section}={option} has {section}.{name})"
    return ""
