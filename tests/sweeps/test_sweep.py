"""Sweeps from the command line: plan, workers, failures, interruptions and records."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
from conftest import REPOSITORY, on_a_terminal, together
from mlflow import MlflowClient

pytestmark = pytest.mark.usefixtures("none_left")
SWEEP = [sys.executable, "-m", "auxgrad.train", "--multirun"]
GRID = ("mode=SingleTask,Projection", "lam=1,10", "alpha=0.01,1", "seed=range(2)")
GRID_RUNS = 2 * (1 + 4)
HERE = "hydra/launcher=basic"  # In the process of the command: quicker than to start a worker.


def runs_of(folder, name="auxgrad"):
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name(name)
    return client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []


def statuses(folder):
    return Counter(run.info.status for run in runs_of(folder))


def losses(folder, name="auxgrad"):
    """Return the test losses by setting and seed; each run must be FINISHED exactly once."""
    finished = [run for run in runs_of(folder, name) if run.info.status == "FINISHED"]
    found = {
        (r.data.params["config"], r.data.params["seed"]): r.data.metrics["test_loss"] for r in finished
    }
    assert len(found) == len(finished)
    return found


@pytest.mark.process
def test_a_grid_by_two_workers_serially_and_again(sweep, forked_sweep, new_store, tmp_path, small):
    """All launchers give the same results, and a second sweep has nothing to run."""
    new_store(tmp_path)
    done = sweep(*GRID, "hydra.launcher.workers=2", *small)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "auxgrad 0.2.0: sweep over mode × lam × alpha × seed"
    assert "plan      16 combinations, 10 distinct: 0 finished, 10 to run" in lines
    assert sum(line.startswith("done ") for line in lines) == GRID_RUNS
    assert any(line.startswith("time      about ") for line in lines)
    assert "sweep     10 done, 0 failed, 0 left" in lines
    assert "Epoch" not in done.stdout
    parallel = losses(tmp_path)
    assert len(parallel) == GRID_RUNS

    # There is a folder for each setting and seed, with the result of its run.
    folders = sorted(tmp_path.glob("multirun/auxgrad/*/seed=*"))
    assert len(folders) == GRID_RUNS
    results = [json.loads((folder / "result.json").read_text())["test_loss"] for folder in folders]
    assert sorted(results) == sorted(parallel.values())
    assert all("Epoch 1/3" in (folder / "output.log").read_text() for folder in folders)

    again = forked_sweep(*GRID, *small)
    assert again.returncode == 0
    assert "plan      16 combinations, 10 distinct: 10 finished, 0 to run" in again.stdout
    assert losses(tmp_path) == parallel

    # The same sweep in this process, one run after another, with all threads.
    serial = forked_sweep(*GRID, HERE, "tracking.experiment=serial", *small)
    assert serial.returncode == 0, serial.stderr
    assert losses(tmp_path, "serial") == parallel

    # A larger sweep runs only the new runs; `force` runs all of them again, in new folders.
    more = forked_sweep("mode=SingleTask", "seed=range(3)", HERE, *small)
    assert "3 combinations, 3 distinct: 2 finished, 1 to run" in more.stdout
    forced = forked_sweep("mode=SingleTask", "seed=0", "force=true", HERE, *small)
    assert "1 combination, 1 distinct: 0 finished, 1 to run" in forced.stdout
    assert len(runs_of(tmp_path)) == GRID_RUNS + 2
    assert len(list(tmp_path.glob("multirun/auxgrad/SingleTask*/seed=0*"))) == 2


@pytest.mark.process
def test_summary_runs(forked_sweep, forked_train, tmp_path, small):
    def summaries():
        return {run.data.params["config"]: run for run in runs_of(tmp_path, "auxgrad-settings")}

    grid = ("mode=SingleTask,Multitask", "lam=3", "seed=range(3)", *small)
    assert forked_sweep(*grid, HERE).returncode == 0
    first = summaries()
    assert len(first) == len(runs_of(tmp_path, "auxgrad-settings")) == 2
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    for setting, summary in first.items():
        runs = [run for run in runs_of(tmp_path) if run.data.params["config"] == setting]
        values = [run.data.metrics["test_loss"] for run in runs]
        metrics = summary.data.metrics
        assert metrics["seeds"] == 3
        assert metrics["test_loss"] == pytest.approx(sum(values) / 3)
        assert metrics["test_loss_low"] < metrics["test_loss"] < metrics["test_loss_high"]
        # Student's t with two degrees of freedom.
        half = 4.302653 * metrics["test_loss_std"] / 3**0.5
        assert metrics["test_loss_high"] - metrics["test_loss"] == pytest.approx(half, rel=1e-6)
        curve = client.get_metric_history(summary.info.run_id, "val_loss")
        each = [client.get_metric_history(run.info.run_id, "val_loss") for run in runs]
        assert [p.step for p in curve] == [p.step for p in min(each, key=len)]
        assert curve[0].value == pytest.approx(sum(points[0].value for points in each) / 3)
        assert "seed" not in summary.data.params
    # With one more seed of one setting, only its summary is rewritten.
    assert forked_sweep(*grid).returncode == 0
    # A single run counts in the next sweep.
    assert forked_train("mode=Projection", "lam=0", "seed=3", *small).returncode == 0
    done = forked_sweep("mode=SingleTask", "seed=range(4)", *small)
    assert "4 combinations, 4 distinct: 4 finished, 0 to run" in done.stdout
    second = summaries()
    assert len(runs_of(tmp_path, "auxgrad-settings")) == 2
    for setting in first:
        same = first[setting].info.run_id == second[setting].info.run_id
        assert same == setting.startswith("Multitask")


@pytest.mark.process
def test_failures_are_reported_and_other_runs_continue(sweep, new_store, tmp_path, small, failing):
    new_store(tmp_path)
    arguments = ("mode=Multitask", "lam=1,666,667,3", *small)
    done = sweep(*arguments, "hydra.launcher.workers=1", **failing)
    assert done.returncode == 1
    assert done.stderr == "auxgrad: 1 of 4 runs failed\n"
    assert statuses(tmp_path) == {"FINISHED": 3, "FAILED": 2, "KILLED": 1}
    assert "RuntimeError: the disk is full; will be tried again" in done.stdout
    assert "its worker process died (SIGKILL, perhaps out of memory); will be tried again" in done.stdout
    assert "sweep     3 done, 1 failed, 0 left" in done.stdout
    table = done.stdout.partition("Failed runs")[2]
    assert "lam=666" in table
    assert "lam=667" not in table
    # Each attempt has a folder, with its traceback there and in MLflow.
    traces = list(tmp_path.glob("multirun/auxgrad/Multitask_lam=666*/*/traceback.txt"))
    assert len(traces) == 2
    failed = [run for run in runs_of(tmp_path) if run.info.status == "FAILED"]
    traces += [tmp_path / "mlartifacts" / r.info.run_id / "artifacts/traceback.txt" for r in failed]
    assert all("RuntimeError: the disk is full" in trace.read_text() for trace in traces)
    # A second sweep runs only the failed run, which fails once without retries.
    again = sweep(*arguments, "retries=0", HERE, **failing)
    assert again.returncode == 1
    assert "4 distinct: 3 finished, 1 to run" in again.stdout
    assert statuses(tmp_path) == {"FINISHED": 3, "FAILED": 3, "KILLED": 1}


@pytest.mark.long
def test_fail_fast_stops_at_the_first(sweep, new_store, tmp_path, small, failing):
    """A crashed run is retried first, and the sweep stops when it fails for good."""
    new_store(tmp_path)
    arguments = ("mode=Multitask", "lam=1,666,3,10", "fail_fast=true")
    done = sweep(*arguments, "hydra.launcher.workers=1", *small, **failing)
    assert done.returncode == 1
    assert done.stderr == "auxgrad: 1 of 4 runs failed; 2 were not run (fail_fast=true)\n"
    assert statuses(tmp_path) == {"FINISHED": 1, "FAILED": 2}


def test_an_error_in_the_data_is_not_tried_again(forked_sweep, tmp_path, small):
    """The sweeper loads all data first, so that an error ends the sweep before any run."""
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"\x1f\x8b broken")
    done = forked_sweep(*small, f"data.path={broken},{small[1].partition('=')[2]}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"auxgrad: data.path={broken}: not a complete .tar.gz archive")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lam=1,-2"], "lam=-2: must be a finite number >= 0"),
        (["problem.epochs=0,1"], "problem.epochs=0: must be a whole number >= 1"),
        (["hydra.launcher.workers=0"], "hydra.launcher.workers=0: must be a whole number >= 1 or null"),
        (
            ["hydra.launcher.jobs_per_gpu=x"],
            "hydra.launcher.jobs_per_gpu=x: must be a whole number >= 1",
        ),
        (["retries=-1"], "retries=-1: must be a whole number >= 0"),
        (
            ["experiment=papre"],
            "experiment=papre: must be one of figure5, figure7, methods, paper, synthetic",
        ),
        (["hydra/launcher=lokal"], "hydra/launcher=lokal: must be one of basic, local, ray, slurm"),
        (["tracking.experiment=a,b"], "tracking: must be the same for all runs of a sweep"),
        (["lam=interval(1,2)"], "lam=interval(1,2): the grid sweeper needs single values"),
    ],
)
def test_wrong_input(forked_sweep, tmp_path, arguments, line):
    done = forked_sweep(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"auxgrad: {line}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_custom_experiment_as_in_the_reference(forked_sweep, tmp_path, small):
    text = (REPOSITORY / "docs/reference/sweeps.md").read_text(encoding="utf-8")
    text = text.partition('title="conf/experiment/best.yaml"\n')[2].partition("```")[0]
    (tmp_path / "mine/experiment").mkdir(parents=True)
    (tmp_path / "mine/experiment/best.yaml").write_text(text)
    done = forked_sweep("--config-dir=mine", "experiment=best", "dry_run=true", *small)
    assert "plan      40 combinations, 40 distinct: 0 finished, 40 to run" in done.stdout, done.stderr
    shorter = forked_sweep("--config-dir=mine", "experiment=best", "seed=1", "dry_run=true", *small)
    assert "plan      4 combinations, 4 distinct" in shorter.stdout


@pytest.mark.skipif(bool(importlib.util.find_spec("ray")), reason="Ray is installed")
def test_a_launcher_that_is_not_installed(sweep, tmp_path):
    done = sweep("hydra/launcher=ray")
    line = (
        "auxgrad: hydra/launcher=ray: the package ray is not installed; install the extra auxgrad[ray]\n"
    )
    assert done.stderr == line
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_needs_multirun(train, tmp_path):
    done = train("experiment=paper")
    assert done.stderr == "auxgrad: experiment=paper: is a sweep; add --multirun\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_the_plan_of_the_paper(forked_sweep, tmp_path, small):
    done = forked_sweep("experiment=paper", "dry_run=true", *small)
    assert done.returncode == 0
    assert "plan      3,600 combinations, 2,750 distinct: 0 finished, 2,750 to run" in done.stdout
    assert not (tmp_path / "multirun").exists()
    assert runs_of(tmp_path) == []


def started(command, folder, **kwargs):
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs
    )


def wait_for(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


LONG = ("problem.epochs=100000", "problem.patience=100000")


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)],
)
def test_interrupted_once_runs_end_cleanly(new_store, tmp_path, small, number, status):
    """Ctrl-C sends the signal to all processes of the terminal."""
    new_store(tmp_path)
    command = [*SWEEP, "mode=SingleTask", "seed=range(4)", "hydra.launcher.workers=2", *small, *LONG]
    process = started(command, tmp_path, start_new_session=True)
    wait_for(lambda: (tmp_path / "mlartifacts").exists() and statuses(tmp_path)["RUNNING"] == 2)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == status, out
    assert "stopped   0 done, 0 failed, 4 left; the same command continues from here" in out
    assert "Traceback" not in out
    assert statuses(tmp_path) == {"KILLED": 2}


@pytest.mark.process
def test_a_second_interrupt_stops_at_once(new_store, tmp_path, small):
    new_store(tmp_path)
    command = [*SWEEP, "mode=SingleTask", "hydra.launcher.workers=1", *small, *LONG]
    process = started(command, tmp_path)
    wait_for(lambda: (tmp_path / "mlartifacts").exists() and statuses(tmp_path)["RUNNING"] == 1)
    [worker] = [
        p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())
    ]
    worker.suspend()  # Keeps the worker from ending cleanly.
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert time.monotonic() - asked < 15
    assert process.returncode == 130
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.process
def test_a_killed_sweep_is_resumed(new_store, tmp_path, small):
    """Kill the sweeper alone, then the sweeper and its workers, then repeat the command."""
    new_store(tmp_path)
    command = [*SWEEP, "mode=SingleTask", "seed=range(6)", "hydra.launcher.workers=1", *small]
    command += ["problem.epochs=100", "problem.patience=100"]
    for everything in (False, True):
        before = statuses(tmp_path)["FINISHED"] if (tmp_path / "mlflow.db").exists() else 0
        process = started(command, tmp_path)
        wait_for(
            lambda least=before + 1: (
                (tmp_path / "mlartifacts").exists()
                and statuses(tmp_path)["FINISHED"] >= least
                and statuses(tmp_path)["RUNNING"] > 0
            )
        )
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        if everything:
            for worker in workers:
                worker.kill()
        process.communicate()
        psutil.wait_procs(workers, timeout=60)
        assert not any(worker.is_running() for worker in workers)
    finished = {run.info.run_id for run in runs_of(tmp_path) if run.info.status == "FINISHED"}
    assert 2 <= len(finished) < 6
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"6 distinct: {len(finished)} finished, {6 - len(finished)} to run" in done.stdout
    after = runs_of(tmp_path)
    assert len(losses(tmp_path)) == 6
    assert {run.info.status for run in after} == {"FINISHED", "KILLED"}
    assert finished <= {run.info.run_id for run in after if run.info.status == "FINISHED"}


@pytest.mark.long
def test_two_sweeps_at_once_share_the_work(tmp_path, small):
    command = [*SWEEP, "mode=SingleTask,Multitask", "lam=1", "seed=range(4)", *small]
    command += ["hydra.launcher.workers=1"]
    for done in together([command, command], tmp_path):
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 failed, 0 left" in done.stdout
    assert len(losses(tmp_path)) == 8
    assert statuses(tmp_path) == {"FINISHED": 8}
    results = list(tmp_path.glob("multirun/auxgrad/*/*/result.json"))
    assert len(results) == 8


@pytest.mark.process
def test_on_a_terminal_there_is_a_live_line(new_store, tmp_path, small):
    """The name of the folder needs quotes in Hydra's grammar."""
    folder = tmp_path / "it's here"
    folder.mkdir()
    new_store(folder)
    command = [*SWEEP, "mode=SingleTask", "seed=range(3)", "hydra.launcher.workers=1", *small]
    command += ['hydra.sweeper.dir="it\'s mine"']
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    text = on_a_terminal(command, folder, env)
    assert "0 done, 1 running, 0 failed, 2 waiting" in text
    assert "1 done, 1 running, 0 failed, 1 waiting" in text
    assert "done 3/3" in text
    for noise in ("WARNING", "I0000", "oneDNN", "HYDRA", "Traceback"):
        assert noise not in text
    assert len(list(folder.glob("it's mine/auxgrad/*/seed=*/result.json"))) == 3


