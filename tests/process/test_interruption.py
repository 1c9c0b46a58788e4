"""Signals terminate a command at any moment, after it has cleaned up."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from auxgrad.process import interruption

TERM = 1 << (signal.SIGTERM - 1)
SWEEP = [sys.executable, "-m", "auxgrad.train", "--multirun", "problem=toy", "seed=range(500)"]


def has_handler(process):
    """Return whether the process has installed its signal handlers."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    [caught] = [line.split()[1] for line in lines if line.startswith("SigCgt:")]
    return bool(int(caught, 16) & TERM)


@pytest.mark.process
def test_a_signal_ends_a_command_at_any_moment(tmp_path):
    """The moments cover imports, composing the config, creating the store and starting workers."""
    moments = [0.0, 0.7, 1.5, 3.0, 6.0]
    sent = {}
    for index, moment in enumerate(moments):
        folder = tmp_path / str(index)
        folder.mkdir()
        process = subprocess.Popen(
            [*SWEEP, "hydra.launcher.workers=1"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        while not has_handler(process):
            time.sleep(0.005)
        time.sleep(moment)
        number = (signal.SIGTERM, signal.SIGINT)[index % 2]
        os.killpg(process.pid, number)
        sent[process] = 128 + number
    for process, status in sent.items():
        out, _ = process.communicate(timeout=40)
        assert process.returncode == status, out
        assert "Traceback" not in out, out


@pytest.fixture
def fresh():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interruption.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption._State.received = None


def test_a_swallowed_exception_is_raised_again(fresh):
    def swallow():
        with interruption.as_exceptions(), contextlib.suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)

    with pytest.raises(SystemExit, match="143"):
        swallow()


def test_a_postponed_signal_waits_but_a_second_ctrl_c_does_not(fresh):
    reached = []

    def insist():
        with interruption.as_exceptions(), interruption.postponed():
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), number)
                reached.append(interruption.is_requested())

    with pytest.raises(KeyboardInterrupt):
        insist()
    assert reached == [True, True]


def test_output_before_an_abort_is_shown():
    code = (
        "import os\n"
        "from auxgrad.process.quiet import quiet_stderr\n"
        "with quiet_stderr():\n"
        "    os.write(2, b'I0000 a remark\\nCUDA is not what it seems\\n')\n"
        "    os.abort()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGABRT
    assert done.stderr == "CUDA is not what it seems\n"


def test_the_order_of_output_is_kept():
    code = (
        "import sys\n"
        "from auxgrad.process.quiet import quiet_stderr\n"
        "for i in range(3):\n"
        "    with quiet_stderr():\n"
        "        print('inside', i, file=sys.stderr)\n"
        "    print('outside', i, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    expected = [f"{where} {i}" for i in range(3) for where in ("inside", "outside")]
    assert done.stderr.splitlines() == expected
