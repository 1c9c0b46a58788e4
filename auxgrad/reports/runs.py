"""The runs of a report: those of the tracking store, each once, and which of them a user asked for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from auxgrad.config.identity import Identity
from auxgrad.config.messages import nearest
from auxgrad.config.overrides import OPTIONS
from auxgrad.config.setting import RUN_KEYS, Setting
from auxgrad.config.values import format_value, parse_scalar
from auxgrad.errors import ReportError
from auxgrad.reports.metric import LOSS, Metric

if TYPE_CHECKING:
    from auxgrad.record.stored import StoredRun

UNKNOWN = "unknown"
FINISHED = "FINISHED"
LARGEST = 1e308  # MLflow stores infinity as the largest finite number.


@dataclass(frozen=True)
class Study:
    """What must be equal for runs to be compared.

    Attributes:
        key: what decides: `Identity.study_key`; the title where there is no identity.
        title: the problem, the data set and what was changed, for a reader.
        problem, data, changes: the parts of the title, for the columns of runs.csv; empty if not known.
        options: by key, `problem`, `data` and their options, such as `problem.task`, as far as they are
            known.
    """

    key: str
    title: str
    problem: str
    data: str
    changes: str
    options: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_identified(self) -> bool:
        """Whether more than its title is known."""
        return self.key != self.title

    @staticmethod
    def of(identity: Identity) -> Study:
        """Return the study of a run."""
        names = identity.names.problem, identity.names.data
        keys = ("problem", "data", *identity.option_keys)
        options = {key: value for key in keys if (value := identity.option(key)) is not None}
        changes = " ".join(identity.changes)
        return Study(identity.study_key, identity.study_name, *names, changes, options)

    @staticmethod
    def named(problem: str = "", data: str = "", changes: str = "") -> Study:
        """Return the study of runs of which nothing but these texts is known."""
        names = {key: name for key, name in (("problem", problem), ("data", data)) if name}
        words = [f"{key}={name}" for key, name in names.items()]
        title = " ".join([*words, changes]).strip() or UNKNOWN
        changed = (word.partition("=") for word in changes.split())
        options = {**names, **{key: value for key, _, value in changed}}
        return Study(title, title, problem, data, changes, options)


@dataclass(frozen=True)
class ReportedRun:
    """A run in a report.

    Attributes:
        setting: what is averaged over seeds.
        seed: None if it is not known.
        study: runs of different studies are never compared.
        status: FINISHED if there is a value, else the status of the latest attempt.
        value: the metric that the report is about, None unless finished.
        loss: the test loss.
        epochs, seconds, best_val: None if not known; the last is of the metric.
        run_id: in MLflow, empty if not known.
        rule: the version of the mode's rule, empty if not known.
        maximize: whether the run recorded that higher is better, None if it says nothing.
        loss_label: what the loss is, and its unit, empty if not known.
    """

    setting: Setting
    seed: int | None
    study: Study
    status: str = FINISHED
    value: float | None = None
    loss: float | None = None
    epochs: float | None = None
    seconds: float | None = None
    run_id: str = ""
    best_val: float | None = None
    rule: str = ""
    maximize: bool | None = None
    loss_label: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether there is a value."""
        return self.value is not None

    @property
    def has_diverged(self) -> bool:
        """Whether the value or the test loss is not a finite number."""
        return self.is_finished and not are_finite(self.value, self.loss)


def are_finite(*numbers: float | None) -> bool:
    """Return whether numbers in a store are finite, as far as they are known."""
    return all(number is None or abs(number) <= LARGEST for number in numbers)


