"""The lock of a dead process is free at once. Waiting for that of a process that hangs has a limit."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from filelock import FileLock

from auxgrad.process import locks
from auxgrad.process.locks import LockHeld, holding

HOLD = (
    "import sys, time; from filelock import FileLock\n"
    "lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_lock_that_is_not_given_free(tmp_path, holder, monkeypatch, capsys):
    monkeypatch.setattr(locks, "NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(locks, "TIMEOUT_SECONDS", 0.5)
    began = time.monotonic()
    with (
        pytest.raises(LockHeld, match=r"has held .*lock for 0 s; end it if it hangs"),
        holding(FileLock(tmp_path / "lock")),
    ):
        pass
    assert time.monotonic() - began < 10
    assert f"waiting   for {tmp_path}/lock, which another process holds" in capsys.readouterr().err


HAND_OVER = (
    "import os, sys, time; from filelock import FileLock\n"
    "lock = FileLock(sys.argv[1]); lock.acquire(); print('held', flush=True)\n"
    "for i in range(20): os.utime(sys.argv[1], (i, 0)); time.sleep(0.1)\n"
    "lock.release()"
)


def test_a_lock_that_changes_hands_is_waited_for(tmp_path, monkeypatch, capsys):
    """The file is marked as by processes that get the lock one after another, for two seconds."""
    monkeypatch.setattr(locks, "NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(locks, "TIMEOUT_SECONDS", 0.5)
    command = [sys.executable, "-c", HAND_OVER, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        with holding(FileLock(tmp_path / "lock")):
            assert (tmp_path / "lock").stat().st_atime > 20
    assert "waiting" in capsys.readouterr().err


def test_a_lock_of_the_dead_is_free(tmp_path, holder, capsys):
    holder.kill()
    holder.wait()
    with holding(FileLock(tmp_path / "lock")):
        assert capsys.readouterr().err == ""
