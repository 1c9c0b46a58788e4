"""The setting of a run: its mode and its knobs, without the seed over which results are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auxgrad.config.groups import VALUE_GROUPS, options, preset
from auxgrad.config.values import format_value

# The knobs, with the values that they have in a mode that does not use them.
NEUTRAL: Mapping[str, Any] = {"lam": 0.0, "alpha": 1.0, "overall": False}
KNOBS = tuple(NEUTRAL)
# The keys that distinguish the runs of one study.
RUN_KEYS = ("mode", *VALUE_GROUPS)


def mode_uses(mode: str) -> Sequence[str]:
    """Return the knobs that a mode uses; all of them if auxgrad has no such mode.

    >>> mode_uses("Multitask")
    ['lam']

    Args:
        mode: the name of the mode.
    """
    return _file_of(mode).get("mode_uses", KNOBS)


def _file_of(mode: str) -> Mapping[str, Any]:
    return preset("mode", mode) if mode in options("mode") else {}


def normalise_knobs(
    mode: str, uses: Sequence[str], knobs: Mapping[str, Any], overall: bool | None = None
) -> dict[str, Any]:
    """Return mode and knobs with unused knobs set to neutral, and lam 0 turned into SingleTask.

    >>> normalise_knobs("Multitask", ["lam"], {"lam": 0.0, "alpha": 0.01, "overall": True})
    {'mode': 'SingleTask', 'mode_uses': (), 'lam': 0.0, 'alpha': 1.0, 'overall': False}

    Args:
        mode: the name of the mode.
        uses: the knobs that the mode uses.
        knobs: the values of all knobs.
        overall: the value of a mode that fixes `overall`; otherwise None.

    Returns:
        The values of `mode`, `mode_uses` and the knobs.
    """
    if "lam" in uses and knobs["lam"] == 0:
        mode, uses, overall = "SingleTask", (), None
    taken = {key: knobs[key] if key in uses else value for key, value in NEUTRAL.items()}
    if overall is not None:
        taken["overall"] = overall
    return {"mode": mode, "mode_uses": tuple(uses), **taken}


@dataclass(frozen=True)
class Setting:
    """A mode with its knobs.

    Attributes:
        mode: the name of the mode.
        overall: whether one decision holds for all variables; neutral (false) if unused.
        alpha: the coefficient of the moving average; neutral (1) if unused.
        lam: the weight of the auxiliary loss; neutral (0) if unused.
        uses: the knobs that the mode uses; None means those that its file in conf/mode/ lists.
    """

    mode: str
    overall: bool
    alpha: float
    lam: float
    uses: tuple[str, ...] | None = field(default=None, compare=False, repr=False)

    @staticmethod
    def of(mode: str, overall: bool, alpha: float, lam: float) -> Setting:
        """Return the setting of a mode, with unused knobs set to neutral; lam 0 is SingleTask.

        >>> Setting.of("Multitask", True, 0.01, 30.0)
        Setting(mode='Multitask', overall=False, alpha=1.0, lam=30.0)

        Args:
            mode: as the attribute.
            overall: as the attribute.
            alpha: as the attribute.
            lam: as the attribute.
        """
        knobs = {"lam": lam, "alpha": alpha, "overall": overall}
        taken = normalise_knobs(mode, mode_uses(mode), knobs, _file_of(mode).get("mode_overall"))
        return Setting(taken["mode"], taken["overall"], taken["alpha"], taken["lam"], taken["mode_uses"])

    @property
    def name(self) -> str:
        """The name of the mode with the knobs that it uses.

        >>> Setting.of("Projection", False, 0.01, 100.0).name
        'Projection lam=100 alpha=0.01'
        """
        knobs = [
            f"{key}={format_value(value)}" for key, value in self.used.items() if value is not False
        ]
        return " ".join([self.mode, *knobs])

    @property
    def used(self) -> dict[str, Any]:
        """The knobs that the mode uses, with their values."""
        uses = mode_uses(self.mode) if self.uses is None else self.uses
        return {key: getattr(self, key) for key in uses}

    @property
    def family(self) -> tuple[str, bool, float]:
        """Mode, overall and alpha, which the points of one curve over lam have in common."""
        return self.mode, self.overall, self.alpha

    @property
    def order(self) -> tuple[object, ...]:
        """The sort key: first modes without knobs, then those with lam only, then others, by name."""
        used = self.used.keys()
        rank = 2 if used - {"lam"} else len(used)
        return rank, self.mode, self.overall, -self.alpha, self.lam
