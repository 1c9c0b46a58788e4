"""Select the runs of a report from the tracking store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from auxgrad.config.setting import RUN_KEYS, Setting
from auxgrad.errors import ReportError
from auxgrad.reports.metric import LOSS, Metric
from auxgrad.reports.runs import FINISHED, ReportedRun, RunSet, Study, left_out
from auxgrad.reports.runs.filters import Filters, select

if TYPE_CHECKING:
    from auxgrad.record.stored import StoredRun


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
    selected, notes = select(there, filters) if there else ([], [])
    runs = _read(selected, metric)
    # Finished runs come first, because a later attempt to repeat a finished run may have failed.
    runs.sort(key=lambda run: not run.is_finished)
    newest: dict[str, Study] = {}
    for run in runs:
        if run.study.is_identified:
            newest.setdefault(run.study.title, run.study)
    origins: dict[tuple[Study, Setting], Study] = {}
    chosen: dict[tuple[Study, Setting, int | None], ReportedRun] = {}
    rules: dict[tuple[Study, str], str] = {}
    dropped: dict[tuple[str, str], list[ReportedRun]] = {}
    for run in runs:
        # Runs of other programs join the study with their title, but are never averaged with its
        # runs.
        study = newest.get(run.study.title, run.study)
        if run.study.is_identified and run.study != study:
            reason = left_out.difference(run.study, study)
        # Two rules with the same name are different methods and must not be averaged.
        elif run.rule and rules.setdefault((study, run.setting.mode), run.rule) != run.rule:
            reason = left_out.OTHER_RULE
        elif origins.setdefault((study, run.setting), run.study) != run.study:
            reason = left_out.OTHER_PROGRAM
        elif (study, run.setting, run.seed) not in chosen:
            chosen[study, run.setting, run.seed] = replace(run, study=study)
            continue
        elif run.is_finished:
            reason = left_out.NEWER_ATTEMPTS
        else:
            continue  # A failed attempt at a run that has another attempt is not missing.
        dropped.setdefault((run.study.title, reason), []).append(run)
    several = len({run.study.title for run in runs}) > 1
    notes += [
        left_out.note(own, reason, title if several else "") for (title, reason), own in dropped.items()
    ]
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
