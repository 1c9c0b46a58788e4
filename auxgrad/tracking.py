"""The record of a run in MLflow. The only module that imports mlflow."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from filelock import FileLock

from auxgrad import view
from auxgrad.config import TrackingConfig
from auxgrad.errors import AlreadyFinished, RunsElsewhere, TrackingError
from auxgrad.processes import SIGN_OF_LIFE, identity, is_alive, sign_of_life

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_KEY, SETTING_KEY = "run_key", "setting_key"
SETTINGS, REPORTS = "-settings", "-reports"  # Experiments of summary runs and of reports.
DEFAULT_EXPERIMENT = "auxgrad"  # As in conf/config.yaml.
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
BATCH = 1000  # Most metrics that one call of the MLflow API takes.
CONTACT_SECONDS = 10
SIGN_OF_LIFE_SECONDS = 60
METRIC_SECONDS = 5  # Longest that metrics wait while a run goes on: each writing takes 10 ms.
PAGE = 1000  # Most runs that one call returns.
REQUESTS = 8  # At once, to a server.
MOST_VARIABLES = 10_000  # In one query; SQLite takes 32,766.


@dataclass(frozen=True)
class Store:
    """An experiment in a reachable MLflow store."""

    client: MlflowClient
    uri: str
    experiment_id: str
    name: str

    @property
    def has_server(self) -> bool:
        """Whether a server stands between here and the database."""
        return self.uri.startswith(("http", "databricks"))

    def start_run(
        self,
        name: str,
        key: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
        dataset: Dataset,
        once: bool = False,
    ) -> RunRecord:
        """Opens a run with status RUNNING.

        With `once` no other run of this key may be finished or running: raises AlreadyFinished or
        RunsElsewhere. Of a dead process a run is marked KILLED and counts no more.
        """
        from mlflow.entities import Param
        from mlflow.tracking.context.registry import resolve_tags

        with self._lock() if once else contextlib.nullcontext():
            if once:
                self._refuse_second(key)
            # resolve_tags: user, source file and git commit, as mlflow.start_run would add them.
            all_tags = {**resolve_tags(), **tags, **identity(), RUN_KEY: key}
            run = self.client.create_run(self.experiment_id, run_name=name, tags=all_tags)
        record = RunRecord(self, run.info.run_id)
        try:
            self.client.log_batch(
                record.run_id, params=[Param(key, value) for key, value in params.items()]
            )
            self._log_dataset(record.run_id, dataset)
        except BaseException:
            with contextlib.suppress(Exception):
                record.end("FAILED")
            raise
        return record

    def _log_dataset(self, run_id: str, dataset: Dataset) -> None:
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        entity = MlflowDataset(
            name=dataset.name,
            digest=dataset.fingerprint[:32],
            source_type="local",
            source=dataset.source,
            profile=dataset.profile,
        )
        inputs = [DatasetInput(entity, tags=[InputTag("mlflow.data.context", "training")])]
        try:
            self.client.log_inputs(run_id, datasets=inputs)
        except MlflowException:
            # Runs that bring the same new data set at once fail in MLflow, all but one; now it is there.
            self.client.log_inputs(run_id, datasets=inputs)

    def _lock(self) -> contextlib.AbstractContextManager[Any]:
        """Between a look into the store and a new run no other process may make the same run.

        Where processes of one machine share an SQLite file; a server has no such lock, so there two
        processes that ask within milliseconds may both go on.
        """
        file = _sqlite_file(self.uri)
        return FileLock(f"{file}.lock") if file else contextlib.nullcontext()

    def _refuse_second(self, key: str) -> None:
        for run in self.runs(f"tags.{RUN_KEY} = '{key}'"):
            if run.status == "FINISHED":
                raise AlreadyFinished(f"finished already: run {run.run_id}", run.run_id)
            if run.status == "RUNNING" and not self.kill_orphan(run):
                raise RunsElsewhere(f"is running elsewhere, in {run.where}")

    def runs(self, condition: str = "") -> list[Recorded]:
        """The experiment's runs, newest first, that meet a condition in MLflow's search language."""
        found: list[Recorded] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], condition, max_results=PAGE, page_token=token
            )
            for run in page:
                data = run.data
                found.append(
                    Recorded(run.info.run_id, run.info.status, data.params, data.metrics, data.tags)
                )
            token = page.token
            if not token:
                return found

    def finished_keys(self) -> set[str]:
        """Keys of all runs that are FINISHED."""
        return {run.tags.get(RUN_KEY, "") for run in self.runs("attributes.status = 'FINISHED'")}

    def kill_orphans(self) -> int:
        """Marks all RUNNING runs of dead processes KILLED; how many there were."""
        return sum(self.kill_orphan(run) for run in self.runs("attributes.status = 'RUNNING'"))

    def kill_orphan(self, run: Recorded) -> bool:
        """Marks a RUNNING run KILLED if its process is dead; whether it was."""
        if RUN_KEY not in run.tags or is_alive(run.tags):
            return False
        self.client.set_terminated(run.run_id, "KILLED")
        return True

    def sibling(self, suffix: str, create: bool = True) -> Store:
        """The experiment with this suffix to the name, in the same store; created when missing.

        Raises TrackingError if it is missing and `create` is false.
        """
        config = TrackingConfig(
            uri=self.uri, experiment=self.name + suffix, log_model=None, tensorboard=False
        )
        return open_store(config, create)

    def start_derived(self, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> RunRecord:
        """Opens a run that is made of others: a summary, a report."""
        from mlflow.entities import Param

        run_id = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags)).info.run_id
        self.client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
        return RunRecord(self, run_id)

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, dict[int, float]]:
        """Curves of a metric, as values by step, of all these runs that have one."""
        if self.has_server:
            with ThreadPoolExecutor(REQUESTS) as pool:
                found = pool.map(lambda run_id: self.client.get_metric_history(run_id, metric), run_ids)
                curves = [{point.step: point.value for point in points} for points in found]
            return {run_id: curve for run_id, curve in zip(run_ids, curves, strict=True) if curve}
        # In MLflow's own tables, but past its API: that takes 5 ms a curve, or 100 where there are many.
        from mlflow.store.tracking.dbmodels.models import SqlMetric
        from sqlalchemy import NullPool, create_engine, select

        columns = (SqlMetric.run_uuid, SqlMetric.step, SqlMetric.value, SqlMetric.is_nan)
        by_run: dict[str, dict[int, float]] = {}
        engine = create_engine(self.uri, poolclass=NullPool)
        with engine.connect() as connection:
            for start in range(0, len(run_ids), MOST_VARIABLES):
                part = run_ids[start : start + MOST_VARIABLES]
                query = select(*columns).where(SqlMetric.key == metric, SqlMetric.run_uuid.in_(part))
                for run_id, step, value, is_nan in connection.execute(query.order_by(SqlMetric.step)):
                    by_run.setdefault(run_id, {})[step] = math.nan if is_nan else value
        return by_run

    def analyze(self) -> None:
        """Lets SQLite count its rows; or it takes an index that makes a curve cost the whole table."""
        file = _sqlite_file(self.uri)
        if file is None:
            return
        with (
            contextlib.suppress(sqlite3.OperationalError),  # Locked: then it stays slow for this time.
            contextlib.closing(sqlite3.connect(file, timeout=CONTACT_SECONDS)) as connection,
        ):
            connection.execute("PRAGMA analysis_limit = 1000")
            connection.execute("ANALYZE metrics")
            connection.commit()

    def delete(self, run_ids: Iterable[str]) -> None:
        """Moves runs to MLflow's trash."""
        for run_id in run_ids:
            self.client.delete_run(run_id)

    def command(self, name: str) -> str:
        """A command of auxgrad on this experiment, from whatever folder."""
        words = [f"tracking.uri={self.uri}"]
        if self.name != DEFAULT_EXPERIMENT:
            words.append(f"tracking.experiment={self.name}")
        return f"python -m auxgrad.{name} {shlex.join(words)}"

    def ui_command(self) -> str | None:
        """The command that shows this store in a browser; None where a server is running already."""
        return None if self.has_server else self.command("ui")

    def ui_url(self, run_id: str) -> str:
        """The page of a run's curves and results in the MLflow UI."""
        return self._page(f"runs/{run_id}/model-metrics?workflowType=machine_learning")

    def ui_artifacts_url(self, run_id: str) -> str:
        """The page of a run's files in the MLflow UI."""
        return self._page(f"runs/{run_id}/artifacts?workflowType=machine_learning")

    def ui_charts_url(self, base: str | None = None) -> str:
        """The page of the charts of the experiment in the MLflow UI, as `auxgrad.view` has it."""
        return self._page(f"runs?{view.CHARTS}", base)

    def ui_table_url(self, base: str | None = None) -> str:
        """The page of the table of the experiment's runs in the MLflow UI, as `auxgrad.view` has it."""
        return self._page(f"runs?{view.TABLE}", base)

    def _page(self, rest: str, base: str | None = None) -> str:
        if base is None:
            base = self.uri.rstrip("/") if self.has_server else "http://127.0.0.1:5000"
        return f"{base}/#/experiments/{self.experiment_id}/{rest}"


