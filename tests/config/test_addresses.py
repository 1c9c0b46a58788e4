"""Addresses of stores: what none can have is refused in one line."""

from __future__ import annotations

import pytest

from auxgrad.config import compose
from auxgrad.config.addresses import check_address, sqlite_file, store_address
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
        ("http://[1", "is no address (Invalid IPv6 URL)"),
    ],
)
def test_what_is_no_store(uri, rest):
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
def test_one_file_whatever_the_driver(scheme, in_tmp):
    assert sqlite_file(f"{scheme}:///runs.db") == in_tmp / "runs.db"
    assert sqlite_file(f"{scheme}:////srv/a b/ü.db").as_posix() == "/srv/a b/ü.db"
    assert store_address(f"{scheme}:///runs.db") == ("tracking.uri", f"sqlite:///{in_tmp}/runs.db")


@pytest.mark.parametrize("uri", ["postgresql://u@h/x", "http://h:5000", "mssql+pyodbc://h/x?driver=d"])
def test_other_stores_have_no_file(uri):
    check_address("tracking.uri", uri)
    assert sqlite_file(uri) is None
    assert store_address(uri) == ("tracking.uri", uri)
