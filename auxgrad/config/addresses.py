"""Addresses of tracking stores: which one is in use, what it may be, and the file behind SQLite's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from auxgrad.errors import SECRETS, ConfigError, without_passwords

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
    if not _is_well_formed(uri):
        shown = "" if "@" in uri else f"={uri}"  # What in it is a password cannot be told.
        raise ConfigError(
            f"{name}{shown}: is no address; in a password write %20, %2F, %3A, %40 for space, /, :, @"
        )
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


def check_passwords(words: Iterable[str]) -> None:
    """Raise ConfigError for key=value with a password in it: what is configured is put on record."""
    for word in words:
        key, _, value = word.partition("=")
        check_password(key, value)


def check_password(key: str, value: str) -> None:
    """Raise ConfigError for a value with a password in an address."""
    text = value if "\n" in value else re.sub(r"\s", "%20", value)
    if has_password(text):
        raise ConfigError(
            f"{key}={text}: has a password, which would be on record; an address with one belongs "
            f"in {TRACKING_URI} in the environment"
        )


def has_password(uri: str) -> bool:
    """Return whether there is a password or a token in an address."""
    return without_passwords(uri.replace("***", "*")) != uri.replace("***", "*")


def hide_password(text: str, uri: str) -> str:
    """Return what another program says of an address, without the password, however it is written."""
    address = urlsplit(uri)
    options = parse_qsl(address.query)
    secrets = [address.password, *(value for key, value in options if key.lower() in SECRETS)]
    for secret in filter(None, secrets):
        text = text.replace(secret, "***").replace(unquote(secret), "***")
    return without_passwords(text)


def _is_well_formed(uri: str) -> bool:
    if _scheme(uri) in ("sqlite", "databricks"):  # A path, a profile of Databricks.
        return True
    try:
        address = urlsplit(uri)
        _ = address.port
    except ValueError:
        return False
    return not re.search(r"\s", uri) and address.netloc.count("@") < 2


def _scheme(uri: str) -> str:
    """Without the driver: sqlite of sqlite+pysqlite://."""
    return uri.partition(":")[0].partition("+")[0].lower()
