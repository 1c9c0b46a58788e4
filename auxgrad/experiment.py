"""One run: data, model, training, evaluation, record."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import importlib.metadata
import json
import logging
import math
import platform
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

import auxgrad
from auxgrad import data, devices, tracking
from auxgrad.config import Config, DataConfig
from auxgrad.data import Reviews
from auxgrad.outcome import RESULT_FILE
from auxgrad.tracking import Dataset, RunRecord, Store
from auxgrad.values import format_value

if TYPE_CHECKING:
    from auxgrad.model import AuxiliaryModel
    from auxgrad.problems import Problem


LOG = logging.getLogger(__name__)
MOST_STEPS_AT_ONCE = 8


@dataclass(frozen=True)
class Result:
    """What a run came to. Losses are means over reviews; seconds are those of training alone."""

    run_id: str
    test_loss: float
    best_val_loss: float
    best_epoch: int
    epochs: int
    steps: int
    seconds: float
    examples_per_second: float


def run(config: Config, output_dir: Path, log_model: bool = True, once: bool = False) -> Result:
    """Trains one network, evaluates it once on the test set and records all of it in MLflow.

    Early stopping restores the weights of the epoch with the lowest validation loss before the test.
    The run ends FINISHED, FAILED (with its traceback as an artifact) or KILLED (on Ctrl-C). What it came
    to is also in `output_dir`: result.json or traceback.txt.

    Args:
        config: from `auxgrad.config.compose`.
        output_dir: folder for result.json and what does not go to MLflow (TensorBoard summaries).
        log_model: whether the best network is stored, where `tracking.log_model` leaves it open.
        once: refuse if a run with the same `Config.key` is finished or running in the store.

    Raises:
        AuxgradError: before any training, if the data or the tracking store cannot be used.
        AlreadyFinished, RunsElsewhere: before any training, with `once`.
    """
    print(f"auxgrad {auxgrad.__version__}: {config.setting}, seed {config.seed}")
    store = tracking.open_store(config.tracking)
    reviews = load_reviews(config.data)
    print(
        f"data      {reviews.name}: {len(reviews.train):,} train, "
        f"{len(reviews.validation):,} validation, {len(reviews.test):,} test reviews "
        f"(SHA-256 {reviews.fingerprint[:8]})"
    )
    with devices.quiet_stderr():
        from auxgrad import problems

        devices.configure(config.problem.tf32)
        problem = problems.build(config.problem, reviews, config.seed)
        model = compiled_model(config, problem)
    print(f"network   {problem.description}; {devices.describe()}")
    print(f"tracking  {store.uri}, experiment {config.tracking.experiment}", flush=True)

    record = store.start_run(
        name=f"{config.setting} seed={config.seed}",
        key=config.key(reviews.fingerprint),
        params={
            **{
                key: format_value(getattr(config, key))
                for key in ("mode", "lam", "alpha", "overall", "seed")
            },
            "data": config.data.name,
            "problem": config.problem.name,
            "config": config.setting,
        },
        tags={
            **_versions(),
            "data_fingerprint": reviews.fingerprint,
            tracking.SETTING_KEY: config.key(reviews.fingerprint, with_seed=False),
        },
        dataset=_dataset(config, reviews),
        once=once,
    )
    try:
        record.text(OmegaConf.to_yaml(config.model_dump(mode="json")), "config.yaml")
        result = _train(config, problem, model, record, output_dir)
        keep = log_model if config.tracking.log_model is None else config.tracking.log_model
        if keep:
            with record.artifact("model.keras") as path:
                model.network.save(path)
        record.flush()
    except BaseException as error:
        _forget_model()
        _end_unfinished(record, "FAILED" if isinstance(error, Exception) else "KILLED", output_dir)
        raise
    record.end("FINISHED")
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / RESULT_FILE).write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n")
    _report(result, store)
    return result


def _end_unfinished(record: RunRecord, status: str, output_dir: Path) -> None:
    """Saves what can be saved; whatever fails here, perhaps the store, must not hide the first error."""
    if status == "FAILED":
        LOG.exception("the run failed")
        with contextlib.suppress(OSError):
            output_dir.mkdir(parents=True, exist_ok=True)
            (output_dir / "traceback.txt").write_text(traceback.format_exc())
        with contextlib.suppress(Exception):
            record.text(traceback.format_exc(), "traceback.txt")
    with contextlib.suppress(Exception):
        record.flush()
    with contextlib.suppress(Exception):
        record.end(status)
        print(f"\nthe run is marked {status} in MLflow: run {record.run_id}", file=sys.stderr)


@functools.lru_cache(maxsize=1)
def load_reviews(config: DataConfig) -> Reviews:
    """The encoded reviews; the runs of a sweep in one process read them once."""
    return data.load(config, say=lambda line: print(line, flush=True))


@dataclass(frozen=True)
class _Compiled:
    """A model that a process has trained, to be trained again by the next run of a sweep."""

    structure: tuple[object, ...]
    model: AuxiliaryModel
    gradients_before: frozenset[str]


_compiled: _Compiled | None = None


def compiled_model(config: Config, problem: Problem) -> AuxiliaryModel:
    """The model of this run: compiled anew only where more differs than weights, lam and alpha."""
    global _compiled
    from tensorflow.python.framework import ops

    from auxgrad.model import AuxiliaryModel

    # Several steps in one call of TensorFlow: without the way back to Python in between.
    at_once = max(n for n in range(1, MOST_STEPS_AT_ONCE + 1) if problem.steps_per_epoch % n == 0)
    parts = (
        config.mode,
        config.overall,
        config.alpha < 1,
        config.problem,
        config.data.num_words,
        at_once,
    )
    if _compiled is None or _compiled.structure != parts:
        _forget_model()
        gradients = frozenset(ops.gradient_registry._registry)
        model = AuxiliaryModel(
            problem.network, problem.auxiliary, config.mode, config.lam, config.alpha, config.overall
        )
        model.compile(problem.optimizer, problem.loss, steps_per_execution=at_once)
        _compiled = _Compiled(parts, model, gradients)
    else:
        model = _compiled.model
        model.lam, model.alpha = config.lam, config.alpha
        model.restart(problem.network, problem.optimizer)
    return model


def _forget_model() -> None:
    """Frees the model: TensorFlow would keep its custom gradients, and by them its weights, for good."""
    global _compiled
    if _compiled is None:
        return
    from tensorflow.python.framework import ops

    registry = ops.gradient_registry._registry
    for name in [name for name in registry if name not in _compiled.gradients_before]:
        if name.startswith("CustomGradient-"):
            del registry[name]
    _compiled = None
    gc.collect()


def _train(
    config: Config, problem: Problem, model: AuxiliaryModel, record: RunRecord, output_dir: Path
) -> Result:
    import keras

    from auxgrad.callbacks import RecordCurves

    curves = RecordCurves(record)
    callbacks = [
        curves,
        keras.callbacks.EarlyStopping(
            "val_loss", patience=config.problem.patience, restore_best_weights=True
        ),
    ]
    if config.tracking.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(str(output_dir / "tensorboard")))
    started = time.perf_counter()
    history = model.fit(
        problem.train,
        steps_per_epoch=problem.steps_per_epoch,
        validation_data=problem.validation,
        epochs=config.problem.epochs,
        callbacks=callbacks,
        shuffle=False,  # The data set shuffles itself.
        verbose=1 if sys.stdout.isatty() else 2,
    )
    seconds = time.perf_counter() - started
    val_losses = history.history["val_loss"]
    best = min(range(len(val_losses)), key=lambda i: (math.isnan(val_losses[i]), val_losses[i]))
    result = Result(
        run_id=record.run_id,
        test_loss=model.evaluate(problem.test, verbose=0),
        best_val_loss=val_losses[best],
        best_epoch=best + 1,
        epochs=len(val_losses),
        steps=curves.steps,
        seconds=seconds,
        examples_per_second=problem.train_size * len(val_losses) / seconds,
    )
    for name, value in dataclasses.asdict(result).items():
        if name != "run_id":
            record.metric(name, value, result.steps)
    return result


def _report(result: Result, store: Store) -> None:
    print(
        f"best      validation loss {result.best_val_loss:.4f} after epoch {result.best_epoch} "
        f"of {result.epochs} ({result.steps} steps, {result.seconds:.1f} s, "
        f"{result.examples_per_second:,.0f} examples/s)"
    )
    print(f"result    test loss {result.test_loss:.4f}")
    if not math.isfinite(result.test_loss):
        print("          the training diverged; a lower lam or learning rate may help")
    command = store.ui_command()
    if command:
        print(f"see it    {command}")
        print(f"          then open {store.ui_url(result.run_id)}")
    else:
        print(f"see it    {store.ui_url(result.run_id)}", flush=True)


def _dataset(config: Config, reviews: Reviews) -> Dataset:
    sizes = {part: len(getattr(reviews, part)) for part in ("train", "validation", "test")}
    return Dataset(
        name=reviews.name,
        fingerprint=reviews.fingerprint,
        source=json.dumps(config.data.model_dump(mode="json", exclude={"cache_dir"})),
        profile=json.dumps({**sizes, "num_words": reviews.num_words, "sha256": reviews.fingerprint}),
    )


@functools.cache
def _versions() -> dict[str, str]:
    packages = ("tensorflow", "keras", "numpy", "mlflow")
    tags = {f"version.{name}": importlib.metadata.version(name) for name in packages}
    return {
        "version.auxgrad": auxgrad.__version__,
        "version.python": platform.python_version(),
        **tags,
        "device": devices.describe(),
        **_git_state(),
    }


def _git_state() -> dict[str, str]:
    """Whether the checkout that runs differs from its commit, which MLflow records itself."""
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    try:
        status = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}  # Installed from a wheel, or no git.
    return {"git_changed": str(status.stdout != "").lower()}
