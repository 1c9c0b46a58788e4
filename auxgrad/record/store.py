"""An experiment in a reachable MLflow store: what is in it, and new runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from filelock import FileLock

from auxgrad.config.addresses import sqlite_file
from auxgrad.config.identity import Identity
from auxgrad.errors import AuxgradError, RunsElsewhere, TrackingError, without_passwords
from auxgrad.process.liveness import Observer, process_of, process_tags
from auxgrad.process.locks import holding
from auxgrad.record import view
from auxgrad.record.claims import ASKING, CLAIM, HELD, may_keep
from auxgrad.record.database import Database
from auxgrad.record.remote import Server, stored
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
    _observer: Observer = field(default_factory=Observer, compare=False, repr=False)

    @property
    def address(self) -> str:
        """The URI for people, without a password."""
        return without_passwords(self.uri)

    @property
    def has_server(self) -> bool:
        """Whether a server stands between here and the database."""
        return self.uri.startswith(("http", "databricks"))

    def start_run(
        self,
        identity: Identity,
        tags: Mapping[str, str],
        dataset: Dataset,
        once: bool = False,
        resumes: Callable[[StoredRun], bool] = lambda run: False,
    ) -> RunWriter:
        """Open a run with status RUNNING: a new one, or one that was interrupted.

        Args:
            identity: what determines the result.
            tags: further tags.
            dataset: what the run is trained on.
            once: no other run of this identity may be finished or running. A run of a dead process is
                marked KILLED and counts no more.
            resumes: returns whether a KILLED run of this identity is to be gone on with.

        Raises:
            AlreadyFinished, RunsElsewhere: with `once`.
            TrackingError: the identity is too long for a tag.
        """
        text = identity.to_json()
        if len(text) > MOST_CHARACTERS:
            raise TrackingError(
                f"run {identity.name[:60]}...: its options take {len(text)} characters as JSON; "
                f"MLflow stores at most {MOST_CHARACTERS}"
            )
        own = {IDENTITY: text, RUN_KEY: identity.key, SETTING_KEY: identity.setting_key}
        all_tags = {**context_tags(), **tags, **process_tags(), **own}
        with self._lock() as is_locked:
            before = self.mark_dead(self.runs(key=identity.key))
            if once:
                _refuse_second(before)
            interrupted = next((run for run in before if run.status == "KILLED" and resumes(run)), None)
            if is_locked or not (once or interrupted):
                return self._open(identity, all_tags, dataset, interrupted)
        return self._open_among_rivals(identity, all_tags, dataset, interrupted, once)

    def _open(
        self,
        identity: Identity,
        tags: Mapping[str, str],
        dataset: Dataset,
        interrupted: StoredRun | None,
    ) -> RunWriter:
        if interrupted is not None:
            return self._reopen(interrupted, tags)
        name = identity.name[:NAME_CHARACTERS]
        run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
        writer = RunWriter(self.client, run)
        try:
            writer.params(identity.params)
            writer.dataset(dataset)
        except BaseException:
            with contextlib.suppress(Exception):
                writer.end("FAILED")
            raise
        return writer

    def _reopen(self, run: StoredRun, tags: Mapping[str, str]) -> RunWriter:
        writer = RunWriter(self.client, self.client.get_run(run.run_id))
        writer.skip_what_is_stored(run.metrics)
        # A SLURM task that is over, in the tags of a process outside SLURM, would make it count as dead.
        for name in process_of(run.tags).keys() - tags.keys():
            self.client.delete_tag(run.run_id, name)
        for name, value in tags.items():
            writer.tag(name, value)
        writer.flush()
        # Last, or whoever looks meanwhile finds a run that is RUNNING in a dead process, and kills it.
        self.client.update_run(run.run_id, status="RUNNING")
        return writer

    def _open_among_rivals(
        self,
        identity: Identity,
        tags: Mapping[str, str],
        dataset: Dataset,
        interrupted: StoredRun | None,
        once: bool,
    ) -> RunWriter:
        """Open the run where no lock keeps others from doing the same, see `auxgrad.record.claims`."""
        writer = self._open(identity, {**tags, CLAIM: ASKING}, dataset, None)
        met: list[StoredRun] = []

        def rivals() -> list[StoredRun]:
            there = self.mark_dead(self.runs(key=identity.key))
            met[:] = [run for run in there if run.run_id != writer.run_id]
            return [run for run in met if run.status == "RUNNING"]

        try:
            keeps = may_keep(writer.run_id, rivals)
            if once:
                _refuse_second(met)
                if not keeps:
                    raise RunsElsewhere("is being started elsewhere")
        except BaseException:
            with contextlib.suppress(Exception):
                writer.end("KILLED")
                self.client.delete_run(writer.run_id)
            raise
        self.client.set_tag(writer.run_id, CLAIM, HELD)
        if interrupted is None or not keeps:
            return writer
        reopened = self._reopen(interrupted, tags)
        writer.end("KILLED")
        self.client.delete_run(writer.run_id)
        return reopened

    @contextlib.contextmanager
    def _lock(self) -> Iterator[bool]:
        """Let no other process make the same run inside; give whether the store has such a lock.

        That holds where processes of one machine share an SQLite file.
        """
        if self._file_lock is None:
            yield False
            return
        with holding(self._file_lock):
            yield True

    @cached_property
    def _file_lock(self) -> FileLock | None:
        """One object, with which a thread that has the lock may take it again."""
        file = sqlite_file(self.uri)
        return FileLock(f"{file}.lock") if file else None

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
        marked = self.mark_dead(self.runs("RUNNING"))
        return sum(run.status == "KILLED" for run in marked)

    def mark_dead(self, runs: Sequence[StoredRun]) -> list[StoredRun]:
        """Mark those of the runs KILLED that are RUNNING in dead processes. Return all as they are."""
        running = {run.run_id: run.tags for run in runs if run.status == "RUNNING"}
        dead = self._observer.dead({key: tags for key, tags in running.items() if RUN_KEY in tags})
        return [self._mark(run) if run.run_id in dead else run for run in runs]

    def _mark(self, run: StoredRun) -> StoredRun:
        """Mark a run KILLED, unless it has ended, or been gone on with, since it was read."""
        with self._lock():
            now = stored(self.client.get_run(run.run_id))
            if now.status == "RUNNING" and process_of(now.tags) == process_of(run.tags):
                self.client.set_terminated(run.run_id, "KILLED")
                return replace(now, status="KILLED")
        return now

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


def _refuse_second(runs: Iterable[StoredRun]) -> None:
    for run in runs:
        if run.status == "FINISHED":
            raise AlreadyFinished(run)
        if run.status == "RUNNING":
            raise RunsElsewhere(f"is running elsewhere, in {run.where}")
