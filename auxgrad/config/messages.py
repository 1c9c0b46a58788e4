"""One line for each error of the config, in the words of the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from auxgrad.config.groups import VALUE_GROUPS, options
from auxgrad.config.schema import BY_MODE_FILE, Config, TrackingConfig
from auxgrad.config.values import format_value, parse_scalar, visible
from auxgrad.errors import ConfigError
from auxgrad.problems.options import Section

# Fields of `Config` that no word of the command line sets.
HIDDEN = ("names", *BY_MODE_FILE)


def explain_hydra(error: Exception) -> str:
    """Return one line for an error of Hydra or OmegaConf."""
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
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
    """Return a line for each key that is unknown, missing or out of range."""
    # What an unknown mode would have brought along is missing too: say only what was wrong.
    items = [item for item in errors if item["type"] != "missing"] or errors
    return "\n".join(_explain(item, _field_of) for item in items)


def explain_options(error: ValidationError, section: str, kind: type[Section]) -> str:
    """Return a line for each option of a problem or of data that is unknown, missing or out of range."""

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
    """Return the keys of the options of a problem or of data."""
    return [f"{section}.{name}" for name in kind.model_fields if name != "data"]


def unknown_key(key: str, value: str, known: Sequence[str] | None = None) -> str:
    """Return the line for a key that the config does not have, with those that it has."""
    if known is None:
        group, _, _ = key.rpartition(".")
        if group == "tracking":
            known = [f"tracking.{name}" for name in TrackingConfig.model_fields]
        else:
            known = [*(name for name in Config.model_fields if name not in HIDDEN), "data"]
    return f"{key}={value}: unknown key; must be one of {', '.join(known)}{nearest(key, known)}"


def check_values(key: str, texts: Iterable[str]) -> None:
    """Raise ConfigError for the first of the values that a value group does not allow."""
    for text in texts:
        value = parse_scalar(text)
        try:
            Config.model_validate({key: value})
        except ValidationError as error:  # Always raised: the other keys are missing.
            if any(item["loc"] == (key,) for item in error.errors()):
                raise ConfigError(_not_allowed(key, value)) from None


def check_at_least(key: str, value: object, least: int, none_allowed: bool = False) -> None:
    """Raise ConfigError unless the value of a launcher's key is a whole number that large, or null."""
    if value is None and none_allowed:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        null = " or null" if none_allowed else ""
        raise ConfigError(f"{key}={format_value(value)}: must be a whole number >= {least}{null}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the hint `(did you mean ...?)`, empty if no known name is near."""
    by_fold = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_fold, n=2, cutoff=0.5)
    return f" (did you mean {' or '.join(by_fold[item] for item in near)}?)" if near else ""


def _key_of(item: Mapping[str, Any]) -> str:
    # An item of a list is reported under the list's key.
    return ".".join(str(part) for part in item["loc"] if isinstance(part, str))


def _field_of(key: str) -> FieldInfo | None:
    group, _, name = key.rpartition(".")
    return (TrackingConfig if group == "tracking" else Config).model_fields.get(name)


def _explain(item: Mapping[str, Any], field_of: Callable[[str], FieldInfo | None]) -> str:
    key, given = _key_of(item), visible(format_value(item["input"]))
    if item["type"] == "extra_forbidden":
        return unknown_key(key, given)
    if item["type"] == "missing":
        return f"{key}: missing from the config"
    if key in VALUE_GROUPS:
        return _not_allowed(key, item["input"])
    if item["type"] == "value_error":  # Of a validator of the user's.
        said = item["ctx"]["error"]
        return f"{key}={given}: {said}" if "." in key else f"{key}: {said}"
    field = field_of(key)
    said = re.sub(r"^(Input should|[Vv]alue must) (be )?", "", item["msg"])
    return f"{key}={given}: must be {(field and field.description) or said}"


def _not_allowed(key: str, value: object) -> str:
    return f"{key}={visible(format_value(value))}: must be {Config.model_fields[key].description}"


def not_an_option(group: str, option: str, known: Sequence[str]) -> str:
    """Return the line for an option that a config group does not have, with those that it has."""
    return f"{group}={option}: must be one of {', '.join(known)}{nearest(option, known)}"
