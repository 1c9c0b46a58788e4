"""Select the runs that the user's filters allow, such as `mode=Projection lam=3,10`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from auxgrad.config.overrides import OPTION_PREFIXES
from auxgrad.config.setting import KNOBS, NEUTRAL, RUN_KEYS, mode_uses
from auxgrad.config.values import format_value, parse_scalar
from auxgrad.errors import ReportError, suggestion
from auxgrad.reports.runs import UNKNOWN

if TYPE_CHECKING:
    from auxgrad.record.stored import StoredRun

Filters = Mapping[str, Sequence[str]]


def check_filters(filters: Filters) -> None:
    """Check the keys of filters.

    Args:
        filters: The allowed values by key. The keys may be mode, lam, alpha, overall, seed,
            problem, data, and options of problem or data.

    Raises:
        ReportError: A key is unknown.
    """
    known = [*RUN_KEYS, "problem", "data"]
    for key, values in filters.items():
        if key not in known and not key.startswith(OPTION_PREFIXES):
            raise ReportError(
                f"{key}={','.join(values)}: unknown filter; must be one of {', '.join(known)}, or a key "
                f"of problem or data{suggestion(key, known)}"
            )


def select(stored: Sequence[StoredRun], filters: Filters) -> tuple[list[StoredRun], list[str]]:
    """Return the runs that match all filters.

    A filter on lam, alpha or overall does not apply to runs of a mode that does not use this knob,
    so that SingleTask remains as the baseline.

    Args:
        stored: The runs.
        filters: The allowed values by key, see `check_filters`.

    Returns:
        The runs, with notes on values that no run has together with the other filters.

    Raises:
        ReportError: No run has a value of a filter, or no run matches all filters.
    """
    by_key: dict[str, dict[str, str | None]] = {}
    for key, values in filters.items():
        _check_option(key, values, stored)
        by_key[key] = {run.run_id: _value(run, key) for run in stored}
        there = _values(key, by_key[key].values())
        for value in values:
            if value not in there:
                raise ReportError(_not_there(key, value, there))
    chosen = [
        run
        for run in stored
        if all(by_key[key][run.run_id] in (None, *values) for key, values in filters.items())
    ]
    words = {key: f"{key}={','.join(values)}" for key, values in filters.items()}
    if not chosen:
        raise ReportError(f"{' '.join(words.values())}: no run matches all of these")
    notes = []
    for key, values in filters.items():
        there = _values(key, (by_key[key][run.run_id] for run in chosen))
        if lost := [value for value in values if value not in there]:
            others = " ".join(text for name, text in words.items() if name != key)
            it = "it" if len(lost) == 1 else "them"
            notes.append(f"{key}={','.join(lost)}: no run has {it} together with {others}.")
    return chosen, notes


def _check_option(key: str, values: Sequence[str], stored: Iterable[StoredRun]) -> None:
    """Raise ReportError if none of the runs has this option of its problem or data."""
    if key.startswith(OPTION_PREFIXES):
        identities = (run.identity for run in stored)
        known = sorted({key for each in identities if each is not None for key in each.option_keys})
        if key not in known:
            raise ReportError(
                f"{key}={','.join(values)}: no run has this option; the options are {', '.join(known)}"
                f"{suggestion(key, known)}"
            )


def _value(run: StoredRun, key: str) -> str | None:
    """Return the value of a key as text; None if the key is a knob that the run's mode does not use."""
    identity = run.identity
    if key in KNOBS:
        uses = mode_uses(run.params.get("mode", UNKNOWN)) if identity is None else identity.uses
        if key not in uses:
            return None
    if identity is not None:
        return identity.option(key) or UNKNOWN
    return format_value(parse_scalar(run.params.get(key, UNKNOWN)))


def _values(key: str, found: Iterable[str | None]) -> set[str]:
    """Return the values that a filter on the key may name."""
    there = set(found)
    known = {value for value in there if value is not None}
    # The user knows a run with lam=0 by this value; it is recorded as SingleTask, which has no lam.
    return known | {format_value(NEUTRAL[key])} if key == "lam" and None in there else known


def _not_there(key: str, value: str, there: set[str]) -> str:
    if not there:
        return f"{key}={value}: no run has it; no mode in the store uses {key}"
    listed = ", ".join(sorted(there, key=_by_number))
    near = suggestion(value, sorted(there)) if isinstance(parse_scalar(value), str) else ""
    return f"{key}={value}: no run has it; the store has: {listed}{near}"


def _by_number(text: str) -> tuple[float, str]:
    value = parse_scalar(text)
    return (value, text) if isinstance(value, int | float) else (math.inf, text)
