"""A password in an address is never recorded or shown."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest
from conftest import auxgrad_ui, links, mlflow_ui

import auxgrad
from auxgrad.config import compose
from auxgrad.errors import ConfigError
from auxgrad.execution.result import Failure
from auxgrad.record.links import ui_command
from auxgrad.record.opening import open_store
from auxgrad.record.store import Store

SECRET = "s3cr3t"
URI = f"postgresql://me:{SECRET}@127.0.0.1:9/x"
SHOWN = "postgresql://me:***@127.0.0.1:9/x"
REFUSED = f"{SHOWN}: has a password, which would be recorded"


def check(done: subprocess.CompletedProcess[str], line: str) -> None:
    assert done.returncode == 1
    assert done.stderr.startswith(f"auxgrad: {line}")
    assert done.stderr.count("\n") == 1
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train", []),
        ("train", ["--multirun"]),
        ("train", ["--multirun", "hydra/sweeper=basic"]),
        ("train", ["--cfg", "job"]),
        ("report", []),
        ("ui", []),
    ],
)
def test_on_the_command_line(tmp_path, forked, command, words):
    check(forked(command, *words, f"tracking.uri={URI}"), f"tracking.uri={REFUSED}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags", [["--cfg", "job"], ["--cfg", "job", "--resolve"], ["--info", "config"]]
)
def test_in_a_config_that_is_shown(tmp_path, forked, flags, monkeypatch):
    monkeypatch.setenv("SOMEWHERE", URI)
    text = "${oc.env:SOMEWHERE}" if "--resolve" in flags else URI
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment/mine.yaml"
    file.write_text(f"# @package _global_\ntracking: {{uri: '{text}'}}\n")
    done = forked("train", "--config-dir=.", *flags, "experiment=mine")
    assert done.returncode == 0, done.stderr
    assert ":***@" in done.stdout
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("words", [[], ["--multirun"], ["--multirun", "hydra/sweeper=basic"]])
def test_in_files_of_the_users(tmp_path, forked, words, monkeypatch):
    monkeypatch.setenv("SOMEWHERE", URI)
    (tmp_path / "experiment").mkdir()
    contents = {
        "tracking.uri": f"tracking: {{uri: '{URI}'}}",
        "hydra.job.env_set.MLFLOW_TRACKING_URI": (
            f"hydra: {{job: {{env_set: {{MLFLOW_TRACKING_URI: '{URI}'}}}}}}"
        ),
        "tracking.uri (interpolated)": "tracking: {uri: '${oc.env:SOMEWHERE}'}",
    }
    for key, text in contents.items():
        (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{text}\n")
        done = forked("train", "--config-dir=.", *words, "experiment=mine")
        check(done, f"{key.partition(' ')[0]}={REFUSED}")
    assert [path.name for path in tmp_path.iterdir()] == ["experiment"]


def test_from_python(in_tmp):
    for attempt in (
        lambda: auxgrad.run([f"tracking.uri={URI}"]),
        lambda: auxgrad.runs(uri=URI),
        lambda: compose([f"+tracking={{uri: '{URI}'}}"]),
        lambda: compose([f"tracking.address={URI}"]),
    ):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert REFUSED in str(caught.value).replace("'", "").replace("}", "")
        assert SECRET not in repr(caught.value)
    assert list(in_tmp.iterdir()) == []


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (URI, f"{SHOWN}: no tracking server can be reached"),
        # SQLAlchemy reports that there is no such driver.
        (f"mssql+none://me:{SECRET}@/x", "mssql+none://me:***@/x: cannot be used ("),
    ],
)
def test_a_store_of_the_environment_that_cannot_be_used(forked, monkeypatch, uri, shown):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    check(forked("report"), f"MLFLOW_TRACKING_URI={shown}")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    done = forked("ui")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.process
def test_a_run_a_report_and_the_ui_with_a_password_in_the_environment(
    tmp_path, small, forked, new_store
):
    folder = tmp_path / "server"
    folder.mkdir()
    new_store(folder)
    uri = f"sqlite:///{folder}/mlflow.db"
    arguments = ["server", "--workers", "1", "--backend-store-uri", uri]
    with mlflow_ui(arguments, folder) as url:
        env = {"MLFLOW_TRACKING_URI": url.replace("//", f"//me:{SECRET}@")}
        shown = url.replace("//", "//me:***@")
        done = forked("train", "mode=SingleTask", *small, **env)
        assert done.returncode == 0, done.stderr
        assert f"tracking  {shown}, experiment auxgrad\n" in done.stdout
        assert f"see it    {url}/#/experiments/1/runs/" in done.stdout
        swept = forked("train", "--multirun", "mode=SingleTask", "seed=0", "dry_run=true", *small, **env)
        assert f"tracking  {shown}, experiment auxgrad\n" in swept.stdout
        said = [done.stdout, done.stderr, swept.stdout, swept.stderr]
        for command in ("report", "ui"):
            done = forked(command, **env)
            assert done.returncode == 0, done.stderr
            said += [done.stdout, done.stderr]
        assert links(said[-2])["charts"].startswith(f"{url}/#/experiments/1/runs?")
    assert SECRET not in "".join(said)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"mlflow.db", "report.md", "hydra.yaml"} <= {path.name for path in files}
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.process
def test_the_ui_gives_the_address_to_no_command_line(in_tmp):
    store = open_store(compose([]).tracking)
    with auxgrad_ui() as (process, _):
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("mlflow" in " ".join(member.cmdline()) for member in family)
        assert not any("mlflow.db" in " ".join(member.cmdline()) for member in family)
    secret = Store(store.client, URI, "1", "auxgrad")
    assert SECRET not in repr(secret)
    assert (
        ui_command(secret) == "python -m auxgrad.ui"
    )  # The command reads the address from the environment.


def test_the_error_of_a_run():
    failure = Failure.of(RuntimeError(f"{URI}: lost"))
    assert failure.error == f"RuntimeError: {SHOWN}: lost"


def test_the_origin_of_the_users_repository(tmp_path):
    """MLflow records the origin with each run."""
    (tmp_path / "own.py").write_text(
        "from auxgrad.record.environment import context_tags\nprint(dict(context_tags()))\n"
    )
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@localhost"]
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", f"https://{SECRET}@example.org/own.git"],
        ["add", "own.py"],
        ["commit", "-qm", "own"],
    ):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, "own.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "'https://example.org/own.git'" in done.stdout
    assert SECRET not in done.stdout
