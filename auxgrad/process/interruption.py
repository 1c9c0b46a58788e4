"""Handle SIGINT (Ctrl-C) and SIGTERM, so that a process can be terminated at any moment.

A signal handler that raises an exception is not sufficient: libraries swallow exceptions that are
raised while they are imported, or while C++ code calls Python. A process that has nothing to clean up
therefore exits at once. Any other process remembers the signal, and `check` raises the exception again.
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
    received: int | None = None  # The last signal that has not ended the process.


def install(interrupts: bool = True) -> None:
    """Install the handlers of SIGTERM and SIGINT.

    After a first signal, another SIGTERM has no effect, because SLURM and a parent process may both send
    one; another Ctrl-C raises KeyboardInterrupt at once. A process that was started with SIGINT ignored,
    such as one in the background of a script, continues to ignore it.

    Args:
        interrupts: whether to handle SIGINT; if false, SIGINT is ignored.
    """
    signal.signal(signal.SIGTERM, _handle)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _handle if interrupts else signal.SIG_IGN)


@contextlib.contextmanager
def as_exceptions() -> Iterator[None]:
    """Raise signals as exceptions inside the context, so that the process can clean up.

    Raises:
        KeyboardInterrupt: for SIGINT, also at the end of the context if a library swallowed it.
        SystemExit: for SIGTERM, likewise.
    """
    with _reacting(Reaction.RAISE):
        yield
        check()


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Postpone signals inside the context until `check` is called."""
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
    """Return whether a signal has requested termination."""
    return _State.received is not None


def check() -> None:
    """Raise the exception of a signal that has requested termination, if there is one.

    Raises:
        KeyboardInterrupt: SIGINT was received.
        SystemExit: another signal was received; the status of SIGTERM is 143.
    """
    if (raised := pending_exception()) is not None:
        raise raised


def pending_exception() -> BaseException | None:
    """Return the exception that `check` would raise, or None if no signal was received."""
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
        with contextlib.suppress(Exception):  # The signal may have interrupted a write to the stream.
            stream.flush()
    if number == signal.SIGINT:
        os.write(2, b"auxgrad: interrupted\n")
    os._exit(128 + number)
