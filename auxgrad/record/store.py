"""An experiment in an MLflow store: open new runs, read existing ones, mark those of dead processes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from filelock import FileLock

from auxgrad.config.addresses import sqlite_file
from auxgrad.config.identity import Identity
from auxgrad.errors import TrackingError, without_passwords
from auxgrad.process.liveness import Observer, process_tags, stable_tags
from auxgrad.process.locks import holding
from auxgrad.record import view
from auxgrad.record.claims import ASKING, CLAIM, HELD, ask, refuse_second
from auxgrad.record.database import Database
from auxgrad.record.environment import context_tags
from auxgrad.record.remote import Server, stored
from auxgrad.record.stored import IDENTITY, RUN_KEY, SETTING_KEY, StoredRun
from auxgrad.record.writing import Dataset, RunWriter

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Suffixes of the names of the experiments for summary runs and for reports.
SETTINGS, REPORTS = "-settings", "-reports"
MAX_CHARACTERS = 8000  # In a tag; MLflow truncates longer texts.
MAX_NAME_CHARACTERS = 250  # In the name of a run; the limit of PostgreSQL.


@dataclass(frozen=True)
class Store:
    """An experiment in a reachable MLflow store. Use `open_store` to create one.

    Attributes:
        client: MLflow's client of the store.
        uri: the address of the store, which may contain a password.
        experiment_id: the id of the experiment.
        name: the name of the experiment.
    """

    client: MlflowClient
    uri: str = field(repr=False)
    experiment_id: str
    name: str
    _shown: set[str] = field(default_factory=set, compare=False, repr=False)
    _observer: Observer = field(default_factory=Observer, compare=False, repr=False)

    @property
    def address(self) -> str:
        """The address of the store without a password, for the user."""
        return without_passwords(self.uri)

    @property
    def has_server(self) -> bool:
        """Whether the store is a tracking server."""
        return self.uri.startswith(("http", "databricks"))

    def start_run(
        self,
        identity: Identity,
        tags: Mapping[str, str],
        dataset: Dataset,
        once: bool = False,
        resumes: Callable[[StoredRun], bool] = lambda run: False,
    ) -> RunWriter:
        """Open a run, a new one or an interrupted one that is resumed, and return its writer.

        The runs of the same identity whose processes are dead are marked KILLED first.

        Args:
            identity: what determines the result.
            tags: further tags.
            dataset: what the run is trained on.
            once: whether to refuse a second run of this identity while one is finished or running.
            resumes: a function that returns whether to resume a KILLED run of this identity.

        Raises:
            AlreadyFinished, RunsElsewhere: with `once`, see `refuse_second`.
            TrackingError: the identity is too long for a tag.
        """
        text = identity.to_json()
        if len(text) > MAX_CHARACTERS:
            what = f"run {identity.name[:60]}...: its options take {len(text)} characters as JSON"
            raise TrackingError(f"{what}; MLflow stores at most {MAX_CHARACTERS}")
        own = {IDENTITY: text, RUN_KEY: identity.key, SETTING_KEY: identity.setting_key}
        tags = {**context_tags(), **tags, **process_tags(), **own}
        with self._lock() as is_locked:
            before = self._existing(identity.key)
            if once:
                refuse_second(before)
            interrupted = next((run for run in before if run.status == "KILLED" and resumes(run)), None)
            if is_locked or not (once or interrupted):
                return self._open(identity, tags, dataset, interrupted)
        return self._open_among_rivals(identity, tags, dataset, interrupted, once)

    def _open(
        self,
        identity: Identity,
        tags: Mapping[str, str],
        dataset: Dataset,
        interrupted: StoredRun | None,
    ) -> RunWriter:
        if interrupted is not None:
            return self._reopen(interrupted, tags)
        name = identity.name[:MAX_NAME_CHARACTERS]
        run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
        writer = RunWriter(self.client, run)
        try:
            writer.params(identity.params)
            writer.dataset(dataset)
        except BaseException as error:
            with contextlib.suppress(Exception):
                writer.end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        return writer

    def _reopen(self, run: StoredRun, tags: Mapping[str, str]) -> RunWriter:
        writer = RunWriter(self.client, self.client.get_run(run.run_id))
        writer.skip_stored(run.metrics)
        # The tag of an ended SLURM task would mark a process outside SLURM as dead.
        for name in stable_tags(run.tags).keys() - tags.keys():
            self.client.delete_tag(run.run_id, name)
        for name, value in tags.items():
            writer.tag(name, value)
        writer.flush()
        # Last, so that no other process sees a RUNNING run that belongs to a dead process.
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
        """Open the run in a store without a lock, see `auxgrad.record.claims`."""
        writer = self._open(identity, {**tags, CLAIM: ASKING}, dataset, None)
        try:
            keeps = ask(writer.run_id, lambda: self._existing(identity.key), once)
        except BaseException:
            with contextlib.suppress(Exception):
                self._withdraw(writer)
            raise
        self.client.set_tag(writer.run_id, CLAIM, HELD)
        if interrupted is None or not keeps:
            return writer
        reopened = self._reopen(interrupted, tags)
        self._withdraw(writer)
        return reopened

    @contextlib.contextmanager
    def claimed(self, run: StoredRun) -> Iterator[None]:
        """Keep other processes from repeating a run inside the context, so that it may be finished.

        Raises:
            AlreadyFinished, RunsElsewhere: another run of the same identity is finished or running.
        """
        own = {name: run.tags[name] for name in (IDENTITY, RUN_KEY, SETTING_KEY) if name in run.tags}
        key = own.get(RUN_KEY, "")

        def others() -> list[StoredRun]:
            return [other for other in self._existing(key) if other.run_id != run.run_id]

        with self._lock() as is_locked:
            if is_locked:
                refuse_second(others())
                yield
                return
        tags = {**own, **process_tags(), CLAIM: ASKING}
        claim = self.start_derived(f"delivery of {run.run_id}", {}, tags)
        try:
            ask(claim.run_id, others, once=True)
            self.client.set_tag(claim.run_id, CLAIM, HELD)
            yield
        finally:
            self._withdraw(claim)

    def _existing(self, key: str) -> list[StoredRun]:
        return self.mark_dead(self.runs(key=key))

    def _withdraw(self, writer: RunWriter) -> None:
        writer.end("KILLED")
        self.client.delete_run(writer.run_id)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[bool]:
        """Hold the lock of the store inside the context; yield whether the store has a lock.

        Only an SQLite file, which processes of one machine share, has one.
        """
        if self._file_lock is None:
            yield False
            return
        with holding(self._file_lock):
            yield True

    @cached_property
    def _file_lock(self) -> FileLock | None:
        """The lock: a single object, so that the thread that holds it can acquire it again."""
        file = sqlite_file(self.uri)
        return FileLock(f"{file}.lock") if file else None

    def runs(self, status: str | None = None, key: str | None = None) -> list[StoredRun]:
        """Return runs of the experiment, newest first.

        Args:
            status: the status of the runs; None for all.
            key: the run key of the runs; None for all.
        """
        return self._reader.runs(status, key)

    def finished_keys(self) -> set[str]:
        """Return the keys of all FINISHED runs, except those that auxgrad 0.1.0 made."""
        return self._reader.finished_keys()

    def count_outdated(self) -> int:
        """Return the number of FINISHED runs that do not count, because auxgrad 0.1.0 made them."""
        return self._reader.count_outdated()

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, dict[int, float]]:
        """Return the curve of a metric, its values by step, for each of the runs that has it."""
        return self._reader.histories(run_ids, metric)

    @property
    def _reader(self) -> Database | Server:
        if self.has_server:
            return Server(self.client, self.experiment_id)
        return Database(self.uri, self.experiment_id)

    def mark_dead_runs(self) -> int:
        """Mark all RUNNING runs of dead processes KILLED, and return their number."""
        return sum(run.status == "KILLED" for run in self.mark_dead(self.runs("RUNNING")))

    def mark_dead(self, runs: Sequence[StoredRun]) -> list[StoredRun]:
        """Mark RUNNING runs of dead processes KILLED.

        Args:
            runs: the runs to check, as they were read.

        Returns:
            All these runs, with the present status of those that were checked again.
        """
        running = {run.run_id: run.tags for run in runs if run.status == "RUNNING"}
        dead = self._observer.dead({key: tags for key, tags in running.items() if RUN_KEY in tags})
        return [self._mark_killed(run) if run.run_id in dead else run for run in runs]

    def _mark_killed(self, run: StoredRun) -> StoredRun:
        """Mark a run KILLED, unless it has ended or was resumed since it was read."""
        with self._lock():
            now = stored(self.client.get_run(run.run_id))
            if now.status == "RUNNING" and stable_tags(now.tags) == stable_tags(run.tags):
                self.client.set_terminated(run.run_id, "KILLED")
                return replace(now, status="KILLED")
        return now

    def start_derived(self, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> RunWriter:
        """Open a run that is derived from other runs, such as a summary; return its writer."""
        run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
        writer = RunWriter(self.client, run)
        writer.params(params)
        return writer

    def add_charts(self, metrics: Iterable[str]) -> None:
        """Add charts of metrics to the view of the experiment, if they are missing.

        The store is queried once for each metric. If two processes add charts of different metrics at
        the same moment, the charts of one may be lost until another process adds them.

        Args:
            metrics: names without the prefixes `val_` and `test_`, such as accuracy.
        """
        from mlflow.exceptions import MlflowException

        new = [metric for metric in metrics if metric not in self._shown]
        if not new:
            return
        self._shown.update(new)
        with contextlib.suppress(MlflowException):  # The user may have no permission; it is optional.
            current = self.client.get_experiment(self.experiment_id).tags.get(view.TAG)
            names = dict.fromkeys([*view.metrics_in(current), *new])
            shared = view.state(self.name.endswith((SETTINGS, REPORTS)), list(names))
            if shared != current:
                self.client.set_experiment_tag(self.experiment_id, view.TAG, shared)

    def analyze(self) -> None:
        """Prepare the database for reading curves, which may take a second."""
        if not self.has_server:
            Database(self.uri, self.experiment_id).analyze()

    def delete(self, run_ids: Iterable[str]) -> None:
        """Move runs to MLflow's trash."""
        for run_id in run_ids:
            self.client.delete_run(run_id)
