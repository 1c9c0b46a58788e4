"""Choose and check the address of the tracking store."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from auxgrad.errors import SECRET_OPTIONS, ConfigError, without_passwords

TRACKING_URI = "MLFLOW_TRACKING_URI"  # The environment variable.
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
SQLITE = "sqlite:///"
DEFAULT = f"{SQLITE}mlflow.db"


def store_address(uri: str | None) -> tuple[str, str]:
    """Return the address of the store in use, and the key that sets it.

    The address is MLFLOW_TRACKING_URI, else `uri`, else mlflow.db in the working directory.

    Args:
        uri: the value of `tracking.uri`.

    Returns:
        The key, for messages, and the address. The address of an SQLite file has the form
        sqlite:///ABSOLUTE-PATH.

    Raises:
        ConfigError: see `check_address`.
    """
    given = os.environ.get(TRACKING_URI)
    name, address = (TRACKING_URI, given) if given else ("tracking.uri", uri or DEFAULT)
    check_address(name, address)
    file = sqlite_file(address)
    return name, f"{SQLITE}{file}" if file else address


def check_address(name: str, uri: str) -> None:
    """Check that an address may be that of a store which processes can share.

    Args:
        name: the key that sets the address, for the message.
        uri: the address.

    Raises:
        ConfigError: it is not.
    """
    if not _is_well_formed(uri):
        shown = "" if "@" in uri else f"={uri}"  # It may contain a password that cannot be located.
        raise ConfigError(
            f"{name}{shown}: is not a valid address; "
            "in a password write %20, %2F, %3A, %40 for space, /, :, @"
        )
    if _scheme(uri) not in SCHEMES:
        known = ", ".join(f"{scheme}:" for scheme in SCHEMES)
        raise ConfigError(f"{name}={uri}: must begin with one of {known}; a file is sqlite:///FILE")
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
    """Return the file of an SQLite address with any driver; None for other stores.

    >>> sqlite_file("sqlite+pysqlite:////srv/our runs.db")
    PosixPath('/srv/our runs.db')

    Args:
        uri: the address of a store.
    """
    path = uri.partition(":")[2]
    is_file = _scheme(uri) == "sqlite" and path.startswith("///")
    return Path(path.removeprefix("///")).absolute() if is_file else None


def check_passwords(arguments: Iterable[str]) -> None:
    """Check that no argument of the command line contains a password.

    Args:
        arguments: such as key=value.

    Raises:
        ConfigError: see `check_password`.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        check_password(key, value)


def check_password(key: str, value: str) -> None:
    """Check that no address in a value contains a password, because the config is recorded.

    Args:
        key: the key that has the value, for the message.
        value: any text.

    Raises:
        ConfigError: there is a password or a token.
    """
    text = value if "\n" in value else re.sub(r"\s", "%20", value)
    if has_password(text):
        raise ConfigError(
            f"{key}={text}: has a password, which would be recorded; "
            f"set {TRACKING_URI} in the environment instead"
        )


def has_password(uri: str) -> bool:
    """Return whether an address contains a password or a token."""
    return without_passwords(uri.replace("***", "*")) != uri.replace("***", "*")


def hide_password(text: str, uri: str) -> str:
    """Remove the password of an address from the message of another program.

    Args:
        text: the message, in which the password may be percent-encoded or not.
        uri: the address.

    Returns:
        The message with *** in place of the password and of all tokens.
    """
    address = urlsplit(uri)
    options = parse_qsl(address.query)
    secrets = [address.password, *(value for key, value in options if key.lower() in SECRET_OPTIONS)]
    for secret in filter(None, secrets):
        text = text.replace(secret, "***").replace(unquote(secret), "***")
    return without_passwords(text)


def _is_well_formed(uri: str) -> bool:
    # What follows the scheme is a path, or a profile of Databricks.
    if _scheme(uri) in ("sqlite", "databricks"):
        return True
    try:
        address = urlsplit(uri)
        _ = address.port
    except ValueError:
        return False
    return not re.search(r"\s", uri) and address.netloc.count("@") < 2


def _scheme(uri: str) -> str:
    """Return the scheme without the driver, such as sqlite for sqlite+pysqlite://."""
    return uri.partition(":")[0].partition("+")[0].lower()
