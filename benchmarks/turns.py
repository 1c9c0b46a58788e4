"""Run contestants in separate processes that take turns and share neither threads nor memory."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import resource
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any


class Process:
    """A contestant in another process; `call("steps", 12)` calls its method `steps`."""

    def __init__(self, name: str, overrides: Sequence[str], module: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = theirs, name, list(overrides), module
        self._process = context.Process(target=_serve, args=arguments)
        self._process.start()
        theirs.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the contestant and return its result."""
        self._connection.send((method, arguments))
        failed, result = self._connection.recv()
        if failed:
            raise RuntimeError(result)
        return result

    def end(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join()


@contextlib.contextmanager
def in_turns(
    names: Sequence[str], overrides: Sequence[str], module: str = "benchmarks.contestants"
) -> Iterator[dict[str, Process]]:
    """Start a process for each of these contestants of a module, and end them afterwards."""
    started: dict[str, Process] = {}
    try:
        for name in names:
            started[name] = Process(name, overrides, module)
            started[name].call("peak_memory")  # Wait until it is ready.
        yield started
    finally:
        for process in started.values():
            process.end()


def _serve(connection: Connection, name: str, overrides: Sequence[str], module: str) -> None:
    from auxgrad.config import compose

    contestant = None
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        try:
            if contestant is None:
                make = importlib.import_module(module).CONTESTANTS[name]
                contestant = make(compose(overrides))
            if method == "peak_memory":
                answer: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            else:
                answer = getattr(contestant, method)(*arguments)
            connection.send((False, answer))
        except Exception:
            connection.send((True, traceback.format_exc()))
