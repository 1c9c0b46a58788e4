"""Select the runs of a report from the tracking store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from auxgrad.config.overrides import OPTION_PREFIXES
from auxgrad.config.setting import RUN_KEYS, Setting
from auxgrad.config.values import format_value, parse_scalar
from auxgrad.errors import ReportError, suggestion
from auxgrad.reports.metric import LOSS, Metric
from auxgrad.reports.runs import FINISHED, UNKNOWN, ReportedRun, RunSet, Study

if TYPE_CHECKING:
    from auxgrad.record.stored import StoredRun

Filters = Mapping[str, Sequence[str]]


def from_store(stored: Sequence[StoredRun], filters: Filters, metric: Metric = LOSS) -> RunSet:
    """Return the runs of an experiment that match all filters, each of them once.

    * Several attempts at a run: the newest finished one is used, or else the newest one.
    * Several studies with the same title, but other data or another method: the newest one is used.
    * A run of another program, which has no identity, is used if it has the parameters mode, lam,
      alpha, overall and seed.
    * A run of auxgrad 0.1.0 is not used.

    Args:
        stored: The runs in the store, newest first.
        filters: The allowed values by key, see `check_filters`.
        metric: The metric of the report.

    Returns:
        The runs, with notes on those that were left out.

    Raises:
        ReportError: No run has a value of a filter, no run matches all filters, or a parameter is
            not a number.
    """
    there = [run for run in stored if _can_be_read(run)]
    runs = _read(_select(there, filters) if there else [], metric)
    # Finished runs come first, because a later attempt to repeat a finished run may have failed.
    runs.sort(key=lambda run: not run.is_finished)
    newest: dict[str, Study] = {}
    for run in runs:
        if run.study.is_identified:
            newest.setdefault(run.study.title, run.study)
    origins: dict[tuple[Study, Setting], Study] = {}
    chosen: dict[tuple[Study, Setting, int | None], ReportedRun] = {}
    rules: dict[tuple[Study, str], str] = {}
    repeated = superseded = 0
    for run in runs:
        # Runs of other programs join the study with their title, but are never averaged with its
        # runs.
        study = newest.get(run.study.title, run.study)
        is_older = run.study.is_identified and run.study != study
        # Two rules with the same name are different methods and must not be averaged.
        is_older |= bool(run.rule) and rules.setdefault((study, run.setting.mode), run.rule) != run.rule
        if is_older or origins.setdefault((study, run.setting), run.study) != run.study:
            superseded += run.is_finished
        elif (study, run.setting, run.seed) in chosen:
            repeated += run.is_finished
        else:
            chosen[study, run.setting, run.seed] = replace(run, study=study)
    notes = []
    if repeated:
        notes.append(
            f"Left out: {repeated} finished, because there are newer attempts at the same runs."
        )
    if superseded:
        notes.append(
            f"Left out: {superseded} finished, "
            "because the newest ones have other data or another method or rule."
        )
    if outdated := sum(run.is_outdated for run in stored):
        what, again = ("run", "run it again") if outdated == 1 else ("runs", "run them again")
        notes.append(
            f"Left out: {outdated} {what} of auxgrad 0.1.0, which recorded no identity; {again}."
        )
    return RunSet(sorted(chosen.values(), key=_order), notes)


def _can_be_read(run: StoredRun) -> bool:
    return run.identity is not None or (not run.is_outdated and run.params.keys() >= set(RUN_KEYS))


def _order(run: ReportedRun) -> tuple[object, ...]:
    return run.study.title, run.setting.order, run.seed


def _read(stored: Iterable[StoredRun], metric: Metric) -> list[ReportedRun]:
    studies: dict[str, Study] = {}
    runs = []
    for run in stored:
        identity = run.identity
        if identity is None:
            setting, seed, study = _of_another_program(run)
            rule = ""
        else:
            rule = " ".join(identity.rule.values())
            setting, seed, key = identity.setting, identity.seed, identity.study_key
            study = studies.get(key) or studies.setdefault(key, Study.of(identity))
        status, metrics = run.status, run.metrics
        value, loss = metrics.get(metric.name), metrics.get(LOSS.name)
        if status != FINISHED:
            value = loss = None
        elif value is None:
            status = f"without a {metric.title}"  # The run finished, but was not tested.
        means = metrics.get("epochs"), metrics.get("seconds"), run.run_id, metrics.get(metric.validation)
        words = rule, run.maximize(metric.short_name), run.loss_label, _auxiliaries(metrics)
        runs.append(ReportedRun(setting, seed, study, status, value, loss, *means, *words))
    return runs


def _auxiliaries(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return the names of several auxiliaries; a single one has no name in its statistics."""
    names = (name for name in metrics if name.startswith("cosine/") and name.endswith("/overall"))
    return tuple(part[1] for name in names if len(part := name.split("/")) == 3)


def _of_another_program(run: StoredRun) -> tuple[Setting, int, Study]:
    params = run.params
    overall = params["overall"].lower() == "true"
    try:
        setting = Setting.of(params["mode"], overall, float(params["alpha"]), float(params["lam"]))
        seed = int(params["seed"])
    except ValueError as error:
        raise ReportError(f"run {run.run_id}: lam, alpha and seed must be numbers ({error})") from None
    return setting, seed, Study.named(params.get("problem", ""), params.get("data", ""))


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


def _select(stored: list[StoredRun], filters: Filters) -> list[StoredRun]:
    chosen = stored
    for key, values in filters.items():
        _check_option(key, values, stored)
        by_run = {run.run_id: _value(run, key) for run in stored}
        there = set(by_run.values())
        for value in values:
            if value not in there:
                known = ", ".join(sorted(there, key=_by_number))
                raise ReportError(f"{key}={value}: no run has it; the store has: {known}")
        chosen = [run for run in chosen if by_run[run.run_id] in values]
    if not chosen:
        words = " ".join(f"{key}={','.join(values)}" for key, values in filters.items())
        raise ReportError(f"{words}: no run matches all of these")
    return chosen


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


def _value(run: StoredRun, key: str) -> str:
    if run.identity is not None:
        return run.identity.option(key) or UNKNOWN
    return format_value(parse_scalar(run.params.get(key, UNKNOWN)))


def _by_number(text: str) -> tuple[float, str]:
    value = parse_scalar(text)
    return (value, text) if isinstance(value, int | float) else (math.inf, text)
