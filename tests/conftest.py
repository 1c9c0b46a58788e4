"""Fixtures: a small corpus on disk, small runs, and the commands as the user calls them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pty
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from forked import copy_database, run_python

from auxgrad.record.database import create_database

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.pop("MLFLOW_TRACKING_URI", None)

# In the background of a shell SIGINT is ignored, and the processes that a test starts inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent

# Overrides of a run of a second: the same code as for the published runs, with few reviews and weights.
SMALL = (
    "data.num_words=60",
    "problem.hidden=[8,8]",
    "problem.batch_size=16",
    "problem.epochs=3",
    "problem.patience=2",
)


def write_corpus(folder: Path, reviews: int = 40, seed: int = 0) -> Path:
    """Write a folder like aclImdb/, with `reviews` files in each of its four parts."""
    chance = random.Random(seed)
    words = {"pos": ["good", "great", "fine"], "neg": ["bad", "poor", "dull"]}
    common = [f"word{i}" for i in range(80)]
    for split, label in itertools.product(("train", "test"), ("pos", "neg")):
        part = folder / split / label
        part.mkdir(parents=True)
        for i in range(reviews):
            tokens = chance.choices(words[label], k=3) + chance.choices(common, k=12)
            chance.shuffle(tokens)
            (part / f"{i}_{7 if label == 'pos' else 2}.txt").write_text(" ".join(tokens) + "!\n")
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "aclImdb")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of encoded reviews, which all tests and all workers of a session share."""
    return shared_folder(tmp_path_factory) / "cache"


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the temporary folder that all workers of a session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the database that others are copies of; its first use makes it."""
    return shared_folder(tmp_path_factory) / "template.db"


@pytest.fixture(scope="session", autouse=True)
def copied_databases(template: Path) -> Iterator[None]:
    """Let the stores of this process begin as copies of one new database.

    Forked commands copy it too. A whole process makes a database, unless the test calls `new_store`
    before; so does a test that uses `new_databases`.
    """

    def copy(file: Path, artifacts: str) -> None:
        copy_database(template, file, artifacts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("auxgrad.record.opening.create_database", copy)
        yield


@pytest.fixture
def new_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every database of the test anew, as a command does."""
    monkeypatch.setattr("auxgrad.record.opening.create_database", create_database)


@pytest.fixture
def new_store(template: Path) -> Callable[[Path], None]:
    """Return a function that creates the store of a working directory for a whole process."""

    def create(folder: Path) -> None:
        copy_database(template, folder / "mlflow.db", (folder / "mlartifacts").as_uri())

    return create


@pytest.fixture(scope="session")
def small(corpus: Path, cache: Path) -> tuple[str, ...]:
    """Return the overrides of a run on the small corpus."""
    return ("data=aclimdb", f"data.path={corpus}", f"data.cache_dir={cache}", *SMALL)


Train = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def forked(tmp_path: Path, template: Path) -> Train:
    """Return a function that executes `python -m auxgrad.NAME` in an empty folder.

    The process is forked from one that has imported TensorFlow, see `forked.py`.
    """

    def run(
        name: str, *arguments: str, cwd: Path = tmp_path, **env: str
    ) -> subprocess.CompletedProcess[str]:
        words = ["python", "-m", f"auxgrad.{name}", *arguments]
        return run_python(words, cwd, {**os.environ, **env}, template)

    return run


@pytest.fixture
def forked_train(forked: Train) -> Train:
    """Return a function that executes `python -m auxgrad.train` in a forked process."""
    return functools.partial(forked, "train")


@pytest.fixture
def forked_sweep(forked: Train) -> Train:
    """Return a function that executes `python -m auxgrad.train --multirun` in a forked process."""
    return functools.partial(forked, "train", "--multirun")


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Return a function that executes `python -m auxgrad.train` in an empty folder."""

    def run(*arguments: str, cwd: Path = tmp_path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "auxgrad.train", *arguments],
            cwd=cwd,
            env={**os.environ, **env},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def sweep(train: Train) -> Train:
    """Return a function that executes `python -m auxgrad.train --multirun` in an empty folder."""

    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return train("--multirun", *arguments, **env)

    return run


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a copy of the example study."""
    return shutil.copytree(REPOSITORY / "examples" / "digits", tmp_path / "study")


def script(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Execute the script auxgrad-NAME, whose import path lacks the working directory."""
    command = [Path(sys.executable).with_name(f"auxgrad-{name}"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture
def failing(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which runs of lam=666 fail, and the first one of lam=667 is killed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, signal, sys\n"
        "class Break:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'auxgrad.execution.curves':\n"
        "            sys.meta_path.remove(self)\n"
        "            from auxgrad.training import model\n"
        "            fit = model.AuxiliaryModel.fit\n"
        "            def broken(self, *args, **kwargs):\n"
        "                if self.lam == 666: raise RuntimeError('the disk is full')\n"
        "                once = pathlib.Path(os.environ['DIE_ONCE'])\n"
        "                if self.lam == 667 and not once.exists():\n"
        "                    once.touch()\n"
        "                    os.kill(os.getpid(), signal.SIGKILL)\n"
        "                return fit(self, *args, **kwargs)\n"
        "            model.AuxiliaryModel.fit = broken\n"
        "sys.meta_path.insert(0, Break())\n"
    )
    return {"PYTHONPATH": str(tmp_path), "DIE_ONCE": str(tmp_path / "died")}


@pytest.fixture
def none_left() -> Iterator[None]:
    """Kill all child processes after the test, because workers of a failed test would run for hours.

    The server of the forked processes stays, for the next test.
    """
    yield
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            if not re.search(r"multiprocessing\.(forkserver|resource_tracker) ", words):
                process.kill()


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty working directory and return it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def together(commands: Sequence[Sequence[str]], cwd: Path) -> list[subprocess.CompletedProcess[str]]:
    """Execute commands at the same time."""
    started = [
        subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    finished = []
    for process, command in zip(started, commands, strict=True):
        out, err = process.communicate(timeout=300)
        finished.append(subprocess.CompletedProcess(command, process.returncode, out, err))
    return finished


def on_a_terminal(command: Sequence[str], cwd: Path, env: dict[str, str] | None = None) -> str:
    """Return the output of a successful command on a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(command, cwd=cwd, stdout=follower, stderr=follower, env=env)
    os.close(follower)
    shown = b""
    while True:
        try:
            shown += os.read(leader, 4096)
        except OSError:  # The other end is closed.
            break
    assert process.wait() == 0
    return shown.decode()


@contextlib.contextmanager
def mlflow_ui(arguments: Sequence[str], cwd: Path) -> Iterator[str]:
    """Run `mlflow ARGUMENTS` on a free port inside the context, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", *arguments, "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
                break
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@contextlib.contextmanager
def auxgrad_ui(
    *arguments: str, cwd: Path | None = None, **env: str
) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run `python -m auxgrad.ui ARGUMENTS` inside the context; yield the process and its links."""
    process = subprocess.Popen(
        [sys.executable, "-m", "auxgrad.ui", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )
    try:
        printed = ""
        while "stop it" not in printed:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            printed += line
        yield process, links(printed)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def links(printed: str) -> dict[str, str]:
    """Return the links in the output of `python -m auxgrad.ui` by their labels."""
    return dict(re.findall(r"^(\w+) +(http\S+)$", printed, re.M))
