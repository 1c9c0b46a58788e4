"""An experiment in a reachable MLflow store: what is in it, and new runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from auxgrad.config.addresses import sqlite_file
from auxgrad.config.identity import Identity
from auxgrad.errors import AuxgradError, RunsElsewhere, TrackingError, without_passwords
from auxgrad.record import view
from auxgrad.record.database import Database
from auxgrad.record.liveness import is_alive, process_tags
from auxgrad.record.remote import Server
from auxgrad.record.stored import IDENTITY, RUN_KEY, SETTING_KEY, StoredRun
from auxgrad.record.writing import Dataset, RunWriter, context_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Suffixes of the experiments of summary runs and of reports.
SETTINGS, REPORTS = "-settings", "-reports"
MOST_CHARACTERS = 8000  # In a tag; MLflow cuts off what is longer.
NAME_CHARACTERS = 250  # In the name of a run, on PostgreSQL.


class AlreadyFinished(AuxgradError):
    """A run of a sweep that is finished in the store."""

    def __init__(self, run: StoredRun) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return f"finished already: run {self.run.run_id}"


@dataclass(frozen=True)
class Store:
    """An experiment in a reachable MLflow store. `open_store` makes it."""

    client: MlflowClient
    uri: str = field(repr=False)
    experiment_id: str
    name: str
    _shown: set[str] = field(default_factory=set, compare=False, repr=False)

    @property
    def address(self) -> str:
        """The URI for people, without a password."""
        return without_passwords(self.uri)

    @property
    def has_server(self) -> bool:
        """Whether a server stands between here and the database."""
        return self.uri.startswith(("http", "databricks"))

    def start_run(
        self, identity: Identity, tags: Mapping[str, str], dataset: Dataset, once: bool = False
    ) -> RunWriter:
        """Open a run with status RUNNING.

        With `once` no other run of this identity may be finished or running: raises AlreadyFinished or
        RunsElsewhere. A run of a dead process is marked KILLED and counts no more.

        Raises TrackingError for an identity that is too long for a tag.
        """
        text = identity.to_json()
        if len(text) > MOST_CHARACTERS:
            raise TrackingError(
                f"run {identity.name[:60]}...: its options take {len(text)} characters as JSON; "
                f"MLflow stores at most {MOST_CHARACTERS}"
            )
        own = {IDENTITY: text, RUN_KEY: identity.key, SETTING_KEY: identity.setting_key}
        all_tags = {**context_tags(), **tags, **process_tags(), **own}
        with self._lock() if once else contextlib.nullcontext():
            if once:
                self._refuse_second(identity.key)
            name = identity.name[:NAME_CHARACTERS]
            run = self.client.create_run(self.experiment_id, run_name=name, tags=all_tags)
        writer = RunWriter(self.client, run)
        try:
            writer.params(identity.params)
            writer.dataset(dataset)
        except BaseException:
            with contextlib.suppress(Exception):
                writer.end("FAILED")
            raise
        return writer

    def _lock(self) -> contextlib.AbstractContextManager[Any]:
        """Between a look into the store and a new run no other process may make the same run.

        That holds where processes of one machine share an SQLite file. A server has no such lock: there
        two processes that ask within milliseconds may both go on.
        """
        file = sqlite_file(self.uri)
        return FileLock(f"{file}.lock") if file else contextlib.nullcontext()

    def _refuse_second(self, key: str) -> None:
        for run in self.runs(key=key):
            if run.status == "FINISHED":
                raise AlreadyFinished(run)
            if run.status == "RUNNING" and not self.mark_if_dead(run):
                raise RunsElsewhere(f"is running elsewhere, in {run.where}")

    def runs(self, status: str | None = None, key: str | None = None) -> list[StoredRun]:
        """Return the experiment's runs with this status and this run key, newest first."""
        return self._reader.runs(status, key)

    def finished_keys(self) -> set[str]:
        """Return the keys of all runs that are FINISHED. Runs of auxgrad 0.1.0 do not count."""
        return self._reader.finished_keys()

    def count_outdated(self) -> int:
        """Return how many runs are FINISHED but do not count, because auxgrad 0.1.0 made them."""
        return self._reader.count_outdated()

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, dict[int, float]]:
        """Return curves of a metric, as values by step, of all these runs that have one."""
        return self._reader.histories(run_ids, metric)

    @property
    def _reader(self) -> Database | Server:
        if self.has_server:
            return Server(self.client, self.experiment_id)
        return Database(self.uri, self.experiment_id)

    def mark_dead_runs(self) -> int:
        """Mark all RUNNING runs of dead processes KILLED. Return how many there were."""
        return sum(self.mark_if_dead(run) for run in self.runs("RUNNING"))

    def mark_if_dead(self, run: StoredRun) -> bool:
        """Mark a RUNNING run KILLED if its process is dead. Return whether it was."""
        if RUN_KEY not in run.tags or is_alive(run.tags):
            return False
        self.client.set_terminated(run.run_id, "KILLED")
        return True

    def start_derived(self, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> RunWriter:
        """Open a run that is made of others: a summary, a report."""
        run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
        writer = RunWriter(self.client, run)
        writer.params(params)
        return writer

    def show(self, metrics: Iterable[str]) -> None:
        """Add charts of metrics beside the loss to the experiment's view, where they are missing.

        The store is asked once for each metric. Two processes that add different ones at the same moment
        may lose those of one, until another process brings them.
        """
        from mlflow.exceptions import MlflowException

        new = [metric for metric in metrics if metric not in self._shown]
        if not new:
            return
        self._shown.update(new)
        with contextlib.suppress(MlflowException):  # Who may not change the experiment can do without.
            there = self.client.get_experiment(self.experiment_id).tags.get(view.TAG)
            names = dict.fromkeys([*view.metrics_in(there), *new])
            shared = view.state(self.name.endswith((SETTINGS, REPORTS)), list(names))
            if shared != there:
                self.client.set_experiment_tag(self.experiment_id, view.TAG, shared)

    def analyze(self) -> None:
        """Let the database prepare for reading curves, which may take a second."""
        if not self.has_server:
            Database(self.uri, self.experiment_id).analyze()

    def delete(self, run_ids: Iterable[str]) -> None:
        """Move runs to MLflow's trash."""
        for run_id in run_ids:
            self.client.delete_run(run_id)
