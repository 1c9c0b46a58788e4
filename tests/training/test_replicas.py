"""With tf.distribute, training on two devices gives the weights of training on one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.process
def test_two_devices_train_as_one():
    """Run in a separate process: TensorFlow can divide the CPU only before its first use."""
    program = Path(__file__).with_name("two_replicas.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    error = found.pop("error")
    assert error == "optimizer: gradient_accumulation_steps must be None on several replicas"
    assert len(found) == 4
    for case, differences in found.items():
        assert differences.pop("names"), case
        assert max(differences.values()) <= 1e-5, (case, differences)
