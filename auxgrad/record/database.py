"""Read runs from the tables of MLflow's database, without MLflow's client.

The client creates an object for every row. It has no call for one tag of all runs, or for the curves of
many runs. With 10,000 runs it takes 20 times as long as reading the tables.

The tables, `mlflow.store.tracking.dbmodels.models`, are private to MLflow. They change at most with its
major version, which pyproject.toml bounds. This module does not write to the tables.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from auxgrad.config.addresses import sqlite_file
from auxgrad.record.stored import IDENTITY, RUN_KEY, StoredRun

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Engine

LOCKED_SECONDS = 20  # How long to wait for a process that writes; MLflow waits for the same time.
MAX_VARIABLES = 10_000  # In one query; SQLite allows 32,766.


@dataclass(frozen=True)
class Database:
    """Reads the runs of an experiment from the database, except those in MLflow's trash.

    Attributes:
        uri: the address of the database.
        experiment_id: the experiment.
    """

    uri: str = field(repr=False)
    experiment_id: str

    def runs(self, status: str | None = None, key: str | None = None) -> list[StoredRun]:
        """Return runs of the experiment, newest first.

        Args:
            status: the status of the runs; None for all.
            key: the run key of the runs; None for all.
        """
        from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlRun, SqlTag
        from sqlalchemy import select

        wanted = self._wanted(status)
        if key is not None:
            of_key = select(SqlTag.run_uuid).where(SqlTag.key == RUN_KEY, SqlTag.value == key)
            wanted.append(SqlRun.run_uuid.in_(of_key))
        newest_first = SqlRun.start_time.desc(), SqlRun.run_uuid
        with _connect(self.uri) as connection:
            query = select(SqlRun.run_uuid, SqlRun.status).where(*wanted).order_by(*newest_first)
            found = [tuple(row) for row in connection.execute(query)]
            if not found:
                return []
            params: dict[str, dict[str, str]] = {run_id: {} for run_id, _ in found}
            tags: dict[str, dict[str, str]] = {run_id: {} for run_id, _ in found}
            metrics: dict[str, dict[str, float]] = {run_id: {} for run_id, _ in found}
            for table, by_run in ((SqlParam, params), (SqlTag, tags)):
                columns = table.run_uuid, table.key, table.value
                rows = connection.execute(select(*columns).join(SqlRun).where(*wanted))
                for run_id, name, value in rows:
                    if run_id in by_run:  # A run may have started since the first query.
                        by_run[run_id][name] = value
            latest = SqlLatestMetric
            metric_columns = latest.run_uuid, latest.key, latest.value, latest.is_nan
            rows = connection.execute(select(*metric_columns).join(SqlRun).where(*wanted))
            for run_id, name, value, is_nan in rows:
                if run_id in metrics:
                    metrics[run_id][name] = math.nan if is_nan else value
        return [
            StoredRun(run_id, state, params[run_id], metrics[run_id], tags[run_id])
            for run_id, state in found
        ]

    def finished_keys(self) -> set[str]:
        """Return the keys of the FINISHED runs that have an identity."""
        from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
        from sqlalchemy import select

        query = select(SqlTag.value).join(SqlRun)
        with _connect(self.uri) as connection:
            return set(
                connection.scalars(
                    query.where(*self._wanted("FINISHED"), SqlTag.key == RUN_KEY, _has_identity())
                )
            )

    def count_outdated(self) -> int:
        """Return how many FINISHED runs have a key but no identity."""
        from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
        from sqlalchemy import func, select

        query = select(func.count()).select_from(SqlTag).join(SqlRun)
        with _connect(self.uri) as connection:
            return connection.execute(
                query.where(*self._wanted("FINISHED"), SqlTag.key == RUN_KEY, ~_has_identity())
            ).scalar_one()

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, dict[int, float]]:
        """Return the curves of a metric.

        Args:
            run_ids: the runs.
            metric: the name of the metric.

        Returns:
            The values by step, for each run that has the metric.
        """
        from mlflow.store.tracking.dbmodels.models import SqlMetric
        from sqlalchemy import select

        columns = (SqlMetric.run_uuid, SqlMetric.step, SqlMetric.value, SqlMetric.is_nan)
        by_run: dict[str, dict[int, float]] = {}
        with _connect(self.uri) as connection:
            for start in range(0, len(run_ids), MAX_VARIABLES):
                part = run_ids[start : start + MAX_VARIABLES]
                query = select(*columns).where(SqlMetric.key == metric, SqlMetric.run_uuid.in_(part))
                in_order = query.order_by(SqlMetric.run_uuid, SqlMetric.step)
                for run_id, step, value, is_nan in connection.execute(in_order):
                    by_run.setdefault(run_id, {})[step] = math.nan if is_nan else value
        return by_run

    def analyze(self) -> None:
        """Update SQLite's statistics, so that it reads a curve with an index and not the whole table."""
        file = sqlite_file(self.uri)
        if file is None:
            return
        with (
            contextlib.suppress(sqlite3.OperationalError),  # If the file is locked, reading stays slow.
            contextlib.closing(sqlite3.connect(file, timeout=LOCKED_SECONDS / 2)) as connection,
        ):
            connection.execute("PRAGMA analysis_limit = 1000")
            connection.execute("ANALYZE metrics")
            connection.commit()

    def _wanted(self, status: str | None) -> list[ColumnElement[bool]]:
        from mlflow.store.tracking.dbmodels.models import SqlRun

        wanted = [SqlRun.experiment_id == int(self.experiment_id), SqlRun.lifecycle_stage == "active"]
        return wanted if status is None else [*wanted, SqlRun.status == status]


def create_database(file: Path, artifacts: str) -> None:
    """Create a database of MLflow; a process that is killed meanwhile leaves no incomplete database.

    Args:
        file: the file of the database; an empty file is replaced.
        artifacts: the URI of the folder for the artifacts of MLflow's default experiment.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{new}", artifacts).engine.dispose()
    new.replace(file)


def _has_identity() -> ColumnElement[bool]:
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
    from sqlalchemy import exists
    from sqlalchemy.orm import aliased

    other = aliased(SqlTag)
    return exists().where(other.key == IDENTITY, other.run_uuid == SqlRun.run_uuid)


@contextlib.contextmanager
def _connect(uri: str) -> Iterator[Connection]:
    from sqlalchemy import text

    with _engine(uri, os.getpid()).connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text(f"PRAGMA busy_timeout = {LOCKED_SECONDS * 1000}"))
        yield connection


@functools.cache
def _engine(uri: str, process: int) -> Engine:
    """Return the engine of a process, because a fork must not use the connections of its parent."""
    from mlflow.store.db.utils import create_sqlalchemy_engine  # It supports MLflow's options for SSL.

    return create_sqlalchemy_engine(uri)
