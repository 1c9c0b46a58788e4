"""What determines the result of a run, as data. Names, keys and parameters are made from it."""

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

# Raise it with every change of what a run with a given config computes: older runs then no longer count
# as finished ones of the same key.
METHOD_VERSION = 3
BESIDE = ("names", "changes")  # Fields that determine nothing.


@dataclass(frozen=True)
class Names:
    """What the problem and its data are called: the options of the groups `problem` and `data`.

    Attributes:
        problem: the name of its file.
        data: the name of its file; empty if the problem has no choice of data.
        shown: which of the two the name of a setting shows: those that are not the defaults.
    """

    problem: str
    data: str = ""
    shown: tuple[str, ...] = ()

    @property
    def words(self) -> dict[str, str]:
        """The names as words of the command line."""
        given = {"problem": self.problem, "data": self.data}
        return {key: f"{key}={name}" for key, name in given.items() if name}


@dataclass(frozen=True)
class Identity:
    """All that determines a result. Runs with equal identities give equal numbers.

    Where the data lies, the tracking, the launcher and the output folders are no part of it.

    Attributes:
        mode, lam, alpha, overall, seed: as in `Config`, knobs that the mode does not use neutral.
        rule: the dotted name of the mode's rule, and what tells its versions apart.
        uses: which of lam, alpha and overall the mode uses.
        problem: dotted name, version and options of the problem.
        data: the same of the choice of data, if there is one, and the fingerprint of the data.
        names: what the problem and the data are called; determines nothing.
        changes: options that differ from the defaults of their class, as words; determines nothing.
        on_nan: as in `Config`.
        method: `METHOD_VERSION` of the code.
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
        """Return the identity that `to_json` wrote. Raises ValueError for any other text."""
        try:
            fields = json.loads(text)
            made: dict[str, Any] = {key: tuple(fields[key]) for key in ("uses", "changes")}
            made["names"] = _names(fields["names"])
            return Identity(**{**fields, **made})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None

    def to_json(self) -> str:
        """Return the identity as JSON; equal identities give equal texts."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def key(self) -> str:
        """The SHA-256 of the identity: what a sweep knows a finished run by."""
        return _digest(self._without(*BESIDE))

    @property
    def setting_key(self) -> str:
        """The SHA-256 of all but the seed: what the runs that are averaged have in common."""
        return _digest(self._without(*BESIDE, "seed"))

    def _without(self, *names: str) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name not in names}

    @property
    def study_key(self) -> str:
        """The JSON of problem, data and method: runs that differ in them are never compared."""
        study = ("problem", "data", "on_nan", "method")
        return json.dumps({name: getattr(self, name) for name in study}, sort_keys=True)

    @property
    def setting(self) -> Setting:
        """The mode and its knobs."""
        return Setting(self.mode, self.overall, self.alpha, self.lam, self.uses)

    @property
    def study_name(self) -> str:
        """The problem, the data set and what was changed, for a reader."""
        return " ".join([*self.names.words.values(), *self.changes])

    @property
    def setting_name(self) -> str:
        """All that determines a result but the seed, for a reader; the defaults are left out."""
        words = [word for key, word in self.names.words.items() if key in self.names.shown]
        version = self.rule["version"].removeprefix("version ")[:8]
        rule = [f"rule={version}"] if version else []
        return " ".join([self.setting.name, *rule, *words, *self.changes, *self._source])

    @property
    def _source(self) -> list[str]:
        """What tells versions of the user's problem and data apart in names."""
        versions = [self.problem["version"], self.data.get("version", "")]
        fingerprint = self.data["fingerprint"]
        if not any(versions) or not fingerprint:
            return []
        return [f"source={_digest([*versions, fingerprint])[:8]}"]

    @property
    def name(self) -> str:
        """The setting and the seed, for a person."""
        return f"{self.setting_name} seed={self.seed}"

    def option(self, key: str) -> str | None:
        """Return the value of `mode`, `seed`, `data`, `problem.hidden`, ... as text, None if unknown."""
        group, _, name = key.partition(".")
        if group in ("problem", "data"):
            if not name:
                return getattr(self.names, group) or None
            options = getattr(self, group).get("options", {})
            return format_value(options[name]) if name in options else None
        return format_value(getattr(self, key)) if key in RUN_KEYS else None

    @property
    def option_keys(self) -> list[str]:
        """The keys of problem and data that `option` knows."""
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
    """Return the dotted name of the class of a problem or of data."""
    return f"{type(named).__module__}.{type(named).__qualname__}"


def describe(section: str, named: Named) -> dict[str, Any]:
    """Return what a problem or data adds to an identity."""
    version = version_of(f"{section}._target_", type(named))
    return {"target": target_of(named), "version": version, "options": options_of(named)}


def changes(section: str, named: Named) -> list[str]:
    """Return the options that differ from the defaults of their class, as words of the command line.

    Options that can change no result are left out.
    """
    values = options_of(named)
    changed = []
    for name, field in type(named).model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if name in values and getattr(named, name) != default:
            changed.append(f"{section}.{name}={format_value(values[name])}")
    return changed
