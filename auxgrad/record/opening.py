"""Open the tracking store, and check that it can be used."""

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
from auxgrad.record.environment import (
    CONNECT_SECONDS,
    few_retries,
    filter_outage_logs,
    set_quiet_defaults,
)
from auxgrad.record.store import REPORTS, SETTINGS, Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def open_store(config: TrackingConfig, create: bool = True) -> Store:
    """Open an experiment in its store.

    Several processes may open, and create, one store at the same time.

    Args:
        config: which store, and which experiment in it.
        create: whether to create what does not exist.

    Raises:
        ConfigError: the address cannot be that of a store.
        TrackingError: the store cannot be reached, written to or used; or it does not exist and `create`
            is false. A server that does not answer is reported in seconds.
    """
    return _open_at(*store_address(config.uri), config.experiment, create)


def _open_at(name: str, uri: str, experiment: str, create: bool) -> Store:
    file = sqlite_file(uri)
    if not create and file and not file.exists():
        raise TrackingError(f"{name}={uri}: there is no such store; a run of auxgrad.train creates it")
    set_quiet_defaults(os.environ)
    import mlflow  # noqa: F401  # It takes seconds, for which other processes would wait.

    with _locked(name, uri, file) if file else contextlib.nullcontext():
        if file is None:
            _check_connection(name, uri)
        return _open(name, uri, experiment, create)


@contextlib.contextmanager
def _locked(name: str, uri: str, file: Path) -> Iterator[None]:
    """Hold the lock of an SQLite file, because processes that create a database together break it."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(holding(FileLock(f"{file}.lock")))
            file.open("ab").close()
        except OSError as error:
            raise TrackingError(f"{name}={uri}: cannot be written ({error.strerror or error})") from None
        yield


def open_sibling(store: Store, suffix: str, create: bool = True) -> Store:
    """Open the experiment of the same name with a suffix, in the same store.

    Args:
        store: an experiment in its store.
        suffix: such as `SETTINGS`.
        create: whether to create the experiment if it does not exist.

    Raises:
        TrackingError: the experiment does not exist and `create` is false.
    """
    return _open_at("tracking.uri", store.uri, store.name + suffix, create)


def _open(name: str, uri: str, experiment: str, create: bool) -> Store:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    filter_outage_logs()
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
                    f"tracking.experiment={experiment}: is not in {uri}; "
                    f"its experiments are {', '.join(names)}"
                )
            if found is None:
                found = _create(client, uri, experiment, view.state(derived))
    except TrackingError:
        raise
    except Exception as error:  # Raised by MLflow, SQLAlchemy or the driver of the database.
        reason = hide_password(" ".join(str(error).split()), uri)[:300]
        raise TrackingError(f"{name}={uri}: cannot be used ({reason})") from None
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"tracking.experiment={experiment}: was deleted from {uri}; choose another name, or "
            f"restore it with `mlflow experiments restore -x {found.experiment_id}`"
        )
    current = found.tags.get(view.TAG)
    shared = view.state(derived, view.metrics_in(current))  # Keep the charts that runs have added.
    if current != shared:
        with contextlib.suppress(MlflowException):  # The user may have no permission; it is optional.
            client.set_experiment_tag(found.experiment_id, view.TAG, shared)
    return Store(client, uri, found.experiment_id, experiment)


def _create(client: MlflowClient, uri: str, experiment: str, shared: str) -> Experiment:
    from mlflow.exceptions import MlflowException

    artifacts = None if uri.startswith(("http", "databricks")) else _artifacts(uri)
    try:
        return client.get_experiment(client.create_experiment(experiment, artifacts, {view.TAG: shared}))
    except MlflowException:
        # Another process, perhaps on another machine, has created the experiment.
        found = client.get_experiment_by_name(experiment)
        if found is None:
            raise
        return found


def _artifacts(uri: str) -> str:
    """Return the URI of the folder for artifacts, if no server stores them."""
    file = sqlite_file(uri)
    return ((file.parent if file else Path.cwd()) / "mlartifacts").as_uri()


def _check_connection(name: str, uri: str) -> None:
    """Raise TrackingError at once for a server that MLflow and SQLAlchemy would retry for minutes."""
    address = urlsplit(uri)
    scheme = address.scheme.partition("+")[0]
    if address.hostname is None or scheme not in PORTS:
        return
    try:
        port = address.port or PORTS[scheme]
        socket.create_connection((address.hostname, port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise TrackingError(
            f"{name}={uri}: no tracking server can be reached there ({error}); "
            "start it, or remove the key to use mlflow.db in the working directory"
        ) from None
