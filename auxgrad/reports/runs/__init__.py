"""The runs of a report, from the tracking store or from CSV files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from auxgrad.config.identity import Identity
from auxgrad.config.setting import Setting

UNKNOWN = "unknown"
FINISHED = "FINISHED"
LARGEST = 1e308  # MLflow stores infinity as the largest finite number.


@dataclass(frozen=True)
class Study:
    """The problem, the data and the other options that runs must share to be compared.

    Attributes:
        key: The key that studies are compared by: `Identity.study_key`, or the title if the runs
            have no identity.
        title: The problem, the data set and the changed options, for the user.
        problem: The name of the problem; empty if not known.
        data: The name of the data set; empty if not known.
        changes: The changed options; empty if not known.
        options: The known values of `problem`, `data` and their options, such as `problem.task`, by
            key.
    """

    key: str
    title: str
    problem: str
    data: str
    changes: str
    options: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_identified(self) -> bool:
        """Whether the study comes from an identity, not from names only."""
        return self.key != self.title

    @staticmethod
    def of(identity: Identity) -> Study:
        """Return the study of the runs with this identity."""
        names = identity.names.problem, identity.names.data
        keys = ("problem", "data", *identity.option_keys)
        options = {key: value for key in keys if (value := identity.option(key)) is not None}
        changes = " ".join(identity.changes)
        return Study(identity.study_key, identity.study_name, *names, changes, options)

    @staticmethod
    def named(problem: str = "", data: str = "", changes: str = "") -> Study:
        """Return the study of runs that have no identity.

        Args:
            problem: The name of the problem, if known.
            data: The name of the data set, if known.
            changes: The changed options, if known, such as "problem.task=same".
        """
        names = {key: name for key, name in (("problem", problem), ("data", data)) if name}
        words = [f"{key}={name}" for key, name in names.items()]
        title = " ".join([*words, changes]).strip() or UNKNOWN
        changed = (word.partition("=") for word in changes.split())
        options = {**names, **{key: value for key, _, value in changed}}
        return Study(title, title, problem, data, changes, options)


@dataclass(frozen=True)
class ReportedRun:
    """A run in a report, from the tracking store or from a CSV file.

    Attributes:
        setting: The setting. Runs of one setting are averaged over their seeds.
        seed: The seed; None if not known.
        study: The study. Runs of different studies are never compared.
        status: FINISHED if there is a value, otherwise the status of the latest attempt.
        value: The metric of the report; None if the run is not finished.
        loss: The test loss; None if not known.
        epochs: The number of epochs; None if not known.
        seconds: The training time, as `Result.seconds` counts it; None if not known.
        run_id: The id of the run in MLflow; empty if not known.
        best_val: The metric on the validation set at the best epoch; None if not known.
        rule: The version of the mode's rule; empty if not known.
        maximize: Whether a higher value of the metric is better; None if the run did not record it.
        loss_label: The name of the loss and its unit; empty if not known.
        auxiliaries: The names of the auxiliaries that have statistics of their own, if there are
            several.
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
    auxiliaries: tuple[str, ...] = ()

    @property
    def is_finished(self) -> bool:
        """Whether the run has a value."""
        return self.value is not None

    @property
    def has_diverged(self) -> bool:
        """Whether the value or the test loss is not finite."""
        return self.is_finished and not are_finite(self.value, self.loss)


def are_finite(*numbers: float | None) -> bool:
    """Return whether all known numbers are finite, as MLflow stores them; None is not known."""
    return all(number is None or abs(number) <= LARGEST for number in numbers)


@dataclass
class RunSet:
    """The runs of a report.

    Attributes:
        runs: The runs.
        notes: Sentences on runs that were left out.
    """

    runs: list[ReportedRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def finished(self) -> list[ReportedRun]:
        """The runs that have a value."""
        return [run for run in self.runs if run.is_finished]

    @property
    def unfinished(self) -> list[ReportedRun]:
        """The runs that have no finished attempt."""
        return [run for run in self.runs if not run.is_finished]

    def studies(self) -> list[Study]:
        """Return all studies, the one with the most runs first."""
        return [study for study, _ in Counter(run.study for run in self.runs).most_common()]

    def of_study(self, study: Study) -> RunSet:
        """Return the runs of one study, with all notes."""
        return RunSet([run for run in self.runs if run.study == study], self.notes)
