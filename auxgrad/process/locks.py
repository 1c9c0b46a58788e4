"""Locks between processes: files, which the operating system gives free when their holder dies."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from filelock import FileLock, Timeout

TELL_SECONDS = 10.0
LONGEST_SECONDS = 120.0


class LockHeld(OSError):
    """A lock that another process does not give free."""


@contextlib.contextmanager
def holding(lock: FileLock) -> Iterator[None]:
    """Hold a lock inside; after ten seconds of waiting say what for.

    Raises:
        LockHeld: another process has held it for two minutes, and so probably hangs.
        OSError: the file cannot be made.
    """
    try:
        lock.acquire(timeout=TELL_SECONDS)
    except Timeout:
        print(
            f"waiting   for {lock.lock_file}, which another process holds", file=sys.stderr, flush=True
        )
        try:
            lock.acquire(timeout=LONGEST_SECONDS - TELL_SECONDS)
        except Timeout:
            seconds = f"{LONGEST_SECONDS:.0f}"
            message = f"another process has held {lock.lock_file} for {seconds} s; end it if it hangs"
            raise LockHeld(message) from None
    try:
        yield
    finally:
        lock.release()