@pytest.mark.long
def test_values_of_other_sweepers_pass_the_entry_point(tmp_path, small):
    """A launcher takes numbers as Optuna gives them, and returns the losses."""
    from hydra.core.utils import JobStatus

    plugin = tmp_path / "plugins/hydra_plugins/other"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").touch()
    (plugin / "program.py").write_text(
        "from hydra.plugins.sweeper import Sweeper\n"
        "from hydra.core.plugins import Plugins\n"
        "class Other(Sweeper):\n"
        "    def setup(self, *, hydra_context, task_function, config):\n"
        "        self.launcher = Plugins.instance().instantiate_launcher(\n"
        "            hydra_context=hydra_context, task_function=task_function, config=config)\n"
        "    def sweep(self, arguments):\n"
        "        jobs = [[*arguments, 'mode=Multitask', f'lam={lam}'] for lam in (0.5, 1.25)]\n"
        "        for job in self.launcher.launch(jobs, 0): print(job.status, job.return_value)\n"
    )
    command = [*SWEEP, *small, "hydra/sweeper=other", f"--config-dir={tmp_path}/conf"]
    (tmp_path / "conf/hydra/sweeper").mkdir(parents=True)
    (tmp_path / "conf/hydra/sweeper/other.yaml").write_text(
        "_target_: hydra_plugins.other.program.Other\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "plugins")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    values = {run.data.params["lam"]: run.data.metrics["best_val_loss"] for run in runs_of(tmp_path)}
    assert set(values) == {"0.5", "1.25"}
    for value in values.values():
        assert f"{JobStatus.COMPLETED} {value}" in done.stdout
