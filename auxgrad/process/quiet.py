"""TensorFlow's remarks, kept off the terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

# A process of its own passes on the rest: even if this one is aborted, all that it said arrives.
# Remarks: the start of TensorFlow's logging, and what it logs as an error on machines without a GPU.
FILTER = r"""
import os, re, sys
remark = re.compile(
    rb"I0000 |WARNING: All log messages before absl|To enable the following instructions"
    + (b"" if os.path.exists("/proc/driver/nvidia") else rb"|E0000 .* cuInit: ")
)
for line in sys.stdin.buffer:
    if not remark.match(line):
        os.write(1, line)
"""
LAST_WORDS_SECONDS = 2


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep TensorFlow's remarks at start-up off the terminal; warnings, errors and all else pass.

    They are written by C++ code before it can be configured, so the file descriptor is diverted, to a
    process that lets through what is no remark.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    sys.stderr.flush()
    terminal = os.dup(2)
    command = [sys.executable, "-I", "-S", "-c", FILTER]
    # In a session of its own, so that Ctrl-C does not take the last words away.
    passing = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=terminal, start_new_session=True)
    assert passing.stdin
    os.dup2(passing.stdin.fileno(), 2)
    passing.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)
        # A child process that was started meanwhile may hold the pipe for longer.
        with contextlib.suppress(subprocess.TimeoutExpired):
            passing.wait(LAST_WORDS_SECONDS)