@dataclass
class RunSet:
    """The runs of a report; `notes` tells in whole sentences what was left out."""

    runs: list[ReportedRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def finished(self) -> list[ReportedRun]:
        """The runs with a value."""
        return [run for run in self.runs if run.is_finished]

    @property
    def unfinished(self) -> list[ReportedRun]:
        """The runs of which no attempt has finished."""
        return [run for run in self.runs if not run.is_finished]

    def studies(self) -> list[Study]:
        """Return all studies, most runs first."""
        return [study for study, _ in Counter(run.study for run in self.runs).most_common()]

    def of_study(self, study: Study) -> RunSet:
        """Return the part of one study."""
        return RunSet([run for run in self.runs if run.study == study], self.notes)


Filters = Mapping[str, Sequence[str]]


def from_store(stored: Sequence[StoredRun], filters: Filters, metric: Metric = LOSS) -> RunSet:
    """Return the runs of an experiment that have one of the values of every filter, each once.

    Of the attempts at a run the newest finished one counts, else the newest. Of studies with the same
    title but other data or another method the newest counts. A run without an identity, logged by
    another program, counts if it has the parameters mode, lam, alpha, overall and seed. A run of
    auxgrad 0.1.0 does not count.

    Args:
        stored: newest first.
        filters: values by key, as `check_filters` allows them.
        metric: what the report is about.

    Raises:
        ReportError: no run has a value of a filter, or all of them together; a parameter is no number.
    """
    there = [run for run in stored if _can_be_read(run)]
    runs = _read(_select(there, filters) if there else [], metric)
    # Finished ones first: an attempt to repeat a finished run may have failed.
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
        # Runs of another program join the study that they name, but no mean is over theirs and ours.
        study = newest.get(run.study.title, run.study)
        is_older = run.study.is_identified and run.study != study
        # Two rules that bear one name would be two methods in one mean.
        is_older |= bool(run.rule) and rules.setdefault((study, run.setting.mode), run.rule) != run.rule
        if is_older or origins.setdefault((study, run.setting), run.study) != run.study:
            superseded += run.is_finished
        elif (study, run.setting, run.seed) in chosen:
            repeated += run.is_finished
        else:
            chosen[study, run.setting, run.seed] = replace(run, study=study)
    notes = []
    if repeated:
        notes.append(f"Left out: {repeated} finished, of which there are newer ones.")
    if superseded:
        notes.append(
            f"Left out: {superseded} finished, "
            "on other data or by another method or rule than the newest."
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
            status = f"without a {metric.title}"  # Ended well, but was never tested.
        means = metrics.get("epochs"), metrics.get("seconds"), run.run_id, metrics.get(metric.validation)
        words = rule, run.maximize(metric.short_name), run.loss_label
        runs.append(ReportedRun(setting, seed, study, status, value, loss, *means, *words))
    return runs


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
    """Raise ReportError for a key that no run has."""
    known = [*RUN_KEYS, "problem", "data"]
    for key, values in filters.items():
        if key not in known and not key.startswith(OPTIONS):
            raise ReportError(
                f"{key}={','.join(values)}: unknown filter; must be one of {', '.join(known)}, or a key "
                f"of problem or data{nearest(key, known)}"
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
                raise ReportError(f"{key}={value}: no run has it; in the store are: {known}")
        chosen = [run for run in chosen if by_run[run.run_id] in values]
    if not chosen:
        words = " ".join(f"{key}={','.join(values)}" for key, values in filters.items())
        raise ReportError(f"{words}: no run has all of these together")
    return chosen


def _check_option(key: str, values: Sequence[str], stored: Iterable[StoredRun]) -> None:
    """Raise ReportError for an option that no problem and no data of the runs has."""
    if key.startswith(OPTIONS):
        identities = (run.identity for run in stored)
        known = sorted({key for each in identities if each is not None for key in each.option_keys})
        if key not in known:
            raise ReportError(
                f"{key}={','.join(values)}: no run has this option; there are {', '.join(known)}"
                f"{nearest(key, known)}"
            )


def _value(run: StoredRun, key: str) -> str:
    if run.identity is not None:
        return run.identity.option(key) or UNKNOWN
    return format_value(parse_scalar(run.params.get(key, UNKNOWN)))


def _by_number(text: str) -> tuple[float, str]:
    value = parse_scalar(text)
    return (value, text) if isinstance(value, int | float) else (math.inf, text)
