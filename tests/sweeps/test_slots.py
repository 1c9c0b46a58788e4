"""Slots for workers on GPUs, which a fake nvidia-smi lists, and on cores."""

from __future__ import annotations

import os

import pytest

from auxgrad.sweeps import slots as module
from auxgrad.sweeps.slots import THREADS, slots, visible_gpus
from auxgrad.training.devices import GPU_MEMORY


@pytest.fixture
def fake_gpus(tmp_path, monkeypatch):
    """Put a fake nvidia-smi that lists two GPUs on the search path."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-aa, 10000'\necho '1, GPU-bb, 20000'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def visible(found):
    return [slot.environment.get("CUDA_VISIBLE_DEVICES") for slot in found]


def test_one_gpu_for_each_worker(fake_gpus):
    found = slots(None, 1)
    assert visible(found) == ["GPU-aa", "GPU-bb"]
    assert all(GPU_MEMORY not in slot.environment for slot in found)


def test_several_workers_share_a_gpu_and_its_memory(fake_gpus):
    found = slots(None, 2)
    assert visible(found) == ["GPU-aa", "GPU-bb", "GPU-aa", "GPU-bb"]
    assert [slot.environment[GPU_MEMORY] for slot in found] == ["4500", "9000", "4500", "9000"]
    assert visible(slots(3, 1)) == ["GPU-aa", "GPU-bb", "GPU-aa"]


def test_only_the_gpus_that_are_visible(fake_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    [gpu] = visible_gpus()
    assert (gpu.name, gpu.memory) == ("1", 20000)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_without_gpus_workers_share_the_cores(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(module, "cores", lambda: 8)
    for workers, threads in ((None, "1"), (2, "4"), (3, "2"), (16, "1"), (1, "8")):
        found = slots(workers, 1)
        assert len(found) == (workers or 8)
        assert all(slot.environment[name] == threads for slot in found for name in THREADS)
