"""Addresses of tracking stores: which one is in use, what it may be, and the file behind SQLite's."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from auxgrad.errors import ConfigError

TRACKING_URI = "MLFLOW_TRACKING_URI"  # The environment variable.
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
SQLITE = "sqlite:///"
DEFAULT = f"{SQLITE}mlflow.db"


def store_address(uri: str | None) -> tuple[str, str]:
    """Return the key and the address of the store in use, of SQLite as sqlite:///ABSOLUTE-PATH.

    It is MLFLOW_TRACKING_URI, else `uri`, else mlflow.db in the working directory.

    Raises ConfigError like `check_address`.
    """
    given = os.environ.get(TRACKING_URI)
    name, address = (TRACKING_URI, given) if given else ("tracking.uri", uri or DEFAULT)
    check_address(name, address)
    file = sqlite_file(address)
    return name, f"{SQLITE}{file}" if file else address


def check_address(name: str, uri: str) -> None:
    """Raise ConfigError for an address that no store has, or that processes cannot share.

    Args:
        name: the key that has it.
        uri: the address.
    """
    try:
        urlsplit(uri)
    except ValueError as error:
        raise ConfigError(f"{name}={uri}: is no address ({error})") from None
    if _scheme(uri) not in SCHEMES:
        raise ConfigError(
            f"{name}={uri}: must begin with one of {', '.join(f'{known}:' for known in SCHEMES)}"
        )
    if _scheme(uri) != "sqlite":
        return
    path = uri.partition(":")[2]
    if not path.startswith("///") or path in ("///", "///:memory:") or path.startswith("///file:"):
        raise ConfigError(f"{name}={uri}: must be sqlite:///FILE, a file that processes share")
    if "?" in uri:
        raise ConfigError(f"{name}={uri}: must be sqlite:///FILE, without options after a question mark")
    if "?" in str(sqlite_file(uri)):
        raise ConfigError(
            f"{name}={uri}: must lie in a folder without a question mark in its name, not {Path.cwd()}"
        )


def sqlite_file(uri: str) -> Path | None:
    """Return the file that an address of SQLite names, whatever the driver; None for other stores.

    >>> sqlite_file("sqlite+pysqlite:////srv/our runs.db")
    PosixPath('/srv/our runs.db')
    """
    path = uri.partition(":")[2]
    is_file = _scheme(uri) == "sqlite" and path.startswith("///")
    return Path(path.removeprefix("///")).absolute() if is_file else None


def _scheme(uri: str) -> str:
    """Without the driver: sqlite of sqlite+pysqlite://."""
    return urlsplit(uri).scheme.partition("+")[0]
