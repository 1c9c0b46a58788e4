"""One line for each error of the config, in the words of the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from auxgrad.config.groups import VALUE_GROUPS, options
from auxgrad.config.schema import BY_MODE_FILE, SECTIONS, Config
from auxgrad.config.values import format_value, parse_scalar
from auxgrad.errors import ConfigError


def explain_hydra(error: Exception) -> str:
    """Return one line for an error of Hydra or OmegaConf."""
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    if match := re.search(r"Could not override '([^']+)'.*?use \+(\S+)", text):
        return unknown_key(match[1], match[2].partition("=")[2])
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


def explain_validation(error: ValidationError) -> str:
    """Return a line for each key that is unknown, missing or out of range."""
    # What an unknown mode would have brought along is missing too: say only what was wrong.
    items = [item for item in error.errors() if item["type"] != "missing"] or error.errors()
    return "\n".join(_explain(item) for item in items)


def unknown_key(key: str, value: str) -> str:
    """Return the line for a key that the config does not have, with those that it has."""
    group, _, _ = key.rpartition(".")
    prefix = f"{group}." if group in SECTIONS else ""
    fields = SECTIONS.get(group, Config).model_fields
    known = [prefix + name for name in fields if name not in ("name", *BY_MODE_FILE)]
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


def _explain(item: Mapping[str, Any]) -> str:
    # An item of a list is reported under the list's key.
    key = ".".join(str(part) for part in item["loc"] if isinstance(part, str))
    given = format_value(item["input"])
    if item["type"] == "extra_forbidden":
        return unknown_key(key, given)
    if item["type"] == "missing":
        return f"{key}: missing from the config"
    if key in VALUE_GROUPS:
        return _not_allowed(key, item["input"])
    group, _, name = key.rpartition(".")
    field = SECTIONS.get(group, Config).model_fields.get(name)
    return f"{key}={given}: must be {(field and field.description) or item['msg']}"


def _not_allowed(key: str, value: object) -> str:
    return f"{key}={format_value(value)}: must be {Config.model_fields[key].description}"


def not_an_option(group: str, option: str, known: Sequence[str]) -> str:
    """Return the line for an option that a config group does not have, with those that it has."""
    return f"{group}={option}: must be one of {', '.join(known)}{nearest(option, known)}"
