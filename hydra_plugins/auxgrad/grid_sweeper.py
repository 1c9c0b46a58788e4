"""`hydra/sweeper=grid`: every distinct run of a grid, once, whatever happens in between."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

import auxgrad
from auxgrad import grid, tracking
from auxgrad.errors import ConfigError, SweepFailed
from auxgrad.grid import PlannedRun
from auxgrad.launching import EventLauncher, claim_folder, file_name
from auxgrad.outcome import Outcome
from auxgrad.tracking import RUN_KEY, Store
from auxgrad.values import quote

if TYPE_CHECKING:
    from auxgrad.pool import Event
    from auxgrad.progress import Progress

# How often to ask for a run that another process has begun.
POLL_SECONDS = 2


class GridSweeper(Sweeper):
    """Plans the distinct runs, leaves out what is finished in the store, launches and relaunches.

    A run is known by `Config.key`: all that determines its result.
    """

    config: DictConfig
    hydra_context: HydraContext
    launcher: Launcher

    def __init__(
        self,
        dir: str,
        params: Mapping[str, object] | None = None,
        grids: Sequence[Mapping[str, object]] | None = None,
    ) -> None:
        self._dir = Path(dir)
        self._params = dict(params or {})
        self._grids = [dict(each) for each in grids or []]

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Outcome]:
        """Runs what is to be run. Raises SweepFailed, after a table of failures, if a run failed."""
        plan = grid.plan(self._compose, arguments, self._params, self._grids)
        from auxgrad import experiment, summary
        from auxgrad.progress import Progress, print_failures

        config = plan.runs[0].config
        if any(run.config.tracking != config.tracking for run in plan.runs):
            raise ConfigError("tracking: must be the same for all runs of a sweep")
        over = " × ".join(plan.axes) or "a single run"
        print(f"auxgrad {auxgrad.__version__}: sweep over {over}", flush=True)
        # Read here once: the workers find the cache full, and keys need to know the data.
        fingerprints = {
            data: experiment.load_reviews(data).fingerprint
            for data in dict.fromkeys(run.config.data for run in plan.runs)
        }
        keys = [run.config.key(fingerprints[run.config.data]) for run in plan.runs]
        distinct = dict(zip(keys, plan.runs, strict=True))
        store = tracking.open_store(config.tracking)
        orphans = store.kill_orphans()
        finished = set() if config.force else store.finished_keys() & distinct.keys()
        todo = {key: run for key, run in distinct.items() if key not in finished}
        print(
            f"plan      {plan.combinations:,} combination{'s' * (plan.combinations != 1)}, "
            f"{len(distinct):,} distinct: {len(finished):,} finished, {len(todo):,} to run"
        )
        if orphans:
            print(f"          {orphans} run{'s' * (orphans > 1)} of dead processes marked KILLED")
        print(f"tracking  {store.uri}, experiment {config.tracking.experiment}")
        if config.dry_run:
            print("dry run   nothing was started", flush=True)
            return []
        outcomes: dict[str, Outcome] = {}
        if todo:
            print(f"launcher  {self._describe()}", flush=True)
            print(f"folders   {self._dir / config.tracking.experiment}", flush=True)
            with Progress(len(todo), live=isinstance(self.launcher, EventLauncher)) as progress:
                try:
                    outcomes = self._run(todo, store, progress)
                except BaseException:
                    store.kill_orphans()
                    progress.say(f"stopped   {progress.summary()}; the same command goes on from here")
                    raise
                progress.say(f"sweep     {progress.summary()}")
        settings = {
            run.config.key(fingerprints[run.config.data], with_seed=False): run.config
            for run in distinct.values()
        }
        failures = {key: outcome for key, outcome in outcomes.items() if outcome.kind == "failed"}
        if failures:
            print_failures([(name_of(distinct[key]), outcome) for key, outcome in failures.items()])
        summary.write(store, settings, say=lambda line: print(line, flush=True))
        print(f"see it    {store.ui_command() or store.ui_charts_url()}")
        print(f"report    {store.command('report')}", flush=True)
        if failures:
            skipped = len(todo) - len(outcomes)
            rest = f"; {skipped} were not run (fail_fast=true)" if skipped else ""
            raise SweepFailed(f"{len(failures)} of {len(todo)} runs failed{rest}")
        return list(outcomes.values())

    def _compose(self, overrides: list[str]) -> DictConfig:
        return self.hydra_context.config_loader.load_sweep_config(self.config, overrides)

    def _describe(self) -> str:
        if isinstance(self.launcher, EventLauncher):
            return self.launcher.describe()
        return f"{type(self.launcher).__name__} (its progress is shown when all runs are back)"

    def _run(
        self, todo: Mapping[str, PlannedRun], store: Store, progress: Progress
    ) -> dict[str, Outcome]:
        """Final outcomes; rounds of launches until nothing is left, or a failure ends it all."""
        attempts = dict.fromkeys(todo, 0)
        final: dict[str, Outcome] = {}
        left = list(todo)
        while left:
            round_ = self._launch(left, todo, attempts, progress)
            store.kill_orphans()  # Of workers that died in this round.
            for key, outcome in round_.items():
                attempts[key] += outcome.kind == "failed"
                if self._is_final(todo[key], outcome, attempts[key]):
                    final[key] = outcome
            if any(o.kind == "failed" and todo[k].config.fail_fast for k, o in final.items()):
                return final
            left = [key for key in left if key not in final]
            if any(todo[key].config.fail_fast for key in left):
                left.sort(key=lambda key: -attempts[key])  # What has failed once decides first.
            elsewhere = [key for key in left if key in round_ and round_[key].kind == "elsewhere"]
            if elsewhere and len(elsewhere) == len(left):
                progress.say(f"waiting   for {len(left)} of another process")
                done = self._await_others(left, store)
                for key in done:
                    final[key] = Outcome("already", run_id=done[key])
                    progress.end(-1, name_of(todo[key]), final[key], True)
                left = [key for key in left if key not in final]
        return final

    @staticmethod
    def _await_others(keys: Sequence[str], store: Store) -> dict[str, str]:
        """Waits until no other process is at work on any of these runs; the ids of those finished."""
        done: dict[str, str] = {}
        waiting = list(keys)
        while waiting:
            for key in list(waiting):
                runs = store.runs(f"tags.{RUN_KEY} = '{key}'")
                if not any(run.status == "RUNNING" and not store.kill_orphan(run) for run in runs):
                    waiting.remove(key)
                    ids = [run.run_id for run in runs if run.status == "FINISHED"]
                    done |= {key: ids[0]} if ids else {}
            if waiting:
                time.sleep(POLL_SECONDS)
        return done

    @staticmethod
    def _is_final(run: PlannedRun, outcome: Outcome, attempts: int) -> bool:
        if outcome.kind == "failed":
            return not outcome.retry or attempts > run.config.retries
        return outcome.kind != "elsewhere"

    def _launch(
        self,
        keys: Sequence[str],
        runs: Mapping[str, PlannedRun],
        attempts: Mapping[str, int],
        progress: Progress,
    ) -> dict[str, Outcome]:
        """One round: each run once, as far as it gets."""

        def tell(number: int, outcome: Outcome | None) -> bool:
            key = keys[number]
            if outcome is None:
                progress.start(number)
                return False
            run = runs[key]
            is_final = self._is_final(run, outcome, attempts[key] + (outcome.kind == "failed"))
            progress.end(number, name_of(run), outcome, is_final)
            return outcome.kind == "failed" and run.config.fail_fast

        jobs = {number: self._overrides(runs[key]) for number, key in enumerate(keys)}
        if isinstance(self.launcher, EventLauncher):

            def watch(event: Event) -> bool:
                return tell(event.job, event.outcome)

            self.launcher.watch = watch
            outcomes = self.launcher.launch_runs(jobs)
        else:
            # Others start from a folder's name as it stands.
            claimed = []
            for number, job in jobs.items():
                folder = claim_folder(self._dir / folder_of(runs[keys[number]]))
                claimed.append([*job, f"hydra.sweep.subdir={quote(str(folder.relative_to(self._dir)))}"])
            returns = self.launcher.launch(claimed, initial_job_idx=0)
            outcomes = {number: Outcome.of(job) for number, job in enumerate(returns)}
            for number, outcome in outcomes.items():
                tell(number, outcome)
        return {keys[number]: outcome for number, outcome in outcomes.items()}

    def _overrides(self, run: PlannedRun) -> list[str]:
        return [
            *run.overrides,
            f"hydra.sweep.dir={quote(str(self._dir))}",
            f"hydra.sweep.subdir={quote(str(folder_of(run)))}",
        ]


def name_of(run: PlannedRun) -> str:
    """A run for a person: its setting and seed."""
    return f"{run.config.setting} seed={run.config.seed}"


def folder_of(run: PlannedRun) -> Path:
    """Where a run's output goes, below the folder of all sweeps."""
    experiment, setting = file_name(run.config.tracking.experiment), file_name(run.config.setting)
    return Path(experiment, setting, f"seed={run.config.seed}")
