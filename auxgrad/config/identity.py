"""What determines the result of a run, as data. Names, keys and parameters are made from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from auxgrad.config.groups import options, preset
from auxgrad.config.setting import RUN_KEYS, Setting
from auxgrad.config.values import format_value

# Raise it with every change of what a run with a given config computes: older runs then no longer count
# as finished ones of the same key.
METHOD_VERSION = 2
USUAL_DATA = "imdb25k"  # As in conf/config.yaml: not worth a word in a name.


@dataclass(frozen=True)
class Identity:
    """All that determines a result. Runs with equal identities give equal numbers.

    Where the data lies, the tracking, the launcher and the output folders are no part of it.

    Attributes:
        mode, lam, alpha, overall, seed: as in `Config`, knobs that the mode does not use neutral.
        rule: the dotted name of the mode's rule, and what tells its versions apart.
        uses: which of lam, alpha and overall the mode uses.
        problem: name and options of the problem.
        data: name and options of the data set, and its fingerprint.
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
    method: int = METHOD_VERSION

    @staticmethod
    def from_json(text: str) -> Identity:
        """Return the identity that `to_json` wrote. Raises ValueError for any other text."""
        try:
            fields = json.loads(text)
            return Identity(**{**fields, "uses": tuple(fields["uses"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None

    def to_json(self) -> str:
        """Return the identity as JSON; equal identities give equal texts."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def key(self) -> str:
        """The SHA-256 of the identity: what a sweep knows a finished run by."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def setting_key(self) -> str:
        """The SHA-256 of all but the seed: what the runs that are averaged have in common."""
        rest = {name: value for name, value in asdict(self).items() if name != "seed"}
        return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()

    @property
    def study_key(self) -> str:
        """The JSON of problem, data and method: runs that differ in them are never compared."""
        study = {"problem": self.problem, "data": self.data, "method": self.method}
        return json.dumps(study, sort_keys=True)

    @property
    def setting(self) -> Setting:
        """The mode and its knobs."""
        return Setting(self.mode, self.overall, self.alpha, self.lam, self.uses)

    @cached_property
    def changes(self) -> dict[str, str]:
        """The keys of data and problem whose values are not those of the files in conf/."""
        changed = {}
        for group, section in (("data", self.data), ("problem", self.problem)):
            usual = preset(group, section["name"]) if section["name"] in options(group) else {}
            # In the order of the file: that of the section is lost in JSON.
            further = sorted(section.keys() - usual.keys() - {"name", "fingerprint"})
            for key in [*(key for key in usual if key in section and key != "name"), *further]:
                if key not in usual or section[key] != usual[key]:
                    changed[f"{group}.{key}"] = format_value(section[key])
        return changed

    @property
    def study_name(self) -> str:
        """The data set and what was changed, for a person."""
        words = [f"{key}={value}" for key, value in self.changes.items()]
        return " ".join([f"data={self.data['name']}", *words])

    @property
    def setting_name(self) -> str:
        """All that determines a result but the seed, for a person."""
        data = [f"data={self.data['name']}"] if self.data["name"] != USUAL_DATA else []
        words = [f"{key}={value}" for key, value in self.changes.items()]
        version = self.rule["version"].removeprefix("version ")[:8]
        rule = [f"rule={version}"] if version else []
        return " ".join([self.setting.name, *rule, *data, *words])

    @property
    def name(self) -> str:
        """The setting and the seed, for a person."""
        return f"{self.setting_name} seed={self.seed}"

    def option(self, key: str) -> str | None:
        """Return the value of `mode`, `seed`, `data`, `problem.hidden`, ... as text, None if unknown."""
        group, _, name = key.partition(".")
        section = {"data": self.data, "problem": self.problem}.get(group)
        if section is not None:
            name = name or "name"
            return format_value(section[name]) if name in section else None
        return format_value(getattr(self, key)) if key in RUN_KEYS else None

    @property
    def params(self) -> dict[str, str]:
        """The parameters of the run in MLflow."""
        knobs = {key: format_value(getattr(self, key)) for key in RUN_KEYS}
        names = {"data": self.data["name"], "problem": self.problem["name"]}
        return {**knobs, **names, "config": self.setting_name}
