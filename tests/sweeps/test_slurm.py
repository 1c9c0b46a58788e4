"""Sweeps on SLURM with two fake GPUs, as `.ci/slurm` starts it: pytest -m slurm."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter

import psutil
import pytest
from conftest import script
from test_sweep import HERE, SWEEP, losses, runs_of, started, statuses, wait_for

from auxgrad.process.liveness import slurm_states
from auxgrad.sweeps import slurm

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("none_left")]
SLURM = ("hydra/launcher=slurm", "hydra.launcher.runs_per_task=3", "hydra.launcher.cpus_per_task=1")


def test_twelve_runs_three_to_a_task_one_of_which_fails(sweep, tmp_path, small, failing):
    assert slurm.max_array_size() == 2  # Four tasks therefore need two arrays.
    grid = ("mode=Multitask,Projection", "lam=1,3,10,30,100,666", "alpha=0.01", *small)
    done = sweep(*SLURM, *grid, "retries=0", **failing)
    assert done.returncode == 1, done.stdout
    assert done.stderr == "auxgrad: 2 of 12 runs failed\n"
    assert "sweep     10 done, 2 failed, 0 left" in done.stdout
    assert statuses(tmp_path) == {"FINISHED": 10, "FAILED": 2}
    runs = runs_of(tmp_path)
    tasks = Counter(run.data.tags["worker.slurm_job"] for run in runs)
    assert list(tasks.values()) == [3, 3, 3, 3]
    assert len({name.partition("_")[0] for name in tasks}) == 2
    # Each task has one visible GPU, and one process executes all its runs.
    by_task = {(run.data.tags["worker.slurm_job"], run.data.tags["worker.gpu"]) for run in runs}
    assert len(by_task) == 4
    assert {gpu for _, gpu in by_task} == {"0", "1"}
    processes = {(run.data.tags["worker.slurm_job"], run.data.tags["worker.pid"]) for run in runs}
    assert len(processes) == 4
    # The results are the same as without SLURM.
    fine = [word.replace(",666", "") for word in grid]
    local = sweep(*fine, HERE, "tracking.experiment=local", **failing)
    assert local.returncode == 0, local.stderr
    assert losses(tmp_path) == losses(tmp_path, "local")


def test_a_study_of_the_users_own(study):
    """The tasks find the modules of the study in the working directory."""
    words = ["--config-dir", "conf", "--multirun", *SLURM, "problem=digits", "mode=Halfway", "lam=1"]
    done = script("train", *words, "seed=range(2)", "problem.epochs=2", cwd=study)
    assert "2 done, 0 failed, 0 left" in done.stdout, done.stdout + done.stderr


LONG = ("problem.epochs=25", "problem.patience=25")


def test_a_task_is_killed_and_the_sweep_continues(tmp_path, small):
    command = [*SWEEP, *SLURM, "mode=SingleTask", "seed=range(6)", *small, *LONG]
    process = started(command, tmp_path)
    wait_for(lambda: (tmp_path / "mlartifacts").exists() and statuses(tmp_path)["FINISHED"] >= 1)
    wait_for(lambda: statuses(tmp_path)["RUNNING"] >= 1)
    [victim, *_] = [run for run in runs_of(tmp_path) if run.info.status == "RUNNING"]
    task = victim.data.tags["worker.slurm_job"]
    psutil.Process(int(victim.data.tags["worker.pid"])).parent().kill()
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert f"its SLURM task {task} ended" in out
    assert "will be tried again" in out
    assert len(losses(tmp_path)) == 6
    assert set(statuses(tmp_path)) <= {"FINISHED", "KILLED"}


def test_a_task_that_slurm_ends_costs_no_attempt(tmp_path, small):
    """SLURM sends SIGTERM, and SIGKILL seconds later, at a time limit or a preemption."""
    command = [*SWEEP, *SLURM, "mode=SingleTask", "seed=range(3)", "retries=0", *small, *LONG]
    process = started(command, tmp_path)
    wait_for(lambda: (tmp_path / "mlartifacts").exists() and statuses(tmp_path)["RUNNING"] >= 1)
    [victim, *_] = [run for run in runs_of(tmp_path) if run.info.status == "RUNNING"]
    task = victim.data.tags["worker.slurm_job"]
    subprocess.run(["scancel", task], check=True)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert "its SLURM task was ended" in out
    assert len(losses(tmp_path)) == 3
    assert set(statuses(tmp_path)) <= {
        "FINISHED",
        "KILLED",
    }  # KILLED if interrupted before the first checkpoint.


def queued_folders():
    """Return the working directories of all tasks, also of those of tests in other processes."""
    queue = subprocess.run(["squeue", "-h", "-o", "%Z"], capture_output=True, text=True, check=True)
    return queue.stdout.splitlines()


def test_an_interrupted_sweep_cancels_its_tasks_and_is_resumed(sweep, tmp_path, small):
    command = [*SWEEP, *SLURM, "mode=SingleTask", "seed=range(6)", *small, *LONG]
    process = started(command, tmp_path)
    wait_for(lambda: (tmp_path / "mlartifacts").exists() and statuses(tmp_path)["FINISHED"] >= 1)
    wait_for(lambda: statuses(tmp_path)["RUNNING"] >= 1)
    assert str(tmp_path) in queued_folders()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 130, out
    assert str(tmp_path) not in queued_folders()
    found = statuses(tmp_path)
    assert found["RUNNING"] == 0
    assert found["KILLED"] >= 1
    again = sweep(*command[len(SWEEP) :])
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"6 distinct: {found['FINISHED']} finished" in again.stdout
    assert len(losses(tmp_path)) == 6


@pytest.mark.long
def test_tasks_of_a_dead_sweeper_are_not_repeated(tmp_path, small):
    """The tasks continue; the next sweep waits for the runs that they are training."""
    command = [*SWEEP, *SLURM, "mode=SingleTask", "seed=range(6)", *small, *LONG]
    process = started(command, tmp_path)
    wait_for(lambda: (tmp_path / "mlartifacts").exists() and statuses(tmp_path)["RUNNING"] >= 1)
    process.kill()
    process.communicate()
    again = started(command, tmp_path)
    out, _ = again.communicate(timeout=300)
    assert again.returncode == 0, out
    wait_for(lambda: not subprocess.check_output(["squeue", "-h"]))
    assert len(losses(tmp_path)) == 6
    assert statuses(tmp_path) == {"FINISHED": 6}


def test_what_the_cluster_refuses_is_one_line(sweep, tmp_path, small):
    done = sweep(*SLURM, "hydra.launcher.partition=nowhere", "mode=SingleTask", *small)
    assert done.returncode == 1
    assert done.stderr.startswith("auxgrad: hydra/launcher=slurm: cannot submit")
    assert "partition" in done.stderr
    assert done.stderr.count("\n") == 1
    assert runs_of(tmp_path) == []


def test_states_of_tasks():
    submitted = subprocess.run(
        ["sbatch", "--parsable", "--wrap", "sleep 60"], capture_output=True, text=True, check=True
    )
    job = submitted.stdout.strip()
    try:
        assert set(slurm_states([job, "999999"])) == {job}
        assert slurm_states(["999999"]) == {}
    finally:
        subprocess.run(["scancel", job], check=True)
    deadline = time.monotonic() + 30
    while slurm_states([job]):
        assert time.monotonic() < deadline
        time.sleep(0.5)