@dataclass(frozen=True)
class Dataset:
    """What a run was trained on: name, SHA-256 of its content, and JSON texts for MLflow."""

    name: str
    fingerprint: str
    source: str
    profile: str


@dataclass(frozen=True)
class Recorded:
    """A run as the store has it; of each metric the last value."""

    run_id: str
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def where(self) -> str:
        """The process that the run belongs to, for a person."""
        return f"process {self.tags.get('worker.pid')} on {self.tags.get('worker.host')}"


class RunRecord:
    """One run; metrics wait in memory until `flush`, or `flush_now_and_then`."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self._waiting: list[Any] = []
        self._flushed = self._seen_alive = time.monotonic()

    def metric(self, name: str, value: float, step: int) -> None:
        from mlflow.entities import Metric

        self._waiting.append(Metric(name, value, int(time.time() * 1000), step))

    def flush_now_and_then(self) -> None:
        """Writes the metrics that wait if the last writing was seconds ago."""
        if time.monotonic() - self._flushed > METRIC_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes the metrics that wait."""
        self._flushed = time.monotonic()
        while self._waiting:
            self.store.client.log_batch(self.run_id, metrics=self._waiting[:BATCH])
            del self._waiting[:BATCH]
        if time.monotonic() - self._seen_alive > SIGN_OF_LIFE_SECONDS:
            self._seen_alive = time.monotonic()
            self.store.client.set_tag(self.run_id, SIGN_OF_LIFE, sign_of_life())

    def text(self, content: str, file: str) -> None:
        """Stores a text artifact."""
        self.store.client.log_text(self.run_id, content, file)

    @contextlib.contextmanager
    def artifact(self, name: str) -> Iterator[Path]:
        """A path to write to; what is there at the end becomes an artifact of that name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            yield path
            self.store.client.log_artifact(self.run_id, str(path))

    def folder(self, path: Path) -> None:
        """Stores all files of a folder as artifacts."""
        self.store.client.log_artifacts(self.run_id, str(path))

    def end(self, status: str) -> None:
        """Closes the run with status FINISHED, FAILED or KILLED; metrics must be flushed before."""
        self.store.client.set_terminated(self.run_id, status)


def store_uri(config: TrackingConfig) -> str:
    """MLFLOW_TRACKING_URI, else `tracking.uri`, else mlflow.db in the working directory; absolute."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or config.uri or "sqlite:///mlflow.db"
    file = _sqlite_file(uri)
    return f"sqlite:///{file}" if file else uri


