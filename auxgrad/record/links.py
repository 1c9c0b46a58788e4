"""Where a person goes from a store: pages of the MLflow UI, and commands of auxgrad on it."""

from __future__ import annotations

import shlex
from urllib.parse import urlsplit

from auxgrad.config.addresses import has_password, sqlite_file
from auxgrad.config.schema import TrackingConfig
from auxgrad.record import view
from auxgrad.record.folders import network_file_system
from auxgrad.record.store import Store

DEFAULT_EXPERIMENT = TrackingConfig().experiment
DEFAULT_BASE = "http://127.0.0.1:5000"  # Where `python -m auxgrad.ui` serves if the port is free.


def description(store: Store) -> str:
    """Return the line that tells where runs are recorded, and one if not every machine should do so."""
    line = f"tracking  {store.address}, experiment {store.name}"
    file = sqlite_file(store.uri)
    kind = network_file_system(file) if file else None
    if file is None or kind is None:
        return line
    return f"{line}\nnote      {file.name} lies on {kind}: only processes of one machine may use it"


def command(store: Store, name: str) -> str:
    """Return the words of a command of auxgrad on this experiment, from whatever folder."""
    # With a password the address comes from MLFLOW_TRACKING_URI, for the command as well.
    words = [] if has_password(store.uri) else [f"tracking.uri={store.uri}"]
    if store.name != DEFAULT_EXPERIMENT:
        words.append(f"tracking.experiment={store.name}")
    return f"python -m auxgrad.{name} {shlex.join(words)}".rstrip()


def ui_command(store: Store) -> str | None:
    """Return the command that shows this store in a browser; None where a server is running already."""
    return None if store.has_server else command(store, "ui")


def run_url(store: Store, run_id: str) -> str:
    """Return the page of a run's curves and results."""
    return _page(store, f"runs/{run_id}/model-metrics?workflowType=machine_learning")


def artifacts_url(store: Store, run_id: str) -> str:
    """Return the page of a run's files."""
    return _page(store, f"runs/{run_id}/artifacts?workflowType=machine_learning")


def charts_url(store: Store, base: str | None = None) -> str:
    """Return the page of the experiment's charts, as `auxgrad.record.view` has it."""
    return _page(store, f"runs?{view.CHARTS}", base)


def table_url(store: Store, base: str | None = None) -> str:
    """Return the page of the table of the experiment's runs, as `auxgrad.record.view` has it."""
    return _page(store, f"runs?{view.TABLE}", base)


def _page(store: Store, rest: str, base: str | None = None) -> str:
    if base is None:
        base = _without_user(store.uri).rstrip("/") if store.has_server else DEFAULT_BASE
    return f"{base}/#/experiments/{store.experiment_id}/{rest}"


def _without_user(uri: str) -> str:
    """The address for a browser, which asks who is there itself."""
    address = urlsplit(uri)
    return address._replace(netloc=address.netloc.rpartition("@")[2], query="").geturl()
