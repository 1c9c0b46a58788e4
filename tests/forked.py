"""Processes that are forked from a server that has imported TensorFlow and MLflow.

A command takes less time to train a small network than to import its packages. Forking leaves what a
process does alone otherwise: each command has a process of its own, with its own arguments,
environment and working directory. Start a whole process instead to test what depends on the start of
Python: the imports, the environment that they read, the number of threads, the locale.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from auxgrad.record.database import create_database

TIMEOUT = 300
CONTEXT = multiprocessing.get_context("forkserver")
# Not the modules of the commands: each is run as the main module.
CONTEXT.set_forkserver_preload(
    ["tensorflow", "mlflow", "sklearn.datasets", "auxgrad.execution.trainer", "auxgrad.reports.report"]
)


def copy_database(template: Path, file: Path, artifacts: str) -> None:
    """Create a database of MLflow as a copy, since MLflow takes a second or more to make its tables.

    Args:
        template: the database to copy; made by the first call.
        file: the new database.
        artifacts: the URI of the folder for the artifacts of MLflow's default experiment.
    """
    with FileLock(f"{template}.lock"):
        if not template.exists():
            create_database(template, "file:///nowhere")
    shutil.copyfile(template, file)
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        # As MLflow names the folder of its default experiment.
        connection.execute("UPDATE experiments SET artifact_location = ?", (f"{artifacts}/0",))


def run_python(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], template: Path
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ...` or `python FILE ...`.

    Args:
        words: the command; its first word stands for the interpreter.
        folder: the working directory.
        environment: all variables of the environment.
        template: the database that new stores begin as a copy of.
    """
    with tempfile.TemporaryDirectory() as outputs:
        files = Path(outputs, "stdout"), Path(outputs, "stderr")
        arguments = list(words), folder, dict(environment), files, template
        process = CONTEXT.Process(target=_run_main, args=arguments)
        with ended(process):
            process.start()
            process.join(TIMEOUT)
        assert process.exitcode is not None, f"{shlex.join(words)}: takes longer than {TIMEOUT} s"
        shown = [file.read_text(encoding="utf-8") if file.exists() else "" for file in files]
    return subprocess.CompletedProcess(words, process.exitcode, *shown)


@contextlib.contextmanager
def ended(process: multiprocessing.process.BaseProcess) -> Iterator[None]:
    """Kill the process, and all that it has started, if it has not ended at the end of the block."""
    try:
        yield
    finally:
        if process.is_alive() and process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()


def enter(folder: Path, environment: Mapping[str, str], files: Sequence[Path], template: Path) -> None:
    """Become the process that a shell would have started in the folder.

    Args:
        folder: the working directory.
        environment: all variables of the environment.
        files: the files that standard output and standard error are appended to.
        template: the database that new stores begin as a copy of.
    """
    from auxgrad.record import opening

    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(folder))
    for stream, file in zip((sys.stdout, sys.stderr), files, strict=True):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, stream.fileno())
        os.close(opened)
        stream.reconfigure(encoding="utf-8", line_buffering=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    opening.create_database = lambda file, artifacts: copy_database(template, file, artifacts)


def _run_main(
    words: list[str],
    folder: Path,
    environment: dict[str, str],
    files: Sequence[Path],
    template: Path,
) -> None:
    enter(folder, environment, files, template)
    _, first, *rest = words
    try:
        if first == "-m":
            module, *arguments = rest
            sys.argv = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            sys.argv = [first, *rest]
            sys.path.insert(0, str(Path(first).resolve().parent))
            runpy.run_path(first, run_name="__main__")
    except Exception:
        sys.excepthook(*sys.exc_info())  # As Python does; `multiprocessing` would add a line.
        sys.exit(1)
