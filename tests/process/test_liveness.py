"""A process counts as dead only if it is certainly not alive."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from auxgrad.process import liveness
from auxgrad.process.liveness import HEARTBEAT, Observer, process_tags

ELSEWHERE = {"worker.host": "elsewhere", "worker.boot": "another"}
CONTAINER = {"worker.pid_namespace": "pid:[4026532999]"}


@pytest.fixture
def wait(monkeypatch):
    """Return a function that advances all clocks by some seconds."""
    passed = [0.0]
    clock, wall = time.monotonic, time.time
    monkeypatch.setattr(liveness.time, "monotonic", lambda: clock() + passed[0])
    monkeypatch.setattr(liveness.time, "time", lambda: wall() + passed[0])

    def advance(seconds):
        passed[0] += seconds

    return advance


@pytest.mark.parametrize(
    ("changed", "is_dead"),
    [
        ({}, False),
        ({"worker.pid": "4194304"}, True),
        ({"worker.started": "1.0"}, True),  # Another process has its PID now.
        (ELSEWHERE, False),
        ({**ELSEWHERE, HEARTBEAT: "1000"}, False),  # The clock of its machine may be wrong.
        ({"worker.pid": "4194304", **CONTAINER}, False),  # Its process list is not visible.
        ({"worker.boot": "before", **CONTAINER}, False),  # Another machine of the same name.
        ({"worker.boot": "before", "worker.machine": "another"}, False),
        ({"worker.boot": "before", "worker.machine": ""}, False),
    ],
)
def test_processes_that_are_seen_for_the_first_time(changed, is_dead):
    assert (Observer().dead({"it": {**process_tags(), **changed}}) == {"it"}) == is_dead


def test_after_a_restart_of_this_machine(monkeypatch):
    machine = {"/etc/machine-id": "it", "/proc/sys/kernel/random/boot_id": "now"}
    monkeypatch.setattr(liveness, "_read_file", machine.get)
    monkeypatch.setattr(liveness, "_boot_id", lambda: "now")
    monkeypatch.setattr(liveness, "_pid_namespace", lambda: liveness.INITIAL_NAMESPACE)
    before = {**process_tags(), "worker.boot": "before"}
    assert Observer().dead({"it": before}) == {"it"}


def test_elsewhere_silence_counts_as_long_as_it_was_watched(wait):
    observer, beat = Observer(), str(int(time.time()))
    tags = {**process_tags(), **ELSEWHERE}
    for seconds, last, expected in [
        (0, beat, False),
        (500, beat, False),
        (70, "1000", False),  # The heartbeat has changed, although to an old time.
        (170, "1000", False),
        (20, "1000", True),
        (1, "1060", False),
    ]:
        wait(seconds)
        assert (observer.dead({"it": {**tags, HEARTBEAT: last}}) == {"it"}) == expected, seconds


def test_a_clock_that_jumps_kills_nobody(wait, monkeypatch):
    observer, tags = Observer(), {**process_tags(), **ELSEWHERE}
    assert not observer.dead({"it": tags})
    for jump in (10**6, -(10**6)):
        monkeypatch.setattr(liveness.time, "time", lambda jump=jump: 1_700_000_000 + jump)
        assert not observer.dead({"it": tags})
        wait(61)
        tags = {**tags, HEARTBEAT: f"{float(tags[HEARTBEAT]) + 60:.0f}"}


@pytest.mark.skipif(sys.platform != "linux", reason="PID namespaces are Linux's")
def test_two_containers_of_one_host_name():
    """A process in its own PID namespace, as in a container, does not see the processes of this one."""
    code = "import json; from auxgrad.process.liveness import *; print(json.dumps(process_tags()))"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    if "not permitted" in done.stderr.lower():
        pytest.skip("unshare is not permitted")
    assert done.returncode == 0, done.stderr
    tags = json.loads(done.stdout)
    assert tags["worker.host"] == process_tags()["worker.host"]
    assert not Observer().dead({"it": tags})  # It is dead, but this process cannot know that.
