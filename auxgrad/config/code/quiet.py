"""TensorFlow's remarks, kept off the terminal."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# The last is what TensorFlow logs as an error on every machine without a GPU.
STARTUP_REMARK = re.compile(
    rb"I0000 |WARNING: All log messages before absl|To enable the following instructions|"
    rb"E0000 .* cuInit: "
)


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keep TensorFlow's remarks at start-up off the terminal; warnings, errors and all else pass.

    They are written by C++ code before it can be configured, so the file descriptor is diverted.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        terminal = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            kept.seek(0)
            has_driver = Path("/proc/driver/nvidia").exists()
            for line in kept.read().splitlines(keepends=True):
                if not STARTUP_REMARK.match(line) or (has_driver and line.startswith(b"E0000")):
                    os.write(2, line)
