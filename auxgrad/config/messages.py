"""Error messages of the config: one line for each error, in terms of the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hydra.errors import OverrideParseException
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from auxgrad.config.groups import VALUE_GROUPS, options
from auxgrad.config.schema import MODE_FILE_KEYS, Config, TrackingConfig
from auxgrad.config.values import escape_controls, format_value, parse_scalar
from auxgrad.errors import ConfigError, suggestion
from auxgrad.problems.options import Section

# Fields of `Config` that the command line cannot set.
NOT_SETTABLE = ("names", *MODE_FILE_KEYS)


def explain_hydra(error: Exception) -> str:
    """Return the message for an error of Hydra or OmegaConf, in one line."""
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read ({text.partition(' See https:')[0]})"
    if match := re.search(r"Could not override '([^']+)'.*?use \+(\S+)", text):
        key, value = match[1], match[2].partition("=")[2]
        return f"data={value}: the problem takes no data" if key == "data" else unknown_key(key, value)
    if match := re.search(r"Could not find '([\w/]+)/([^'/]*)'", text):
        group, option = match.groups()
        if group in VALUE_GROUPS:
            return _not_allowed(group, option)
        listed = re.search(r"Available options in '[^']+': (.*?)(?: Config search path|$)", text)
        return not_an_option(group, option, listed[1].split() if listed else options(group))
    if match := re.search(r"Ambiguous value for argument '([^=]+)=(.*?)' 1\.", text):
        values = match[2].replace("'", "")
        return f"{match[1]}={values}: several values; add --multirun to sweep over them"
    return text


def explain_validation(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return one line for each key that is unknown, missing or out of range.

    Args:
        errors: the errors of pydantic's validation of a `Config`.
    """
    # If the mode is unknown, the keys that its file sets are missing too. Report only the cause.
    items = [item for item in errors if item["type"] != "missing"] or errors
    return "\n".join(_explain(item, _field_of) for item in items)


def explain_options(error: ValidationError, section: str, kind: type[Section]) -> str:
    """Return one line for each option that is unknown, missing or out of range.

    Args:
        error: the error of pydantic's validation.
        section: "problem" or "data".
        kind: the class of the problem or of the data.
    """

    def field_of(key: str) -> FieldInfo | None:
        return kind.model_fields.get(key.partition(".")[2])

    lines = []
    for item in error.errors():
        located = {**item, "loc": (section, *item["loc"])}
        if item["type"] == "extra_forbidden":
            key = _key_of(located)
            known = known_options(section, kind)
            lines.append(unknown_key(key, format_value(item["input"]), known))
        else:
            lines.append(_explain(located, field_of))
    return "\n".join(lines)


def known_options(section: str, kind: type[Section]) -> Sequence[str]:
    """Return the keys of the options of a problem or of a choice of data.

    Args:
        section: "problem" or "data".
        kind: its class.
    """
    return [f"{section}.{name}" for name in kind.model_fields if name != "data"]


def unknown_key(key: str, value: str, known: Sequence[str] | None = None) -> str:
    """Return the message for an unknown key, with the keys that exist.

    Args:
        key: the unknown key.
        value: its value.
        known: the keys that exist; by default those of the config.
    """
    if known is None:
        group, _, _ = key.rpartition(".")
        if group == "tracking":
            known = [f"tracking.{name}" for name in TrackingConfig.model_fields]
        else:
            known = [*(name for name in Config.model_fields if name not in NOT_SETTABLE), "data"]
    return f"{key}={value}: unknown key; must be one of {', '.join(known)}{suggestion(key, known)}"


def check_values(key: str, texts: Iterable[str]) -> None:
    """Check values of a value group.

    Args:
        key: the value group, such as lam.
        texts: the values as text.

    Raises:
        ConfigError: for the first value that is not allowed.
    """
    for text in texts:
        value = parse_scalar(text)
        try:
            Config.model_validate({key: value})
        except ValidationError as error:  # Always raised: the other keys are missing.
            if any(item["loc"] == (key,) for item in error.errors()):
                raise ConfigError(_not_allowed(key, value)) from None


def check_at_least(key: str, value: object, least: int, none_allowed: bool = False) -> None:
    """Check that the value of a key is a whole number that is large enough.

    Args:
        key: the key, such as one of a launcher.
        value: its value.
        least: the smallest number allowed.
        none_allowed: whether null is allowed too.

    Raises:
        ConfigError: the value is not allowed.
    """
    if value is None and none_allowed:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        null = " or null" if none_allowed else ""
        raise ConfigError(f"{key}={format_value(value)}: must be a whole number >= {least}{null}")


def _key_of(item: Mapping[str, Any]) -> str:
    # Pydantic locates an error in a list by the index of the item, which is omitted here.
    return ".".join(str(part) for part in item["loc"] if isinstance(part, str))


def _field_of(key: str) -> FieldInfo | None:
    group, _, name = key.rpartition(".")
    return (TrackingConfig if group == "tracking" else Config).model_fields.get(name)


def _explain(item: Mapping[str, Any], field_of: Callable[[str], FieldInfo | None]) -> str:
    key, given = _key_of(item), escape_controls(format_value(item["input"]))
    if item["type"] == "extra_forbidden":
        return unknown_key(key, given)
    if item["type"] == "missing":
        return f"{key}: missing from the config"
    if key in VALUE_GROUPS:
        return _not_allowed(key, item["input"])
    if item["type"] == "value_error":  # Raised by a validator in the user's code.
        reason = item["ctx"]["error"]
        return f"{key}={given}: {reason}" if "." in key else f"{key}: {reason}"
    field = field_of(key)
    requirement = re.sub(r"^(Input should|[Vv]alue must) (be )?", "", item["msg"])
    return f"{key}={given}: must be {(field and field.description) or requirement}"


def _not_allowed(key: str, value: object) -> str:
    return (
        f"{key}={escape_controls(format_value(value))}: must be {Config.model_fields[key].description}"
    )


def not_an_option(group: str, option: str, known: Sequence[str]) -> str:
    """Return the message for an unknown option of a config group, with the options that exist.

    Args:
        group: the config group.
        option: the unknown option.
        known: the options that exist.
    """
    return f"{group}={option}: must be one of {', '.join(known)}{suggestion(option, known)}"
