"""Links from a store to pages of the MLflow UI, and commands of auxgrad for the store."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from auxgrad.config.addresses import has_password, sqlite_file
from auxgrad.config.schema import TrackingConfig
from auxgrad.record import view
from auxgrad.record.folders import network_file_system
from auxgrad.record.store import Store

DEFAULT_EXPERIMENT = TrackingConfig().experiment
DEFAULT_BASE = "http://127.0.0.1:5000"  # The address of `python -m auxgrad.ui` if the port is free.


def description(store: Store) -> str:
    """Return the line that shows where runs are recorded.

    Args:
        store: the experiment in its store.

    Returns:
        The line, and a second one if only processes of one machine may use the store.
    """
    line = f"tracking  {store.address}, experiment {store.name}"
    file = sqlite_file(store.uri)
    kind = network_file_system(file) if file else None
    if file is None or kind is None:
        return line
    return f"{line}\nnote      {file.name} lies on {kind}: only processes of one machine may use it"


def command(store: Store, name: str) -> str:
    """Return a command of auxgrad for an experiment, which works in any folder.

    Args:
        store: the experiment in its store.
        name: the command, such as "report".
    """
    # An address with a password comes from MLFLOW_TRACKING_URI, which the command reads too.
    arguments = [] if has_password(store.uri) else [f"tracking.uri={store.uri}"]
    if store.name != DEFAULT_EXPERIMENT:
        arguments.append(f"tracking.experiment={store.name}")
    return f"python -m auxgrad.{name} {shlex.join(arguments)}".rstrip()


def ui_command(store: Store) -> str | None:
    """Return the command that shows a store in a browser; None if a server is already running."""
    return None if store.has_server else command(store, "ui")


def run_url(store: Store, run_id: str) -> str:
    """Return the link to the curves and results of a run."""
    return _page(store, f"runs/{run_id}/model-metrics?workflowType=machine_learning")


def artifacts_url(store: Store, run_id: str) -> str:
    """Return the link to the artifacts of a run."""
    return _page(store, f"runs/{run_id}/artifacts?workflowType=machine_learning")


def charts_url(store: Store, base: str | None = None) -> str:
    """Return the link to the charts of an experiment, in the view of `auxgrad.record.view`.

    Args:
        store: the experiment in its store.
        base: the address of the MLflow UI; by default that of the store's server, or DEFAULT_BASE.
    """
    return _page(store, f"runs?{view.CHARTS}", base)


def table_url(store: Store, base: str | None = None) -> str:
    """Return the link to the table of runs of an experiment, in the view of `auxgrad.record.view`.

    Args:
        store: the experiment in its store.
        base: as for `charts_url`.
    """
    return _page(store, f"runs?{view.TABLE}", base)


def _page(store: Store, rest: str, base: str | None = None) -> str:
    if base is None:
        base = _without_user(store.uri).rstrip("/") if store.has_server else DEFAULT_BASE
    return f"{base}/#/experiments/{store.experiment_id}/{rest}"


def _without_user(uri: str) -> str:
    """Return the address without a user, because the browser asks for one itself."""
    address = urlsplit(uri)
    return address._replace(netloc=address.netloc.rpartition("@")[2], query="").geturl()
