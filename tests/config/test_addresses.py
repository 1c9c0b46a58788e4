"""Addresses of stores: an invalid one is refused in one line."""

from __future__ import annotations

import pytest

from auxgrad.config import compose
from auxgrad.config.addresses import (
    check_address,
    check_password,
    has_password,
    hide_password,
    sqlite_file,
    store_address,
)
from auxgrad.config.values import quote
from auxgrad.errors import ConfigError

ALONE = "must be sqlite:///FILE, a file that processes share"


@pytest.mark.parametrize(
    ("uri", "rest"),
    [
        ("sqlite://", ALONE),
        ("sqlite+pysqlite://", ALONE),
        ("sqlite:///", ALONE),
        ("sqlite:///:memory:", ALONE),
        ("sqlite:///file:runs.db", ALONE),
        ("sqlite://runs.db", ALONE),
        ("sqlite:runs.db", ALONE),
        ("sqlite:///runs.db?timeout=5", "must be sqlite:///FILE, without options after a question mark"),
        ("file:///mlruns", "must begin with one of sqlite:, postgresql:, "),
        ("", "must begin with one of sqlite:, "),
        ("http://[1", "is not a valid address; in a password write "),
    ],
)
def test_invalid_addresses(uri, rest):
    with pytest.raises(ConfigError) as caught:
        check_address("tracking.uri", uri)
    assert str(caught.value).startswith(f"tracking.uri={uri}: {rest}")
    assert "\n" not in str(caught.value)


def test_the_command_line_and_the_environment_are_checked(monkeypatch):
    with pytest.raises(ConfigError, match=f"^tracking.uri=sqlite://: {ALONE}$"):
        compose([f"tracking.uri={quote('sqlite://')}"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite://")
    with pytest.raises(ConfigError, match=f"^MLFLOW_TRACKING_URI=sqlite://: {ALONE}$"):
        store_address("sqlite:///runs.db")


def test_a_folder_with_a_question_mark(tmp_path, monkeypatch):
    (tmp_path / "why?").mkdir()
    monkeypatch.chdir(tmp_path / "why?")
    with pytest.raises(ConfigError, match=r"^tracking.uri=sqlite:///mlflow.db: must lie in a folder"):
        store_address(None)


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite", "SQLite"])
def test_the_driver_does_not_change_the_file(scheme, in_tmp):
    assert sqlite_file(f"{scheme}:///runs.db") == in_tmp / "runs.db"
    assert sqlite_file(f"{scheme}:////srv/a b/ü.db").as_posix() == "/srv/a b/ü.db"
    assert store_address(f"{scheme}:///runs.db") == ("tracking.uri", f"sqlite:///{in_tmp}/runs.db")


@pytest.mark.parametrize("uri", ["postgresql://u@h/x", "http://h:5000", "mssql+pyodbc://h/x?driver=d"])
def test_other_stores_have_no_file(uri):
    check_address("tracking.uri", uri)
    assert sqlite_file(uri) is None
    assert store_address(uri) == ("tracking.uri", uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:s3cr3t@h:5432/x", "postgresql://me:***@h:5432/x"),
        ("mysql+pymysql://me@corp:s3cr3t@h/x", "mysql+pymysql://me@corp:***@h/x"),
        ("http://:s3cr3t@[::1]:5000", "http://:***@[::1]:5000"),
        ("postgresql://me:s3c/r3t@h/x", "postgresql://me:***@h/x"),
        ("postgresql://me:s3c@r3t@h/x", "postgresql://me:***@h/x"),
        ("postgresql://me:s3c r3t@h/x", "postgresql://me:***@h/x"),
        ("postgresql://h/x?user=me&password=s3cr3t", "postgresql://h/x?user=me&password=***"),
        ("postgresql://h/x?sslmode=require&SSLPassword=s3cr3t", "***"),
        ("http://h:5000?pass%77ord=s3cr3t", "http://h:5000?pass%77ord=***"),
        ("http://h:5000/?token=s3cr3t", "http://h:5000/?token=***"),
        ("postgresql://me:***@h/x", "postgresql://me:***@h/x"),
    ],
)
def test_a_password_is_refused_and_not_repeated(uri, shown):
    with pytest.raises(ConfigError) as caught:
        check_password("tracking.uri", uri)
    line = str(caught.value)
    assert line.startswith("tracking.uri=")
    assert f"{shown}: has a password, which would be recorded" in line
    assert line.endswith("set MLFLOW_TRACKING_URI in the environment instead")
    assert "s3c" not in line
    assert "r3t" not in line


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////srv/a:b@c/runs.db",
        "postgresql://me@h:5432/x?sslmode=require",
        "http://127.0.0.1:5000",
        "http://[::1]:5000",
        "postgresql://me:@h/x",
        "databricks://profile:prefix",
    ],
)
def test_addresses_without_a_password(uri):
    assert not has_password(uri)
    check_password("tracking.uri", uri)
    check_address("tracking.uri", uri)


@pytest.mark.parametrize(
    "uri", ["postgresql://me:s3c/r3t@h/x", "postgresql://me:s3c@r3t@h/x", "postgresql://me:s3c r3t@h/x"]
)
def test_a_password_that_is_not_quoted(uri, monkeypatch):
    """An environment variable may have a password, but only percent-encoded is it unambiguous."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError) as caught:
        store_address(None)
    assert str(caught.value) == (
        "MLFLOW_TRACKING_URI: is not a valid address; "
        "in a password write %20, %2F, %3A, %40 for space, /, :, @"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:s3c%2Fr3t@h/x")
    assert store_address(None) == ("MLFLOW_TRACKING_URI", "postgresql://me:s3c%2Fr3t@h/x")


def test_passwords_are_removed_from_messages_of_other_programs():
    uri = "postgresql://me:s3c%2Fr3t@h/x?sslpassword=t0ken"
    said = f"cannot use {uri}: neither s3c/r3t nor s3c%2Fr3t nor t0ken is right"
    assert hide_password(said, uri) == (
        "cannot use postgresql://me:***@h/x?sslpassword=***: neither *** nor *** nor *** is right"
    )
