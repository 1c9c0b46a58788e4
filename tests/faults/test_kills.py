"""Sweeps that are killed at random moments end with the same results: pytest -m faults -n 0 -s.

AUXGRAD_FAULTS sets the number of faults, 100 if it is not set.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from conftest import together

from auxgrad.config.schema import TrackingConfig
from auxgrad.record.opening import open_store
from auxgrad.record.stored import RUN_KEY

pytestmark = pytest.mark.faults

FAULTS = int(os.environ.get("AUXGRAD_FAULTS", "100"))
SWEEP = [sys.executable, "-m", "auxgrad.train", "--multirun"]
# One primary loss: the recorded sum of several may differ in its last bit between processes.
STORM = [*SWEEP, "problem=optdigits", "problem.train_size=50", "problem.hidden=8"]
STORM += ["mode=SingleTask,Multitask,Projection", "lam=0.3,1", "seed=range(4)"]
STORM += ["problem.epochs=40", "hydra.launcher.workers=2", "retries=100"]
LONGEST_MOMENT = 20.0  # Seconds after the start. They cover imports, planning, runs and summaries.
ENDS_WITHIN = 40.0
BEFORE_ANY_CODE = "Could not import runpy module"  # What Python says if it is interrupted as it starts.
# A sitecustomize.py that makes runs of a second write a checkpoint after every epoch.
EVERY_EPOCH = """\
import sys
class Often:
    def find_spec(self, name, path=None, target=None):
        if name == 'auxgrad.execution.trainer':
            sys.meta_path.remove(self)
            from auxgrad.execution import checkpointing
            checkpointing.EVERY_SECONDS, checkpointing.MOST_SHARE = 0.0, 1e9
