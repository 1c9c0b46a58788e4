"""Resumption, retries, claims and waiting in a sweep, without Hydra and without training."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import defaultdict
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from auxgrad.config import compose
from auxgrad.errors import ConfigError, SweepFailed
from auxgrad.execution import delivery, versions
from auxgrad.execution.checkpoint import FILE, FOLDER, Checkpoint
from auxgrad.execution.result import Failure, Result
from auxgrad.record.opening import open_store
from auxgrad.record.writing import Dataset
from auxgrad.sweeps import progress
from auxgrad.sweeps import sweep as module
from auxgrad.sweeps.executor import Event, Executor
from auxgrad.sweeps.plan import Plan
from auxgrad.sweeps.sweep import sweep
from auxgrad.training import devices

DATA = Dataset("d", "0" * 64, "{}", "{}")
CRASH = Failure("its worker process died")
WRONG = Failure("lam=3: must be", retry=False)
INTERRUPTED = Failure("its SLURM task was ended", was_interrupted=True)
ELSEWHERE = Failure("is running elsewhere", is_elsewhere=True)


def finish(store, config, fingerprint) -> Result:
    """Write a finished run to the store, without training."""
    writer = store.start_run(config.identity(fingerprint), {}, DATA)
    result = Result(writer.run_id, 0.5, 0.4, 1, 2, 8, 1.0, 64.0)
    for name, value in result.metrics.items():
        writer.metric(name, value, 8)
    writer.flush()
    writer.end("FINISHED")
    return result


class Scripted(Executor):
    """Returns the outcomes in the list of each lam, one per launch, and then finishes its run.

    An outcome may be a function that is called at the launch and returns the outcome.
    """

    device = None

    def __init__(self, store, fingerprint, script=None, device=None):
        self.store, self.fingerprint, self.device = store, fingerprint, device
        self.script = defaultdict(list, script or {})
        self.launched = []

    def describe(self):
        return "a script"

    spans_machines = False

    def events(self, jobs):
        for number, job in jobs.items():
            yield Event(number)
            config = job.config()
            self.launched.append(config.lam)
            given = self.script[config.lam]
            outcome = given.pop(0) if given else finish(self.store, config, self.fingerprint)
            yield Event(number, outcome() if callable(outcome) else outcome)


@pytest.fixture
def fingerprint(small):
    return compose([*small]).problem.load().fingerprint


@pytest.fixture
def make(in_tmp, small, fingerprint):
    """Return a function that sweeps over lams of Multitask and returns what was launched."""
    store = open_store(compose([*small]).tracking)

    def go(lams, script=None, *words, device=None):
        configs = [compose(["mode=Multitask", f"lam={lam}", *words, *small]) for lam in lams]
        executor = Scripted(store, fingerprint, script, device)
        try:
            results = sweep(Plan(("lam",), len(lams), tuple(configs)), executor, in_tmp)
        except SweepFailed as error:
            return executor.launched, str(error)
        return executor.launched, len(results)

    go.store = store
    return go


def test_what_is_finished_is_not_run_again(make, capsys):
    assert make([1, 2]) == ([1, 2], 2)
    assert make([1, 2, 3]) == ([3], 1)
    assert "3 distinct: 2 finished, 1 to run" in capsys.readouterr().out
    assert make([1, 2, 3]) == ([], 0)
    assert make([1, 2], None, "force=true") == ([1, 2], 2)


def checkpoint_of(run_id: str) -> Checkpoint:
    state = {"run_id": run_id, "epoch": 3, "steps": 12, "is_last": False, "seconds": 1.0}
    state |= {"diverged": None, "history": {}, "stopping": {}, "waiting": [], "chance": {}}
    return Checkpoint(**state, variables=[np.ones(3)], best=[], key=np.arange(4))


def test_the_plan_counts_the_runs_that_will_be_resumed(make, small, fingerprint, in_tmp, capsys):
    def interrupt(lam, has_file=True, owner=None, **tags):
        """Leave an interrupted run, with a checkpoint that belongs to it unless there is an owner."""
        identity = compose(["mode=Multitask", f"lam={lam}", *small]).identity(fingerprint)
        folder = in_tmp / f"{lam}"
        folder.mkdir(exist_ok=True)
        own = {**versions.packages(), "device": devices.cpu(), FOLDER: str(folder), **tags}
        writer = make.store.start_run(identity, own, DATA)
        if has_file:
            checkpoint_of(owner or writer.run_id).save(folder / FILE)
        writer.end("KILLED")

    for _ in range(2):  # The checkpoint is that of the newer one.
        interrupt(1)
    interrupt(2, has_file=False)
    interrupt(3, **{"version.keras": "2.0"})
    interrupt(4, owner="another")
    interrupt(5)
    (in_tmp / "5" / FILE).write_bytes(b"PK damaged")
    interrupt(6)
    interrupt(7, device="GPU")
    plan = "plan      8 combinations, 8 distinct: 0 finished, 8 to run"
    words = [range(1, 9), None, "dry_run=true"]
    make(*words)  # Whether the workers have a GPU is not known.
    assert f"{plan}, 3 of them to resume\n" in capsys.readouterr().out
    make(*words, device=devices.cpu())
    assert f"{plan}, 2 of them to resume\n" in capsys.readouterr().out
    make(*words, "force=true")
    assert f"{plan}\n" in capsys.readouterr().out
    make([2, 8], None, "dry_run=true")
    assert "2 distinct: 0 finished, 2 to run\n" in capsys.readouterr().out


def test_what_an_interrupted_sweep_says_last_is_true(make, small, fingerprint, monkeypatch, capsys):
    """The second run is finished in the store, but the sweep is interrupted before it is told so."""

    def interrupt():
        finish(make.store, compose(["mode=Multitask", "lam=2", *small]), fingerprint)
        raise KeyboardInterrupt

    monkeypatch.setattr(progress, "Console", partial(Console, force_terminal=True, width=100))
    with pytest.raises(KeyboardInterrupt):
        make([1, 2, 3], {2: [interrupt]})
    shown = capsys.readouterr().out
    assert "1 done, 1 running, 0 failed, 1 waiting" in shown
    assert shown.endswith("stopped   2 done, 0 failed, 1 left; the same command continues from here\n")
    make([1, 2, 3])
    assert "sweep     1 done, 0 failed, 0 left\n" in capsys.readouterr().out.rpartition(" left; ")[2]


def test_crashes_are_retried_after_other_runs_but_config_errors_are_not(make):
    assert make([1, 2, 3], {1: [CRASH]}) == ([1, 2, 3, 1], 3)
    launched, line = make([4, 5], {4: [CRASH, CRASH], 5: [WRONG]})
    assert (launched, line) == ([4, 5, 4], "2 of 2 runs failed")
    assert make([6], {6: [CRASH] * 3}, "retries=3") == ([6] * 4, 1)


def test_a_task_that_is_ended_costs_no_attempt(make, monkeypatch, capsys):
    """A run that is interrupted too often fails in the end."""
    assert make([1, 2], {1: [INTERRUPTED] * 3}, "retries=0", "fail_fast=true") == ([1, 2, 1, 1, 1], 2)
    assert capsys.readouterr().out.count("later     Multitask lam=1") == 3
    monkeypatch.setattr(module, "MOST_INTERRUPTIONS", 2)
    assert make([3], {3: [INTERRUPTED] * 4}) == ([3, 3, 3], "1 of 1 runs failed")


def test_fail_fast_retries_crashed_runs_first(make):
    launched, line = make([1, 2, 3, 4], {2: [CRASH, CRASH]}, "fail_fast=true")
    assert launched == [1, 2, 2]
    assert line == "1 of 4 runs failed; 2 were not run (fail_fast=true)"


def test_records_that_cannot_be_delivered_stop_no_sweep(make, in_tmp, capsys):
    """Of a run in another store, and of one that was deleted."""
    deleted = make.store.client.create_run(make.store.experiment_id).info.run_id
    make.store.delete([deleted])
    folder = in_tmp / make.store.name
    folder.mkdir()
    for lam, run_id, reason in ((1, "x", "is not in"), (2, deleted, "was deleted from")):
        content = {"format": 1, "experiment": make.store.name, "run_id": run_id}
        file = delivery.unsent_file(folder, run_id)
        file.write_text(json.dumps({**content, "metrics": [], "tags": {}, "files": {}}))
        assert make([lam]) == ([lam], 1)
        assert f"{file.name}: run {run_id} {reason}" in capsys.readouterr().out
        assert file.exists()


def test_records_of_the_sweep_itself_are_delivered_at_its_end(make, small, fingerprint, in_tmp, capsys):
    """The store was away when the run ended, and is back."""
    identity = compose(["mode=Multitask", "lam=1", *small]).identity(fingerprint)

    def unsent():
        writer = make.store.start_run(identity, {}, DATA)
        result = Result(writer.run_id, 0.5, 0.4, 1, 2, 8, 1.0, 64.0)
        for name, value in result.metrics.items():
            writer.metric(name, value, 8)
        folder = in_tmp / make.store.name / "any"
        folder.mkdir(parents=True)
        delivery.keep(folder, make.store, writer, {})
        writer.end("KILLED")
        return result

    assert make([1], {1: [unsent]}) == ([1], 1)
    assert make.store.finished_keys() == {identity.key}
    assert "summary   1 setting" in capsys.readouterr().out
    assert not list(in_tmp.rglob(delivery.FILES))


@contextlib.contextmanager
def ends_while_waiting(end):
    """Return an outcome for a run that another process ends half a second later."""
    timer = threading.Timer(0.5, end)

    def elsewhere():
        timer.start()
        return ELSEWHERE

    yield elsewhere
    timer.join()


def test_a_run_of_another_process_is_waited_for(make, small, fingerprint, monkeypatch, capsys):
    """The other run starts before this sweep and ends while this sweep waits."""
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    config = compose(["mode=Multitask", "lam=2", *small])
    other = make.store.start_run(config.identity(fingerprint), {}, DATA)

    def end():
        other.metric("test_loss", 0.25, 1)
        for name in ("best_val_loss", "best_epoch", "epochs", "steps", "seconds", "examples_per_second"):
            other.metric(name, 1.0, 1)
        other.flush()
        other.end("FINISHED")

    with ends_while_waiting(end) as elsewhere:
        assert make([1, 2], {2: [elsewhere]}) == ([1, 2], 2)
    out = capsys.readouterr().out
    assert "waiting   for 1 in another process" in out
    assert "lam=2" in out.partition("finished in the meantime by another sweep")[0]


def test_a_run_that_another_process_gives_up_is_run_here(make, small, fingerprint, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    config = compose(["mode=Multitask", "lam=2", *small])
    other = make.store.start_run(config.identity(fingerprint), {}, DATA)
    with ends_while_waiting(lambda: other.end("KILLED")) as elsewhere:
        assert make([2], {2: [elsewhere]}) == ([2, 2], 1)


def test_runs_of_version_0_1_0_are_ignored_and_reported(make, capsys):
    run = make.store.client.create_run(make.store.experiment_id, tags={"run_key": "k"})
    make.store.client.set_terminated(run.info.run_id, "FINISHED")
    assert make([1]) == ([1], 1)
    assert "1 run of auxgrad 0.1.0 left out" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["tracking.experiment=a", "force=true", "retries=0", "dry_run=true"])
def test_sweep_options_must_be_the_same_for_all_runs(in_tmp, small, key):
    configs = [compose([*words, *small]) for words in ([], [key])]
    with pytest.raises(ConfigError, match=r"^\w+: must be the same for all runs of a sweep"):
        sweep(Plan((), 2, tuple(configs)), Scripted(None, ""), in_tmp)
