"""The session of a process, which trains configs one after another and records each run."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import re
import sys
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

import auxgrad
from auxgrad.config.code.backend import check_backend
from auxgrad.config.schema import Config, TrackingConfig
from auxgrad.errors import AuxgradError, RunsElsewhere, without_passwords
from auxgrad.execution import delivery, versions
from auxgrad.execution.checkpoint import FILE, FOLDER, Checkpoint, Resumption
from auxgrad.execution.loading import load_data
from auxgrad.execution.result import Result
from auxgrad.problems.base import Problem
from auxgrad.problems.data import Data
from auxgrad.process import interruption
from auxgrad.process.quiet import quiet_stderr
from auxgrad.record import links
from auxgrad.record.claims import AlreadyFinished, refuse_second
from auxgrad.record.opening import open_store
from auxgrad.record.store import Store
from auxgrad.record.stored import METRICS
from auxgrad.record.writing import PATIENCE_SECONDS, Dataset, RunWriter, StoreUnavailable
from auxgrad.training import devices

if TYPE_CHECKING:
    from auxgrad.execution.trainer import Trainer

LOG = logging.getLogger(__name__)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # The C version is ten times as fast.
DIVERGED = "auxgrad.diverged"  # The tag that holds the first step with a NaN or infinite loss or weight.
RESULT_FILE, CONFIG_FILE, TRACEBACK_FILE = "result.json", "config.yaml", "traceback.txt"
MODEL_FILE = "model.keras"


class Session:
    """Trains configs in this process; a run has no influence on the results of the next.

    A session keeps the tracking store, the data and the compiled model of the last run. It reuses
    them if that does not change the result. They are released with the session.
    """

    def __init__(self) -> None:
        self._store: tuple[TrackingConfig, Store] | None = None
        self._data: tuple[Problem, Data] | None = None
        self._trainer: Trainer | None = None

    def run(self, config: Config, folder: Path, log_model: bool = True, once: bool = False) -> Result:
        """Train one network, evaluate it once on the test set, and record the run.

        Early stopping restores the weights of the epoch with the lowest validation loss before the
        test. The run ends FINISHED, FAILED (with its traceback as an artifact) or KILLED (on
        Ctrl-C).

        Args:
            config: The config of the run, from `auxgrad.config.compose`.
            folder: The output folder, for result.json, config.yaml, traceback.txt and TensorBoard
                summaries.
            log_model: Whether to store the best network if `tracking.log_model` is not set.
            once: Whether to return the stored result, without training, if a run with the same
                identity is already finished.

        Returns:
            The result of the run.

        Raises:
            AuxgradError: The data or the tracking store cannot be used. Raised before any training.
            RunsElsewhere: Another process is training the run. Raised before any training, and only
                with `once`.
        """
        try:
            return self._run(config, folder, log_model, once)
        except AuxgradError:
            raise
        except Exception:
            LOG.error("the run failed\n%s", without_passwords(traceback.format_exc()))
            raise

    def _run(self, config: Config, folder: Path, log_model: bool, once: bool) -> Result:
        check_backend()
        print(f"auxgrad {auxgrad.__version__}: {config.identity().setting_name}, seed {config.seed}")
        store = self._open(config.tracking)
        data = self._load(config)
        sizes = ", ".join(f"{size:,} {part}" for part, size in data.sizes.items())
        sizes = sizes.replace("auxiliary auxiliary", "auxiliary")  # A loss may be named "auxiliary".
        name = data.name or config.names.problem
        print(f"data      {name}: {sizes} {data.examples} (SHA-256 {data.fingerprint[:8]})")
        with contextlib.nullcontext() if self._trainer else quiet_stderr():
            from auxgrad.execution.trainer import Trainer

            self._trainer = self._trainer or Trainer()
            self._trainer.prepare(config, data)
        print(f"network   {self._trainer.description}; {devices.describe()}")
        print(links.description(store), flush=True)
        tags = {**versions.tags(), "data_fingerprint": data.fingerprint, FOLDER: str(folder.absolute())}
        if (properties := self._trainer.metric_properties) is not None:
            tags[METRICS] = json.dumps(properties)
        identity, resumption = config.identity(data.fingerprint), Resumption(tags, folder)
        resumes = (lambda run: False) if config.force else resumption.fetch
        with interruption.as_exceptions():
            try:
                writer = store.start_run(identity, tags, _dataset(config, data), once, resumes)
                try:
                    result = self._train(config, writer, folder, resumption)
                    key = identity.key if once else None
                    is_recorded = self._record(config, writer, folder, log_model, result, store, key)
                except (AlreadyFinished, RunsElsewhere):
                    writer.end("KILLED")
                    print(f"repeated  run {writer.run_id}: another process took it for dead")
                    raise
                except BaseException as error:
                    self._trainer = None
                    cause = _interruption(error)
                    is_cut_off = cause is not None or isinstance(error, StoreUnavailable)
                    status = "KILLED" if is_cut_off else "FAILED"
                    _end_unfinished(writer, status, folder, not config.force)
                    if cause is None or cause is error:
                        raise
                    raise cause from error
            except (AlreadyFinished, RunsElsewhere) as ended:
                resumption.discard()
                if isinstance(ended, RunsElsewhere):
                    raise
                return Result.from_metrics(ended.run.run_id, ended.run.metrics)
        if is_recorded:
            store.add_charts(result.test_metrics)
        _print_result(result, store)
        return result

    def _open(self, tracking: TrackingConfig) -> Store:
        if self._store is None or self._store[0] != tracking:
            self._store = tracking, open_store(tracking)
        return self._store[1]

    def _load(self, config: Config) -> Data:
        if self._data is None or self._data[0] != config.problem:
            self._data = config.problem, load_data(config.problem)
        return self._data[1]

    def _train(self, config: Config, writer: RunWriter, folder: Path, resumption: Resumption) -> Result:
        assert self._trainer is not None
        file, resumed = folder / FILE, resumption.take_checkpoint(writer.run_id)
        described = yaml.dump(config.to_dict(), Dumper=DUMPER, sort_keys=False)
        writer.text(described, CONFIG_FILE)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(described, encoding="utf-8")
        has_tag = self._trainer.metric_properties is not None
        tensorboard = folder / "tensorboard" if config.tracking.tensorboard else None
        if resumed is not None:
            print(f"resuming  run {writer.run_id} after epoch {resumed.epoch}", flush=True)
        trained = self._trainer.train(writer, file, resumed, tensorboard)
        result = replace(trained, folder=str(folder))
        if not has_tag:
            writer.tag(METRICS, json.dumps(self._trainer.metric_properties))
        return result

    def _record(
        self,
        config: Config,
        writer: RunWriter,
        folder: Path,
        log_model: bool,
        result: Result,
        store: Store,
        key: str | None,
    ) -> bool:
        """Send the result to the store, or keep it in the folder; return whether it was sent.

        With its key, the run is not finished if another one of the same identity has replaced it.

        Raises:
            AlreadyFinished, RunsElsewhere: Another process took this run for dead and repeated it.
        """
        assert self._trainer is not None
        keeps_model = log_model if config.tracking.log_model is None else config.tracking.log_model
        network = self._trainer.network
        for name, value in result.metrics.items():
            writer.metric(name, value, result.steps)
        if result.diverged:
            writer.tag(DIVERGED, str(result.diverged))
        # Written before the run is marked FINISHED, so that a finished run has all its files.
        (folder / RESULT_FILE).write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
        try:
            writer.flush()
            if keeps_model:
                with writer.artifact(MODEL_FILE) as path:
                    network.save(path)
            if key and writer.status() != "RUNNING":
                refuse_second(run for run in store.runs(key=key) if run.run_id != writer.run_id)
            writer.end("FINISHED")
            is_recorded = True
        except StoreUnavailable as error:
            is_recorded, files = False, {}
            if keeps_model:
                model = delivery.unsent_file(folder, writer.run_id, "keras")
                network.save(model)
                files[MODEL_FILE] = model.name
            kept = delivery.keep(folder, store, writer, files)
            print(f"unsent    {error}")
            print(f"          its record is in {kept}; `python -m auxgrad.sync` delivers it")
        Checkpoint.remove(folder / FILE)
        return is_recorded


def _interruption(error: BaseException) -> BaseException | None:
    """Return the interruption that ended the run, or None if the run failed.

    TensorFlow converts an interruption into its own error if it occurs while Python makes a batch.
    """
    if not isinstance(error, Exception):
        return error
    if (asked := interruption.pending_exception()) is not None:
        return asked  # A library may have converted the interruption into another error.
    if type(error).__module__.startswith("tensorflow."):
        if "KeyboardInterrupt" in str(error):
            return KeyboardInterrupt()
        if found := re.search(r"SystemExit: (\d+)", str(error)):
            return SystemExit(int(found[1]))
    return None


def _end_unfinished(writer: RunWriter, status: str, folder: Path, can_resume: bool) -> None:
    """Record the end of a run that did not finish; errors here must not hide the original error."""
    with contextlib.suppress(Exception):
        # The signal may have arrived after the store had marked the run FINISHED.
        if writer.status(patience=0) == "FINISHED":
            Checkpoint.remove(folder / FILE)
            return
    if status == "FAILED":
        trace = without_passwords(traceback.format_exc())
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / TRACEBACK_FILE).write_text(trace, encoding="utf-8", errors="backslashreplace")
            Checkpoint.remove(folder / FILE)
        with contextlib.suppress(Exception):
            writer.text(trace, TRACEBACK_FILE, patience=0)
    with contextlib.suppress(Exception):
        writer.flush(patience=0)
    # A run that has failed would be RUNNING for as long as this process lives, in the eyes of a sweep.
    patience = PATIENCE_SECONDS if status == "FAILED" else 0
    with contextlib.suppress(Exception):
        writer.end(status, patience)
        print(f"\nthe run is marked {status} in MLflow: run {writer.run_id}", file=sys.stderr)
    if can_resume and (folder / FILE).exists():
        print("the same command resumes it from its checkpoint", file=sys.stderr)


def _print_result(result: Result, store: Store) -> None:
    print(
        f"best      validation loss {result.best_val_loss:.4f} after epoch {result.best_epoch} "
        f"of {result.epochs} ({result.steps} steps, {result.seconds:.1f} s, "
        f"{result.examples_per_second:,.0f} examples/s)"
    )
    further = [f"{name} {value:.4f}" for name, value in result.test_metrics.items()]
    print(f"result    {', '.join([f'test loss {result.test_loss:.4f}', *further])}")
    if result.diverged or not math.isfinite(result.test_loss):
        place = f" at step {result.diverged}" if result.diverged else ""
        what = f"a loss or a weight is NaN or infinite{place}"
        print(f"diverged  {what}; a lower lam or learning rate may help")
    command, page = links.ui_command(store), links.run_url(store, result.run_id)
    if command:
        print(f"see it    {command}")
        print(f"          then open {page}")
    else:
        print(f"see it    {page}", flush=True)


def _dataset(config: Config, data: Data) -> Dataset:
    details = {**data.sizes, **data.details, "sha256": data.fingerprint}
    described = config.to_dict()
    return Dataset(
        name=data.name or config.names.problem,
        fingerprint=data.fingerprint,
        source=json.dumps(described.get("data", described["problem"])),
        profile=json.dumps(details),
    )
