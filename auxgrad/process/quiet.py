"""Keep the informational messages of TensorFlow off the terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

# The filter is a separate process: even if this process is aborted, all that it wrote is shown.
# It drops the first lines of TensorFlow's log, and the "error" of machines that have no GPU.
FILTER = r"""
import os, re, sys
noise = re.compile(
    rb"I0000 |WARNING: All log messages before absl|To enable the following instructions"
    + (b"" if os.path.exists("/proc/driver/nvidia") else rb"|E0000 .* cuInit: ")
)
for line in sys.stdin.buffer:
    if not noise.match(line):
        os.write(1, line)
"""
DRAIN_SECONDS = 2


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hide TensorFlow's start-up messages inside the context; show warnings, errors and all else.

    C++ code writes these messages before it can be configured. The file descriptor of standard error
    is therefore redirected to a process that filters it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    sys.stderr.flush()
    terminal = os.dup(2)
    command = [sys.executable, "-I", "-S", "-c", FILTER]
    # A session of its own protects the filter from Ctrl-C, so that the last messages are shown.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=terminal, start_new_session=True)
    assert process.stdin
    os.dup2(process.stdin.fileno(), 2)
    process.stdin.close()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)
        # A child process that was started inside the context may keep the pipe open for longer.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(DRAIN_SECONDS)