def open_store(config: TrackingConfig, create: bool = True) -> Store:
    """The experiment in its store, both created when missing, safely from many processes at once.

    Raises TrackingError, in seconds, if the store cannot be reached, written to or used, or if there is
    none and `create` is false.
    """
    uri = store_uri(config)
    name = "MLFLOW_TRACKING_URI" if os.environ.get("MLFLOW_TRACKING_URI") else "tracking.uri"
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme not in SCHEMES:
        raise TrackingError(
            f"{name}={uri}: must begin with one of {', '.join(f'{known}:' for known in SCHEMES)}"
        )
    file = _sqlite_file(uri)
    if not create and file and not file.exists():
        raise TrackingError(f"{name}={uri}: there is no such store; a run of auxgrad.train creates it")
    with contextlib.ExitStack() as stack:
        if file:
            # Unlocked, processes that meet a database not there yet break it for one another.
            try:
                stack.enter_context(FileLock(f"{file}.lock"))
                file.open("ab").close()
            except OSError as error:
                raise TrackingError(
                    f"{name}={uri}: cannot be written ({error.strerror or error})"
                ) from None
        else:
            _contact(name, uri)
        return _open(name, uri, config.experiment, file, create)


def _open(name: str, uri: str, experiment: str, file: Path | None, create: bool) -> Store:
    # Before mlflow is imported, which reads them.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    shared = view.state(derived=experiment.endswith((SETTINGS, REPORTS)))
    artifacts = None
    if not uri.startswith(("http", "databricks")):
        artifacts = ((file.parent if file else Path.cwd()) / "mlartifacts").as_uri()
    try:
        with _few_retries():
            client = MlflowClient(uri)
            found = client.get_experiment_by_name(experiment)
            if found is None and not create:
                names = sorted(each.name for each in client.search_experiments())
                raise TrackingError(
                    f"tracking.experiment={experiment}: is not in {uri}; there are {', '.join(names)}"
                )
            if found is None:
                try:
                    tags = {view.TAG: shared}
                    return Store(
                        client, uri, client.create_experiment(experiment, artifacts, tags), experiment
                    )
                except MlflowException:
                    # Another process was faster, on another machine perhaps.
                    found = client.get_experiment_by_name(experiment)
                    if found is None:
                        raise
    except TrackingError:
        raise
    except Exception as error:  # Of MLflow, SQLAlchemy or the database's driver.
        reason = " ".join(str(error).split())[:300]
        raise TrackingError(f"{name}={uri}: cannot be used ({reason})") from None
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"tracking.experiment={experiment}: was deleted from {uri}; choose another name, or "
            f"bring it back with `mlflow experiments restore -x {found.experiment_id}`"
        )
    if found.tags.get(view.TAG) != shared:
        with contextlib.suppress(MlflowException):  # Who may not change the experiment can do without.
            client.set_experiment_tag(found.experiment_id, view.TAG, shared)
    return Store(client, uri, found.experiment_id, experiment)


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def _contact(name: str, uri: str) -> None:
    """Fails at once where MLflow and SQLAlchemy would try again for minutes."""
    address = urlsplit(uri)
    ports = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
    scheme = address.scheme.partition("+")[0]
    if address.hostname is None or scheme not in ports:
        return
    try:
        port = address.port or ports[scheme]
        socket.create_connection((address.hostname, port), CONTACT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise TrackingError(
            f"{name}={uri}: no tracking server can be reached there ({error}); "
            "start it, or leave the key out to use mlflow.db in the working directory"
        ) from None


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    limits = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(CONTACT_SECONDS),
    }
    limits = {name: value for name, value in limits.items() if name not in os.environ}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name in limits:
            del os.environ[name]
