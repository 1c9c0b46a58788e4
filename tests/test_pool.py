"""Slots and worker processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from auxgrad import pool
from auxgrad.outcome import Outcome


@pytest.fixture
def fake_gpus(tmp_path, monkeypatch):
    """Two GPUs that only nvidia-smi knows of."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-aa, 10000'\necho '1, GPU-bb, 20000'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def visible(slots):
    return [slot.environment.get("CUDA_VISIBLE_DEVICES") for slot in slots]


def test_one_gpu_for_each_worker(fake_gpus):
    slots = pool.slots(None, 1)
    assert visible(slots) == ["GPU-aa", "GPU-bb"]
    assert all(pool.GPU_MEMORY not in slot.environment for slot in slots)


def test_several_workers_share_a_gpu_and_its_memory(fake_gpus):
    slots = pool.slots(None, 2)
    assert visible(slots) == ["GPU-aa", "GPU-bb", "GPU-aa", "GPU-bb"]
    assert [slot.environment[pool.GPU_MEMORY] for slot in slots] == ["4500", "9000", "4500", "9000"]
    assert visible(pool.slots(3, 1)) == ["GPU-aa", "GPU-bb", "GPU-aa"]


def test_only_the_gpus_that_are_visible(fake_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    [gpu] = pool.visible_gpus()
    assert (gpu.name, gpu.memory) == ("1", 20000)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert pool.visible_gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pool.visible_gpus() == []


def test_without_gpus_workers_share_the_cores(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(pool, "cores", lambda: 8)
    for workers, threads in ((None, "1"), (2, "4"), (3, "2"), (16, "1"), (1, "8")):
        slots = pool.slots(workers, 1)
        assert len(slots) == (workers or 8)
        assert all(slot.environment[name] == threads for slot in slots for name in pool.THREADS)


def work(number, overrides):
    """A job of a worker: what its override says."""
    if overrides == ["die"]:
        os.kill(os.getpid(), signal.SIGKILL)
    if overrides == ["exit"]:
        os._exit(3)
    if overrides == ["sleep"]:
        Path(f"pid{number}").write_text(str(os.getpid()))
        time.sleep(600)
    return Outcome("finished", run_id=f"{os.getpid()} {os.environ['SLOT']}")


PLACES = [pool.Slot({"SLOT": "a"}, "a"), pool.Slot({"SLOT": "b"}, "b")]


def test_a_worker_that_dies_costs_one_run(in_tmp):
    jobs = {i: ["fine"] for i in range(12)} | {3: ["die"], 5: ["exit"]}
    events = list(pool.run_all(work, jobs, PLACES))
    ended = {event.job: event.outcome for event in events if event.outcome}
    assert sorted(ended) == list(range(12))
    assert [event.job for event in events if not event.outcome] == list(range(12))
    assert ended[3].kind == ended[5].kind == "failed"
    assert ended[3].retry
    assert "SIGKILL" in ended[3].error
    assert "exit status 3" in ended[5].error
    fine = [outcome.run_id for number, outcome in ended.items() if number not in (3, 5)]
    assert len(set(fine)) <= 4  # Two workers, and one more for each that died.
    assert {text.split()[1] for text in fine} == {"a", "b"}


def test_left_early_no_worker_stays(in_tmp):
    events = pool.run_all(work, {0: ["sleep"], 1: ["sleep"]}, PLACES)
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
