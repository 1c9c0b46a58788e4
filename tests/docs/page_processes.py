"""Processes for the steps of a page, forked from a server that has imported TensorFlow and MLflow.

A command of a page takes a second less to train than to import; forking leaves what a process does alone
otherwise: each command has its own, with its own arguments, environment and working directory.
"""

from __future__ import annotations

import contextlib
import linecache
import multiprocessing
import os
import runpy
import shlex
import signal
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

TIMEOUT = 300
CONTEXT = multiprocessing.get_context("forkserver")
# Not the modules of the commands: each is run as the main module.
CONTEXT.set_forkserver_preload(
    ["tensorflow", "mlflow", "sklearn.datasets", "auxgrad.execution.trainer", "auxgrad.reports.report"]
)


def run_python(words: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run `python -m MODULE ...` or `python FILE ...`; return its output.

    Raises AssertionError, with the output, unless the command succeeds.
    """
    output = folder / ".output"
    process = CONTEXT.Process(target=_run_main, args=(words, folder, dict(environment), output))
    with _ended(process):
        process.start()
        process.join(TIMEOUT)
    shown = output.read_text(encoding="utf-8")
    output.unlink()
    assert process.exitcode == 0, f"{shlex.join(words)}\nended with {process.exitcode}\n{shown}"
    return shown


class Notebook:
    """One process that runs the programs of a page in one namespace."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._arguments = folder, dict(environment), folder / ".output of programs"
        self._end = contextlib.ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> Notebook:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.close()

    def run(self, program: str, name: str) -> None:
        """Run a program. Raises AssertionError, with its traceback, if it fails."""
        if self._connection is None:
            self._connection, other = CONTEXT.Pipe()
            process = CONTEXT.Process(target=_run_programs, args=(other, *self._arguments))
            self._end.enter_context(_ended(process))
            process.start()
            other.close()
        self._connection.send((program, name))
        assert self._connection.poll(TIMEOUT), f"{name}: takes longer than {TIMEOUT} s"
        failure = self._connection.recv()
        assert not failure, failure


@contextlib.contextmanager
def _ended(process: multiprocessing.process.BaseProcess) -> Iterator[None]:
    """Kill the process, and all that it has started, if it has not ended at the end of the block."""
    try:
        yield
    finally:
        if process.is_alive() and process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()


def _enter(folder: Path, environment: Mapping[str, str], output: Path) -> None:
    """Become the process that a shell would have started in the folder."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(folder))
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(file, stream.fileno())
        stream.reconfigure(encoding="utf-8", line_buffering=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _run_main(words: list[str], folder: Path, environment: dict[str, str], output: Path) -> None:
    _enter(folder, environment, output)
    _, first, *rest = words
    if first == "-m":
        module, *arguments = rest
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        sys.path.insert(0, str(Path(first).resolve().parent))
        runpy.run_path(first, run_name="__main__")


def _run_programs(
    connection: Connection, folder: Path, environment: dict[str, str], output: Path
) -> None:
    _enter(folder, environment, output)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    while True:
        try:
            program, name = connection.recv()
        except EOFError:
            return
        # Where `inspect.getsource` finds the functions of a notebook.
        linecache.cache[name] = len(program), None, program.splitlines(keepends=True), name
        try:
            exec(compile(program, name, "exec"), main.__dict__)
        except BaseException:
            connection.send(traceback.format_exc())
        else:
            connection.send("")
