"""SIGINT (Ctrl-C) and SIGTERM: how a process ends that is asked to, at any moment of its life.

A signal handler that raises an exception is not enough: libraries swallow what is raised while they are
imported or while C++ calls Python. So a process that has nothing to put in order ends at once, and one
that has remembers the signal, and `check` raises again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any


class Reaction(Enum):
    """What the next signal does."""

    EXIT = "end the process at once"
    RAISE = "raise KeyboardInterrupt or SystemExit"
    WAIT = "be remembered until `check`"


class _State:
    reaction = Reaction.EXIT
    received: int | None = None  # The first signal that has not ended the process.


def install(interrupts: bool = True) -> None:
    """Handle SIGTERM, and with `interrupts` SIGINT, from now on; else ignore SIGINT.

    After a first signal another SIGTERM changes nothing (SLURM and a parent process may both send one);
    another Ctrl-C raises KeyboardInterrupt at once. SIGINT stays ignored in a process that was started
    so, such as one in the background of a script.
    """
    signal.signal(signal.SIGTERM, _handle)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _handle if interrupts else signal.SIG_IGN)


@contextlib.contextmanager
def in_order() -> Iterator[None]:
    """Let signals raise inside: there is something to put in order before the process ends."""
    with _reacting(Reaction.RAISE):
        yield
        check()


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Let a signal wait inside, until `check`."""
    with _reacting(Reaction.WAIT):
        yield


@contextlib.contextmanager
def _reacting(reaction: Reaction) -> Iterator[None]:
    before = _State.reaction
    _State.reaction = reaction
    try:
        yield
    finally:
        _State.reaction = before


def is_requested() -> bool:
    """Return whether a signal has asked the process to end."""
    return _State.received is not None


def check() -> None:
    """Raise KeyboardInterrupt or SystemExit(143) if a signal has asked the process to end."""
    if (raised := requested()) is not None:
        raise raised


def requested() -> BaseException | None:
    """Return what a signal that has asked the process to end raises; None without any."""
    if _State.received is None:
        return None
    is_interrupt = _State.received == signal.SIGINT
    return KeyboardInterrupt() if is_interrupt else SystemExit(128 + _State.received)


def _handle(number: int, frame: Any) -> None:
    is_first, _State.received = _State.received is None, number
    if _State.reaction is Reaction.EXIT:
        _exit(number)
    if is_first and _State.reaction is Reaction.RAISE:
        check()
    if not is_first and number == signal.SIGINT:
        check()


def _exit(number: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # The signal may have come while it was written to.
            stream.flush()
    if number == signal.SIGINT:
        os.write(2, b"auxgrad: interrupted\n")
    os._exit(128 + number)
