"""The identity of a run: all that determines its result. Names, keys and parameters derive from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from auxgrad.config.code.source import version_of
from auxgrad.config.setting import RUN_KEYS, Setting
from auxgrad.config.values import format_value
from auxgrad.problems.base import Named, options_of

# Increment this with every change of the result of a given config. Runs of older versions then have
# another key and do not count as finished.
METHOD_VERSION = 5
NOT_IN_KEY = ("names", "changes")  # Fields that do not influence the result.


@dataclass(frozen=True)
class Names:
    """The names of the problem and its data: the options of the groups `problem` and `data`.

    Attributes:
        problem: the name of the problem's file.
        data: the name of the data's file; empty if the problem has no choice of data.
        shown: those of the two groups that the name of a setting shows, because they are not the
            defaults.
    """

    problem: str
    data: str = ""
    shown: tuple[str, ...] = ()

    @property
    def overrides(self) -> dict[str, str]:
        """The overrides of the command line that choose problem and data, by group."""
        given = {"problem": self.problem, "data": self.data}
        return {key: f"{key}={name}" for key, name in given.items() if name}


@dataclass(frozen=True)
class Identity:
    """All that determines the result of a run. Runs with equal identities give equal numbers.

    The location of the data, the tracking store, the launcher and the output folders are not part of it.

    Attributes:
        mode: the name of the mode.
        lam: the weight of the auxiliary loss; neutral if the mode does not use it.
        alpha: the coefficient of the moving average; neutral if the mode does not use it.
        overall: whether one decision holds for all variables; neutral if the mode does not use it.
        seed: the seed of initial weights and batch order.
        rule: the dotted name and the version of the function of the mode.
        uses: the knobs that the mode uses.
        problem: the dotted name, the version and the options of the problem.
        data: the same for the choice of data, if there is one, and the fingerprint of the data.
        names: the names of problem and data; they do not influence the result.
        changes: the options that differ from the defaults of their class, as overrides of the command
            line; they do not influence the result beyond `problem` and `data`.
        on_nan: what happens if the loss is NaN, as in `Config`.
        method: the `METHOD_VERSION` of the code.
    """

    mode: str
    lam: float
    alpha: float
    overall: bool
    seed: int
    rule: Mapping[str, str]
    uses: tuple[str, ...]
    problem: Mapping[str, Any]
    data: Mapping[str, Any]
    names: Names
    changes: tuple[str, ...]
    on_nan: str = "stop"
    method: int = METHOD_VERSION

    @staticmethod
    def from_json(text: str) -> Identity:
        """Return the identity that `to_json` wrote.

        Args:
            text: the JSON text.

        Raises:
            ValueError: the text is not that of an identity.
        """
        try:
            fields = json.loads(text)
            made: dict[str, Any] = {key: tuple(fields[key]) for key in ("uses", "changes")}
            made["names"] = _names(fields["names"])
            return Identity(**{**fields, **made})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None

    def to_json(self) -> str:
        """Return the identity as JSON; equal identities have equal texts."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def key(self) -> str:
        """The SHA-256 of the identity, by which a sweep recognises a finished run."""
        return _digest(self._without(*NOT_IN_KEY))

    @property
    def setting_key(self) -> str:
        """The SHA-256 of the identity without the seed, which is common to the runs of one average."""
        return _digest(self._without(*NOT_IN_KEY, "seed"))

    def _without(self, *names: str) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name not in names}

    @property
    def study_key(self) -> str:
        """The JSON of problem, data, `on_nan` and method: runs that differ in it are never compared."""
        study = ("problem", "data", "on_nan", "method")
        return json.dumps({name: getattr(self, name) for name in study}, sort_keys=True)

    @property
    def setting(self) -> Setting:
        """The mode and its knobs."""
        return Setting(self.mode, self.overall, self.alpha, self.lam, self.uses)

    @property
    def study_name(self) -> str:
        """The names of problem and data, and the options that were changed, for the user."""
        return " ".join([*self.names.overrides.values(), *self.changes])

    @property
    def setting_name(self) -> str:
        """The name of the setting with all that differs from the defaults, for the user."""
        names = [text for key, text in self.names.overrides.items() if key in self.names.shown]
        version = self.rule["version"].removeprefix("version ")[:8]
        rule = [f"rule={version}"] if version else []
        return " ".join([self.setting.name, *rule, *names, *self.changes, *self._source])

    @property
    def _source(self) -> list[str]:
        """The part of a name that distinguishes versions of the user's problem and data."""
        versions = [self.problem["version"], self.data.get("version", "")]
        fingerprint = self.data["fingerprint"]
        if not any(versions) or not fingerprint:
            return []
        return [f"source={_digest([*versions, fingerprint])[:8]}"]

    @property
    def name(self) -> str:
        """The name of the setting with the seed, for the user."""
        return f"{self.setting_name} seed={self.seed}"

    def option(self, key: str) -> str | None:
        """Return the value of a key of the config as text.

        Args:
            key: such as `mode`, `seed`, `data` or `problem.hidden`.

        Returns:
            The text, or None if the identity does not have the key.
        """
        group, _, name = key.partition(".")
        if group in ("problem", "data"):
            if not name:
                return getattr(self.names, group) or None
            options = getattr(self, group).get("options", {})
            return format_value(options[name]) if name in options else None
        return format_value(getattr(self, key)) if key in RUN_KEYS else None

    @property
    def option_keys(self) -> list[str]:
        """The keys of the options of problem and data, such as `problem.hidden`."""
        sections = {"problem": self.problem, "data": self.data}
        return [f"{group}.{key}" for group in sections for key in sections[group].get("options", {})]

    @property
    def params(self) -> dict[str, str]:
        """The parameters of the run in MLflow."""
        knobs = {key: format_value(getattr(self, key)) for key in RUN_KEYS}
        names = {"problem": self.names.problem, "data": self.names.data}
        given = {key: name for key, name in names.items() if name}
        return {**knobs, **given, "config": self.setting_name}


def _names(fields: Mapping[str, Any]) -> Names:
    return Names(fields["problem"], fields["data"], tuple(fields["shown"]))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def target_of(named: Named) -> str:
    """Return the dotted name of the class of a problem or of a choice of data."""
    return f"{type(named).__module__}.{type(named).__qualname__}"


def describe(section: str, named: Named) -> dict[str, Any]:
    """Return the part of an identity that describes a problem or a choice of data.

    Args:
        section: "problem" or "data".
        named: the problem or the choice of data.

    Returns:
        Its dotted name, its version and its options.
    """
    version = version_of(f"{section}._target_", type(named))
    return {"target": target_of(named), "version": version, "options": options_of(named)}


def changes(section: str, named: Named) -> list[str]:
    """Return the options that differ from the defaults of their class, as overrides of the command line.

    Options that cannot influence a result are omitted.

    Args:
        section: "problem" or "data".
        named: the problem or the choice of data.
    """
    values = options_of(named)
    changed = []
    for name, field in type(named).model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if name in values and getattr(named, name) != default:
            changed.append(f"{section}.{name}={format_value(values[name])}")
    return changed
