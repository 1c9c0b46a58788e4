"""A pool handles worker processes that die, need replacement or are ended early."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from auxgrad.execution.result import Failure, Result
from auxgrad.sweeps.pool import run_all
from auxgrad.sweeps.slots import Slot
from auxgrad.sweeps.worker import Worker


def result(run_id: str) -> Result:
    return Result(run_id, 0.5, 0.5, 1, 1, 1, 1.0, 1.0)


@dataclass
class Fake(Worker):
    """A worker whose jobs are instructions; `jobs` counts the jobs of its process."""

    jobs: int = 0

    def __call__(self, job):
        self.jobs += 1
        if job == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "exit":
            os._exit(3)
        if job.startswith("sleep"):
            Path(f"pid{job}").write_text(str(os.getpid()))
            time.sleep(600)
        return result(f"{os.getpid()} {os.environ['SLOT']}")

    def needs_replacement(self):
        return self.jobs == 2

    def collect_garbage(self):
        pass


class Lasting(Fake):
    def needs_replacement(self):
        return False


PLACES = [Slot({"SLOT": "a"}, "a"), Slot({"SLOT": "b"}, "b")]


def test_a_worker_that_dies_costs_one_run(in_tmp):
    jobs = dict.fromkeys(range(12), "fine") | {3: "die", 5: "exit"}
    events = list(run_all(jobs, PLACES, Lasting))
    ended = {event.number: event.outcome for event in events if event.outcome}
    assert sorted(ended) == list(range(12))
    assert [event.number for event in events if not event.outcome] == list(range(12))
    assert isinstance(ended[3], Failure)
    assert isinstance(ended[5], Failure)
    assert ended[3].retry
    assert "SIGKILL" in ended[3].error
    assert "exit status 3" in ended[5].error
    fine = [outcome.run_id for number, outcome in ended.items() if number not in (3, 5)]
    assert len(set(fine)) <= 4  # Two workers, and one more for each that died.
    assert {text.split()[1] for text in fine} == {"a", "b"}


def test_a_worker_that_needs_replacement_is_replaced(in_tmp):
    events = list(run_all(dict.fromkeys(range(5), "fine"), PLACES[:1], Fake))
    pids = [event.outcome.run_id for event in events if event.outcome]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_no_worker_survives_an_early_end(in_tmp):
    events = run_all({0: "sleep0", 1: "sleep1"}, PLACES, Lasting)
    next(events)
    next(events)
    deadline = time.monotonic() + 60
    while len(list(in_tmp.glob("pid*"))) < 2 or not all(p.read_text() for p in in_tmp.glob("pid*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    pids = [int(file.read_text()) for file in in_tmp.glob("pid*")]
    events.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
