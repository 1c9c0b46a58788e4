"""Locks between processes: files that the operating system unlocks when the process dies."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from filelock import FileLock, Timeout

NOTICE_SECONDS = 10.0
TIMEOUT_SECONDS = 120.0


class LockHeld(OSError):
    """Another process does not release a lock."""


@contextlib.contextmanager
def holding(lock: FileLock) -> Iterator[None]:
    """Hold a lock inside the context; print a notice after ten seconds of waiting.

    Args:
        lock: the lock to acquire and to release.

    Raises:
        LockHeld: another process has held the lock for two minutes, so that it probably hangs.
        OSError: the lock file cannot be created.
    """
    try:
        lock.acquire(timeout=NOTICE_SECONDS)
    except Timeout:
        print(
            f"waiting   for {lock.lock_file}, which another process holds", file=sys.stderr, flush=True
        )
        try:
            lock.acquire(timeout=TIMEOUT_SECONDS - NOTICE_SECONDS)
        except Timeout:
            seconds = f"{TIMEOUT_SECONDS:.0f}"
            message = f"another process has held {lock.lock_file} for {seconds} s; end it if it hangs"
            raise LockHeld(message) from None
    try:
        yield
    finally:
        lock.release()