sys.meta_path.insert(0, Often())
"""


@dataclass
class Outcomes:
    """The number of faults of each kind and of sweeps, and the longest time to end after a signal."""

    faults: Counter = field(default_factory=Counter)
    resumed: int = 0
    sweeps: int = 0
    slowest: float = 0.0


def start(folder):
    path = {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        STORM,
        cwd=folder,
        env={**os.environ, **path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def table(folder):
    """Return test loss and curves of each finished run by key, and the number of runs by status."""
    store = open_store(TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db"))
    runs = store.runs("FINISHED")
    run_ids = [run.run_id for run in runs]
    curves = [store.histories(run_ids, name) for name in ("train_loss", "val_loss")]
    states = Counter(run.status for run in store.runs())
    found = {
        run.tags[RUN_KEY]: (run.metrics["test_loss"], *(curve[run.run_id] for curve in curves))
        for run in runs
    }
    assert len(found) == len(runs), "a run is finished twice"
    return found, states


def strays(folder):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.info["cmdline"])
        except psutil.Error:
            continue
    return found


def disturb(process, kind, outcomes):
    """Cause one fault; return the output if it ended the sweep, else None."""
    members = []
    with contextlib.suppress(psutil.Error):  # The sweep may have ended by itself.
        members = psutil.Process(process.pid).children(recursive=True)
    if kind == "kill a worker":
        with contextlib.suppress(psutil.Error, StopIteration):  # There may be none yet.
            next(each for each in members if "spawn_main" in " ".join(each.cmdline())).kill()
            outcomes.faults[kind] += 1
        return None
    outcomes.faults[kind] += 1
    asked = time.monotonic()
    if kind == "kill the sweep":
        process.kill()
    elif kind == "kill everything":
        for each in members:
            with contextlib.suppress(psutil.Error):
                each.kill()
        process.kill()
    elif kind == "SIGTERM":
        process.send_signal(signal.SIGTERM)
    else:
        os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    if kind in ("SIGTERM", "SIGINT"):
        outcomes.slowest = max(outcomes.slowest, time.monotonic() - asked)
        if out.startswith(BEFORE_ANY_CODE):
            return out
        # A process that ends by the default action of a signal has the negative number here, and
        # 128 + number in a shell.
        number, status = {"SIGTERM": (-15, 143), "SIGINT": (-2, 130)}[kind]
        assert process.returncode in (0, number, status), (kind, out)
        assert "Traceback" not in out, out
    return out


def test_a_table_is_the_same_whatever_was_killed(tmp_path):
    chance, outcomes = random.Random(0), Outcomes()
    calm = tmp_path / "calm"
    calm.mkdir()
    done = start(calm)
    out, _ = done.communicate(timeout=600)
    assert done.returncode == 0, out
    expected, states = table(calm)
    assert set(states) == {"FINISHED"}
    number = 0
    kinds = ["kill a worker", "kill the sweep", "kill everything", "SIGTERM", "SIGINT"]
    while outcomes.faults.total() < FAULTS:
        folder = tmp_path / f"storm{number}"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(EVERY_EPOCH)
        number += 1
        is_over = False
        while not is_over:
            outcomes.sweeps += 1
            process = start(folder)
            while process.poll() is None and outcomes.faults.total() < FAULTS:
                time.sleep(chance.uniform(0, LONGEST_MOMENT))
                if process.poll() is not None:
                    break
                kind = chance.choice(kinds)
                if disturb(process, kind, outcomes) is not None:
                    break
            if process.stdout and not process.stdout.closed:
                process.communicate(timeout=600)
            deadline = time.monotonic() + ENDS_WITHIN
            while strays(folder):
                assert time.monotonic() < deadline, strays(folder)
                time.sleep(0.2)
            is_over = process.returncode == 0
        found, states = table(folder)
        assert found == expected
        assert states["RUNNING"] == 0, states
        leftovers = [str(each) for each in Path(folder).rglob("checkpoint.npz*")]
        assert not leftovers, leftovers
        outcomes.resumed += sum(
            "resuming" in log.read_text() for log in (folder / "multirun").rglob("output.log")
        )
        print(
            f"\n{folder.name}: {len(found)} runs as expected, {dict(states)}; so far {outcomes}",
            flush=True,
        )
    assert outcomes.slowest < ENDS_WITHIN


@pytest.mark.parametrize("attempt", range(20))
def test_sixteen_processes_start_in_an_empty_folder(tmp_path, attempt):
    command = [
        sys.executable,
        "-m",
        "auxgrad.train",
        "problem=toy",
        "mode=SingleTask",
        "problem.epochs=1",
    ]
    done = together([[*command, f"seed={seed}"] for seed in range(16)], tmp_path)
    assert {each.returncode for each in done} == {0}, [each.stderr[-500:] for each in done]
    store = open_store(TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"))
    assert Counter(run.status for run in store.runs()) == {"FINISHED": 16}


def test_memory_and_files_over_a_thousand_runs(tmp_path):
    """Memory and open files of the sweep and its worker are compared after the first hundred runs."""
    command = [*SWEEP, "problem=optdigits", "problem.train_size=50", "problem.hidden=8"]
    command += ["mode=Multitask", "lam=0.1,0.3,1", "hydra.launcher.workers=1"]
    command += ["seed=range(350)", "problem.epochs=2"]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    samples, workers = [], set()
    while process.poll() is None:
        time.sleep(2)
        done = (tmp_path / "log").read_text().count("\ndone ")
        try:
            parent = psutil.Process(process.pid)
            family = [parent, *(p for p in parent.children() if "spawn_main" in " ".join(p.cmdline()))]
            if done > 100 and len(family) == 2:
                samples.append((done, *((p.memory_info().rss, p.num_fds()) for p in family)))
                workers.add(family[1].pid)
        except psutil.Error:
            continue
    assert process.returncode == 0, (tmp_path / "log").read_text()[-2000:]
    assert len(workers) == 1, "a worker that has grown too much was replaced"
    first, last = samples[0], samples[-1]
    for name, before, after in zip(("sweep", "worker"), first[1:], last[1:], strict=True):
        slope = (after[0] - before[0]) / (last[0] - first[0]) / 1024
        print(f"\n{name}: {before[0] >> 20} MiB after {first[0]} runs, {after[0] >> 20} after {last[0]}")
        print(f"  slope {slope:.1f} KiB a run; files {before[1]} and {after[1]}", flush=True)
        assert slope < 20
        assert after[1] <= before[1] + 5
