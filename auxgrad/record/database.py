"""Reads runs from the tables of MLflow's database, without its client.

The client makes objects of every row, and has no call for one tag of all runs or the curves of many.
With 10,000 runs it takes 20 times as long as the tables do.

The tables, `mlflow.store.tracking.dbmodels.models`, are private to MLflow. They change with its major
version at most, and pyproject.toml bounds that. Nothing else in the package uses what is private to
MLflow. Nothing is written here.
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

LOCKED_SECONDS = 20  # How long to wait for those who write; as long as MLflow itself waits.
MOST_VARIABLES = 10_000  # In one query; SQLite takes 32,766.


@dataclass(frozen=True)
class Database:
    """The runs of an experiment that are not in MLflow's trash."""

    uri: str = field(repr=False)
    experiment_id: str

    def runs(self, status: str | None = None, key: str | None = None) -> list[StoredRun]:
        """Return the runs with this status and this run key, newest first."""
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
                    if run_id in by_run:  # Not of a run that has begun since.
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
        """Return curves of a metric, as values by step, of all these runs that have one."""
        from mlflow.store.tracking.dbmodels.models import SqlMetric
        from sqlalchemy import select

        columns = (SqlMetric.run_uuid, SqlMetric.step, SqlMetric.value, SqlMetric.is_nan)
        by_run: dict[str, dict[int, float]] = {}
        with _connect(self.uri) as connection:
            for start in range(0, len(run_ids), MOST_VARIABLES):
                part = run_ids[start : start + MOST_VARIABLES]
                query = select(*columns).where(SqlMetric.key == metric, SqlMetric.run_uuid.in_(part))
                in_order = query.order_by(SqlMetric.run_uuid, SqlMetric.step)
                for run_id, step, value, is_nan in connection.execute(in_order):
                    by_run.setdefault(run_id, {})[step] = math.nan if is_nan else value
        return by_run

    def analyze(self) -> None:
        """Let SQLite count its rows; or it takes an index that makes a curve cost the whole table."""
        file = sqlite_file(self.uri)
        if file is None:
            return
        with (
            contextlib.suppress(sqlite3.OperationalError),  # Locked: then it stays slow for this time.
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
    """Make the file a new database of MLflow's; whoever is killed meanwhile leaves no half of one.

    Args:
        file: the place; what is there, an empty file, is replaced.
        artifacts: URI of the folder for files of MLflow's default experiment.
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
    """The engine of this process: a forked one must not use the connections of its parent."""
    from mlflow.store.db.utils import create_sqlalchemy_engine  # It knows MLflow's options for SSL.

    return create_sqlalchemy_engine(uri)
