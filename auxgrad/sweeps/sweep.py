"""Run a sweep: train each distinct config of a plan once, with retries and resumption."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import auxgrad
from auxgrad.config.identity import Identity
from auxgrad.config.schema import Config
from auxgrad.errors import ConfigError, SweepFailed, TrackingError
from auxgrad.execution import delivery, versions
from auxgrad.execution.checkpoint import has_checkpoint
from auxgrad.execution.loading import load_data
from auxgrad.execution.result import Failure, Outcome, Result
from auxgrad.process import interruption
from auxgrad.record import links
from auxgrad.record.folders import file_name
from auxgrad.record.opening import open_store
from auxgrad.record.store import Store
from auxgrad.record.stored import RUN_KEY
from auxgrad.sweeps.executor import Event, Executor
from auxgrad.sweeps.plan import Plan
from auxgrad.sweeps.progress import Progress, print_failures
from auxgrad.sweeps.worker import Job

# How often to check whether a run that another process is training has ended.
POLL_SECONDS = 2
# A run that is always interrupted before its first checkpoint would otherwise be repeated forever.
MOST_INTERRUPTIONS = 50


def sweep(plan: Plan, executor: Executor, folder: Path) -> list[Result]:
    """Run the configs of a plan that are not finished in the store.

    Args:
        plan: The configs; all must have the same tracking options.
        executor: The executor of the jobs.
        folder: The folder for the output of all sweeps. The output of a run is in
            FOLDER/<experiment>/<setting>/seed=<seed>.

    Returns:
        The results of the runs of this sweep, without those that were finished before.

    Raises:
        SweepFailed: A run failed after all retries. Raised at the end, after a table of failures.
        AuxgradError: The plan, the data or the store cannot be used. Raised before any run.
    """
    first = plan.configs[0]
    for key in ("tracking", "force", "retries", "fail_fast", "dry_run"):
        if any(getattr(config, key) != getattr(first, key) for config in plan.configs):
            raise ConfigError(f"{key}: must be the same for all runs of a sweep")
    if not first.dry_run:
        executor.check_store(first.tracking)
    over = " × ".join(plan.axes) or "a single run"
    print(f"auxgrad {auxgrad.__version__}: sweep over {over}", flush=True)
    identities = _identities(plan.configs)
    distinct = {identity.key: config for config, identity in identities.items()}
    store = open_store(first.tracking)
    if not first.dry_run:
        _deliver(folder, store)
    dead = store.mark_dead_runs()
    finished = set() if first.force else store.finished_keys() & distinct.keys()
    todo = {key: config for key, config in distinct.items() if key not in finished}
    resumed = 0 if first.force or not todo else _count_resumed(store, todo.keys(), executor.device)
    print(
        f"plan      {plan.n_combinations:,} combination{'s' * (plan.n_combinations != 1)}, "
        f"{len(distinct):,} distinct: {len(finished):,} finished, {len(todo):,} to run"
        + (f", {resumed:,} of them to resume" if resumed else "")
    )
    if dead:
        print(f"          {dead} run{'s' * (dead > 1)} of dead processes marked KILLED")
    if outdated := store.count_outdated():
        print(f"          {outdated} run{'s' * (outdated > 1)} of auxgrad 0.1.0 left out")
    print(links.description(store))
    if first.dry_run:
        print("dry run   nothing was started", flush=True)
        return []
    with interruption.as_exceptions():
        outcomes = _run(todo, identities, store, executor, folder) if todo else {}
        _deliver(folder, store)  # What the store was away for during this sweep.
        failures = {key: each for key, each in outcomes.items() if isinstance(each, Failure)}
        if failures:
            print_failures([(identities[distinct[key]].name, each) for key, each in failures.items()])
        _summarise(identities, store)
    print(f"see it    {links.ui_command(store) or links.charts_url(store)}")
    print(f"report    {links.command(store, 'report')}", flush=True)
    if failures:
        skipped = len(todo) - len(outcomes)
        rest = f"; {skipped} were not run (fail_fast=true)" if skipped else ""
        raise SweepFailed(f"{len(failures)} of {len(todo)} runs failed{rest}")
    return [outcome for outcome in outcomes.values() if isinstance(outcome, Result)]


def _identities(configs: Sequence[Config]) -> dict[Config, Identity]:
    """Return the identity of each config, which includes the fingerprint of its data.

    The data is loaded here once, which also fills its cache for the workers.
    """
    problems = dict.fromkeys(config.problem for config in configs)
    fingerprints = {problem: load_data(problem).fingerprint for problem in problems}
    return {config: config.identity(fingerprints[config.problem]) for config in configs}


def _count_resumed(store: Store, keys: Collection[str], device: str | None) -> int:
    """Return how many of the runs with these keys will be resumed from a checkpoint."""
    tags = versions.packages() | ({"device": device} if device else {})
    killed = [run for run in store.runs("KILLED") if run.tags.get(RUN_KEY) in keys]
    return len({run.tags[RUN_KEY] for run in killed if has_checkpoint(run, tags)})


def _deliver(folder: Path, store: Store) -> None:
    """Deliver the records of runs of this experiment that the store was away for."""
    for file in delivery.find([folder / file_name(store.name)]):
        try:
            print(f"sync      {delivery.deliver(file, store)}", flush=True)
        except TrackingError as error:  # Its run may be in another store.
            print(f"note      {error}; the record stays there", flush=True)


def _summarise(identities: Mapping[Config, Identity], store: Store) -> None:
    """Write a summary run for each setting of the sweep."""
    from auxgrad.reports import summaries

    settings = {identity.setting_key: identity for identity in identities.values()}
    summaries.write(store, settings, say=lambda line: print(line, flush=True))


def _run(
    todo: Mapping[str, Config],
    identities: Mapping[Config, Identity],
    store: Store,
    executor: Executor,
    folder: Path,
) -> dict[str, Outcome]:
    """Run the configs and return their final outcomes by key; on an exception, say what is left."""
    first = next(iter(todo.values()))
    print(f"launcher  {executor.describe()}", flush=True)
    print(f"folders   {folder / first.tracking.experiment}", flush=True)
    names = {key: identities[config].name for key, config in todo.items()}
    jobs = {
        key: Job.of(config, _folder(folder, config, identities[config]), once=not config.force)
        for key, config in todo.items()
    }
    with Progress(len(todo), live=executor.is_live) as progress:
        try:
            rounds = _Rounds(jobs, names, store, executor, progress, first.retries, first.fail_fast)
            outcomes = rounds.run()
        except BaseException:
            with contextlib.suppress(Exception):  # The store may be the cause.
                store.mark_dead_runs()
                if not first.force:
                    # A worker may have finished its run while it was being stopped.
                    progress.count_done(len(store.finished_keys() & todo.keys()))
            progress.finish("stopped", "; the same command continues from here")
            raise
        progress.finish("sweep")
    return outcomes


def _folder(parent: Path, config: Config, identity: Identity) -> Path:
    experiment, setting = file_name(config.tracking.experiment), file_name(identity.setting_name)
    return parent / experiment / setting / f"seed={config.seed}"


@dataclass
class _Rounds:
    """Launches the jobs in rounds until all have a final outcome, or `fail_fast` stops the sweep.

    Attributes:
        jobs: The jobs by the key of their run.
        names: The names of the runs by key.
        store: The store of the sweep.
        executor: The executor of the jobs.
        progress: The progress display.
        retries: How often a failed run is tried again.
        fail_fast: Whether to stop when a run has failed after all retries.
        attempts: The number of failed attempts by key.
        interruptions: The number of interruptions by key.
        final: The final outcomes by key.
    """

    jobs: Mapping[str, Job]
    names: Mapping[str, str]
    store: Store
    executor: Executor
    progress: Progress
    retries: int
    fail_fast: bool
    attempts: dict[str, int] = field(default_factory=dict)
    interruptions: dict[str, int] = field(default_factory=dict)
    final: dict[str, Outcome] = field(default_factory=dict)

    def run(self) -> dict[str, Outcome]:
        """Run all rounds and return the final outcomes by key; `fail_fast` may skip some."""
        left = list(self.jobs)
        self.attempts, self.interruptions = dict.fromkeys(left, 0), dict.fromkeys(left, 0)
        while left:
            outcomes = self._launch(left)
            self.store.mark_dead_runs()  # The runs of workers that died in this round.
            for key, outcome in outcomes.items():
                self.attempts[key] += _has_failed(outcome)
                self.interruptions[key] += _was_interrupted(outcome)
                if self._is_final(key, outcome):
                    self.final[key] = outcome
            if self.fail_fast and any(map(_has_failed, self.final.values())):
                break
            left = [key for key in left if key not in self.final]
            if self.fail_fast:
                # Failed runs are retried first, because another failure stops the sweep.
                left.sort(key=lambda key: -self.attempts[key])
            if left and all(_is_elsewhere(outcomes.get(key)) for key in left):
                self.progress.say(f"waiting   for {len(left)} in another process")
                self._await_others(left)
                left = [key for key in left if key not in self.final]
        return self.final

    def _launch(self, keys: Sequence[str]) -> dict[str, Outcome]:
        """Launch each run once and return the outcomes by key; `fail_fast` may skip some."""

        def watch(event: Event) -> bool:
            key, outcome = keys[event.number], event.outcome
            if outcome is None:
                self.progress.start(event.number)
                return False
            is_final = self._is_final(key, outcome, self.attempts[key] + _has_failed(outcome))
            self.progress.end(event.number, self.names[key], outcome, is_final)
            return _has_failed(outcome) and self.fail_fast

        jobs = {number: self.jobs[key] for number, key in enumerate(keys)}
        return {keys[number]: each for number, each in self.executor.run(jobs, watch).items()}

    def _is_final(self, key: str, outcome: Outcome, attempts: int | None = None) -> bool:
        """Return whether the outcome is final, so that the run is not launched again."""
        if isinstance(outcome, Result):
            return True
        if outcome.was_interrupted:
            return self.interruptions[key] > MOST_INTERRUPTIONS
        made = self.attempts[key] if attempts is None else attempts
        return outcome.is_failed_attempt and (not outcome.retry or made > self.retries)

    def _await_others(self, keys: Sequence[str]) -> None:
        """Wait until other processes have ended these runs, and collect their results."""
        waiting = set(keys)
        while waiting:
            running = self.store.mark_dead(self.store.runs("RUNNING"))
            ended = waiting - {run.tags.get(RUN_KEY) for run in running if run.status == "RUNNING"}
            for key in ended:
                found = [run for run in self.store.runs("FINISHED", key) if "test_loss" in run.metrics]
                for run in found[:1]:
                    self.final[key] = Result.from_metrics(run.run_id, run.metrics)
                    self.progress.end(-1, self.names[key], self.final[key], True)
            waiting -= ended
            if waiting:
                time.sleep(POLL_SECONDS)
                interruption.check()


def _has_failed(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.is_failed_attempt


def _was_interrupted(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.was_interrupted


def _is_elsewhere(outcome: Outcome | None) -> bool:
    return isinstance(outcome, Failure) and outcome.is_elsewhere
