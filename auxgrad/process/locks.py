"""Locks between processes: files that the operating system unlocks when the process dies."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from auxgrad.errors import AuxgradError

NOTICE_SECONDS = 10.0
TIMEOUT_SECONDS = 120.0


class LockHeld(AuxgradError, OSError):
    """Another process does not release a lock."""


@contextlib.contextmanager
def holding(lock: FileLock) -> Iterator[None]:
    """Hold a lock inside the context; print a notice after ten seconds of waiting.

    However many processes wait for the lock, each gets it in the end, because only the time counts for
    which a single process holds it.

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
        _wait(lock)
    _mark(lock)
    try:
        yield
    finally:
        lock.release()


def _wait(lock: FileLock) -> None:
    while True:
        mark = _mark_of(lock)
        try:
            lock.acquire(timeout=TIMEOUT_SECONDS)
            return
        except Timeout:
            if _mark_of(lock) == mark:
                seconds = f"{TIMEOUT_SECONDS:.0f}"
                message = (
                    f"another process has held {lock.lock_file} for {seconds} s; end it if it hangs"
                )
                raise LockHeld(message) from None


def _mark(lock: FileLock) -> None:
    """Tell waiting processes that the lock has changed hands, by the time of access of its file.

    The time of modification changes whenever a process tries to acquire the lock.
    """
    with contextlib.suppress(OSError):  # The file may belong to another user.
        os.utime(lock.lock_file, ns=(time.time_ns(), Path(lock.lock_file).stat().st_mtime_ns))


def _mark_of(lock: FileLock) -> int | None:
    with contextlib.suppress(OSError):
        return Path(lock.lock_file).stat().st_atime_ns
    return None
