"""Processes for the programs of a page."""

from __future__ import annotations

import contextlib
import linecache
import sys
import traceback
import types
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from forked import CONTEXT, TIMEOUT, ended, enter


class Notebook:
    """One process that runs the programs of a page in one namespace."""

    def __init__(self, folder: Path, environment: Mapping[str, str], template: Path) -> None:
        output = folder / ".output of programs"
        self._arguments = folder, dict(environment), (output, output), template
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
            self._end.enter_context(ended(process))
            process.start()
            other.close()
        self._connection.send((program, name))
        assert self._connection.poll(TIMEOUT), f"{name}: takes longer than {TIMEOUT} s"
        failure = self._connection.recv()
        assert not failure, failure


def _run_programs(
    connection: Connection,
    folder: Path,
    environment: dict[str, str],
    files: tuple[Path, Path],
    template: Path,
) -> None:
    enter(folder, environment, files, template)
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
