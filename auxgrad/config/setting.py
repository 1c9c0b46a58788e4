"""The knobs of a run and the setting that they make: what is averaged over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auxgrad.config.groups import VALUE_GROUPS, options, preset
from auxgrad.config.values import format_value

# What a mode may use; a mode's file in conf/mode/ lists which of them make a difference.
NEUTRAL: Mapping[str, Any] = {"lam": 0.0, "alpha": 1.0, "overall": False}
KNOBS = tuple(NEUTRAL)
# What tells the runs of one study apart.
RUN_KEYS = ("mode", *VALUE_GROUPS)


def mode_uses(mode: str) -> Sequence[str]:
    """Return which of lam, alpha and overall make a difference in a mode; all of them if it is unknown.

    >>> mode_uses("Multitask")
    ['lam']
    """
    return _file_of(mode).get("mode_uses", KNOBS)


def _file_of(mode: str) -> Mapping[str, Any]:
    return preset("mode", mode) if mode in options("mode") else {}


def effective(
    mode: str, uses: Sequence[str], knobs: Mapping[str, Any], overall: bool | None = None
) -> dict[str, Any]:
    """Return what a mode makes of its knobs: unused ones are neutral, and lam 0 is SingleTask.

    Args:
        mode, uses: the mode, and which of lam, alpha and overall it uses.
        knobs: their values.
        overall: of a mode that has no choice of it; None otherwise.

    >>> effective("Multitask", ["lam"], {"lam": 0.0, "alpha": 0.01, "overall": True})
    {'mode': 'SingleTask', 'mode_uses': (), 'lam': 0.0, 'alpha': 1.0, 'overall': False}
    """
    if "lam" in uses and knobs["lam"] == 0:
        mode, uses, overall = "SingleTask", (), None
    taken = {key: knobs[key] if key in uses else value for key, value in NEUTRAL.items()}
    if overall is not None:
        taken["overall"] = overall
    return {"mode": mode, "mode_uses": tuple(uses), **taken}


@dataclass(frozen=True)
class Setting:
    """A mode with its knobs. Knobs that the mode does not use have their neutral value."""

    mode: str
    overall: bool
    alpha: float
    lam: float
    # Which of lam, alpha and overall the mode uses; None: as its file in conf/mode/ says.
    uses: tuple[str, ...] | None = field(default=None, compare=False, repr=False)

    @staticmethod
    def of(mode: str, overall: bool, alpha: float, lam: float) -> Setting:
        """Return the setting of a mode, its unused knobs neutral; lam 0 is SingleTask.

        >>> Setting.of("Multitask", True, 0.01, 30.0)
        Setting(mode='Multitask', overall=False, alpha=1.0, lam=30.0)
        """
        knobs = {"lam": lam, "alpha": alpha, "overall": overall}
        taken = effective(mode, mode_uses(mode), knobs, _file_of(mode).get("mode_overall"))
        return Setting(taken["mode"], taken["overall"], taken["alpha"], taken["lam"], taken["mode_uses"])

    @property
    def name(self) -> str:
        """The mode and the knobs that it uses.

        >>> Setting.of("Projection", False, 0.01, 100.0).name
        'Projection lam=100 alpha=0.01'
        """
        words = [
            f"{key}={format_value(value)}" for key, value in self.used.items() if value is not False
        ]
        return " ".join([self.mode, *words])

    @property
    def used(self) -> dict[str, Any]:
        """The knobs that the mode uses."""
        uses = mode_uses(self.mode) if self.uses is None else self.uses
        return {key: getattr(self, key) for key in uses}

    @property
    def family(self) -> tuple[str, bool, float]:
        """Mode, overall and alpha: what a curve over lam has in common."""
        return self.mode, self.overall, self.alpha

    @property
    def order(self) -> tuple[object, ...]:
        """The sort key: no knobs first, then lam alone, then others; modes by name, small lam first."""
        used = self.used.keys()
        rank = 2 if used - {"lam"} else len(used)
        return rank, self.mode, self.overall, -self.alpha, self.lam
