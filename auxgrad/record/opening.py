"""Opens the store: which one it is, and what cannot be used."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from filelock import FileLock

from auxgrad.config.addresses import hide_password, sqlite_file, store_address
from auxgrad.config.schema import TrackingConfig
from auxgrad.errors import TrackingError
from auxgrad.process.locks import holding
from auxgrad.record import view
from auxgrad.record.database import create_database
from auxgrad.record.environment import CONTACT_SECONDS, few_retries, quieten, tell_of_outages
from auxgrad.record.store import REPORTS, SETTINGS, Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def open_store(config: TrackingConfig, create: bool = True) -> Store:
    """Return the experiment in its store, both created when missing, safely from many processes at once.

    Raises ConfigError for an address that no store has, and TrackingError, in seconds, if the store
    cannot be reached, written to or used, or if there is none and `create` is false.
    """
    return _open_at(*store_address(config.uri), config.experiment, create)


def _open_at(name: str, uri: str, experiment: str, create: bool) -> Store:
    file = sqlite_file(uri)
    if not create and file and not file.exists():
        raise TrackingError(f"{name}={uri}: there is no such store; a run of auxgrad.train creates it")
    with _claimed(name, uri, file) if file else contextlib.nullcontext():
        if file is None:
            _contact(name, uri)
        return _open(name, uri, experiment, create)


@contextlib.contextmanager
def _claimed(name: str, uri: str, file: Path) -> Iterator[None]:
    """Holds the lock of an SQLite file: unlocked, processes that make a database at once break it."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(holding(FileLock(f"{file}.lock")))
            file.open("ab").close()
        except OSError as error:
            raise TrackingError(f"{name}={uri}: cannot be written ({error.strerror or error})") from None
        yield


def open_sibling(store: Store, suffix: str, create: bool = True) -> Store:
    """Return the experiment with this suffix to the name, in the same store; created when missing.

    Raises TrackingError if it is missing and `create` is false.
    """
    return _open_at("tracking.uri", store.uri, store.name + suffix, create)


def _open(name: str, uri: str, experiment: str, create: bool) -> Store:
    quieten(os.environ)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    tell_of_outages()
    derived = experiment.endswith((SETTINGS, REPORTS))
    try:
        with few_retries():
            if (file := sqlite_file(uri)) and not file.stat().st_size:
                create_database(file, _artifacts(uri))
            client = MlflowClient(uri)
            found = client.get_experiment_by_name(experiment)
            if found is None and not create:
                names = sorted(each.name for each in client.search_experiments())
                raise TrackingError(
                    f"tracking.experiment={experiment}: is not in {uri}; there are {', '.join(names)}"
                )
            if found is None:
                found = _create(client, uri, experiment, view.state(derived))
    except TrackingError:
        raise
    except Exception as error:  # Of MLflow, SQLAlchemy or the database's driver.
        reason = hide_password(" ".join(str(error).split()), uri)[:300]
        raise TrackingError(f"{name}={uri}: cannot be used ({reason})") from None
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"tracking.experiment={experiment}: was deleted from {uri}; choose another name, or "
            f"bring it back with `mlflow experiments restore -x {found.experiment_id}`"
        )
    there = found.tags.get(view.TAG)
    shared = view.state(derived, view.metrics_in(there))  # Runs have added charts, which stay.
    if there != shared:
        with contextlib.suppress(MlflowException):  # Who may not change the experiment can do without.
            client.set_experiment_tag(found.experiment_id, view.TAG, shared)
    return Store(client, uri, found.experiment_id, experiment)


def _create(client: MlflowClient, uri: str, experiment: str, shared: str) -> Experiment:
    from mlflow.exceptions import MlflowException

    artifacts = None if uri.startswith(("http", "databricks")) else _artifacts(uri)
    try:
        return client.get_experiment(client.create_experiment(experiment, artifacts, {view.TAG: shared}))
    except MlflowException:
        # Another process was faster, on another machine perhaps.
        found = client.get_experiment_by_name(experiment)
        if found is None:
            raise
        return found


def _artifacts(uri: str) -> str:
    """Where the files of runs go if no server keeps them."""
    file = sqlite_file(uri)
    return ((file.parent if file else Path.cwd()) / "mlartifacts").as_uri()


def _contact(name: str, uri: str) -> None:
    """Fails at once where MLflow and SQLAlchemy would try again for minutes."""
    address = urlsplit(uri)
    scheme = address.scheme.partition("+")[0]
    if address.hostname is None or scheme not in PORTS:
        return
    try:
        port = address.port or PORTS[scheme]
        socket.create_connection((address.hostname, port), CONTACT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise TrackingError(
            f"{name}={uri}: no tracking server can be reached there ({error}); "
            "start it, or leave the key out to use mlflow.db in the working directory"
        ) from None
