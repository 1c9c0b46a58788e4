"""Train a run: build the network and the batches of its seed, and reuse compiled models."""

from __future__ import annotations

import contextlib
import gc
import math
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from auxgrad.censoring.mode import Mode
from auxgrad.config.code.loading import load
from auxgrad.config.identity import target_of
from auxgrad.config.schema import Config
from auxgrad.errors import ConfigError
from auxgrad.execution.checkpoint import Checkpoint
from auxgrad.execution.checkpointing import Checkpoints
from auxgrad.execution.curves import RecordCurves
from auxgrad.execution.names import check_names
from auxgrad.execution.result import Result
from auxgrad.problems.base import Training, options_of
from auxgrad.problems.data import Data, is_stream
from auxgrad.record.writing import RunWriter
from auxgrad.training import devices
from auxgrad.training.batches import TrainingBatches, in_order, streamed_in_order
from auxgrad.training.metrics import maximized
from auxgrad.training.model import AuxiliaryModel
from auxgrad.training.reuse import Compiled, signature

MOST_STEPS_AT_ONCE = 10
EVALUATION_BATCH = 4096
STREAMED_BATCH = 256  # Smaller, because the examples of a stream may be large.


class Trainer:
    """Trains one config after another; equal configs give equal results in any order."""

    model: AuxiliaryModel
    training: Training

    def __init__(self) -> None:
        self._data: Data | None = None
        self._batches: TrainingBatches | None = None
        self._compiled: Compiled | None = None
        self._directions: tuple[AuxiliaryModel, dict[str, bool]] | None = None
        self._has_unfrozen = False

    @property
    def network(self) -> keras.Model:
        """The network of the current run."""
        return self.model.network

    @property
    def description(self) -> str:
        """A short description of the network and its training."""
        training = self.training
        if training.description:
            return training.description
        return (
            f"{training.network.name}, {training.network.count_params():,} parameters, "
            f"{training.optimizer.name}, batches of {training.batch_size}"
        )

    @property
    def metric_properties(self) -> dict[str, dict[str, Any]] | None:
        """The label of the loss and the direction of each metric; None before training."""
        if self._directions is None or self._directions[0] is not self.model:
            return None
        properties: dict[str, dict[str, Any]] = {}
        if self.training.loss_label:
            properties["loss"] = {"label": self.training.loss_label}
        for name, better in self._directions[1].items():
            properties.setdefault(name, {})["maximize"] = better
        return properties

    def prepare(self, config: Config, data: Data) -> None:
        """Make the network, the batches and the compiled model of a run.

        Args:
            config: The config of the run.
            data: The data of its problem.

        Raises:
            ConfigError: `Problem.build` returned something other than `Training`, a loss or a metric
                does not fit the outputs of the network, or the rule of the mode cannot be used.
            DataError: The targets do not fit the outputs of the network.
        """
        devices.configure(config.problem.tf32)
        problem = config.problem
        if problem.uses_global_state:
            _restart_keras(config.seed)
        training = problem.build(data, config.seed)
        if not isinstance(training, Training):
            kind = f"{type(problem).__name__}.build"
            raise ConfigError(
                f"{kind}: returned {type(training).__name__}; must return auxgrad.Training"
            )
        check_names(problem, training, data)
        self.training = training
        devices.add_in_order(len(keras.tree.flatten(training.loss)) > 2)
        self._set_data(data)
        self.steps_per_epoch = math.ceil(self.train_size / training.batch_size)
        # The first number generated from the seed. Problems may use the following ones.
        self._derived_seed = int(np.random.SeedSequence(config.seed).generate_state(1)[0])
        wanted = training.batch_size, training.reshuffle
        if self._batches is None or not self._batches.fits(*wanted):
            self._batches = TrainingBatches(data, *wanted)
        self.model = self._model(config, self._derived_seed)
        self._stops = config.on_nan == "stop"

    def _set_data(self, data: Data) -> None:
        """Set the data, and make new batches for evaluation if the data has changed."""
        if self._data is not data:
            self._data = self._batches = None
            self.train_size = data.sizes["train"]
            self.validation, self.test = (self._in_order(data, part) for part in ("validation", "test"))
            self._data = data

    def _in_order(self, data: Data, part: str) -> tf.data.Dataset:
        content = getattr(data, part)
        if is_stream(content):
            return streamed_in_order(content, data.sizes[part], STREAMED_BATCH)
        x, y = content
        return in_order(x, y, EVALUATION_BATCH)

    def _model(self, config: Config, seed: int) -> AuxiliaryModel:
        """Return the compiled model of an earlier run, reset, or else a new one."""
        new = self.training
        # Several steps in one TensorFlow call avoid the return to Python after each step.
        at_once = max(n for n in range(1, MOST_STEPS_AT_ONCE + 1) if self.steps_per_epoch % n == 0)
        parts = new.network, new.auxiliary, new.optimizer, new.loss, new.metrics
        # A network may depend on more than its config, such as the data that `build` has seen.
        source = (
            target_of(config.problem),
            options_of(config.problem),
            self._data and self._data.fingerprint,
        )
        structure = signature(*parts, new.start, at_once, *source)
        if self._compiled is None or not self._compiled.fits(structure):
            self._release_model()
            self._compiled = Compiled(*parts, new.start, structure, at_once)
        mode = _mode(config)
        knobs = config.lam, config.alpha, config.overall, seed
        return self._compiled.model(new.network, mode, *knobs)

    def _release_model(self) -> None:
        """Free the old network and its reference cycles, since memory may not hold two."""
        if self._compiled is None:
            return
        self._compiled = self._directions = None
        is_frozen = gc.get_freeze_count() > 0 and not self._has_unfrozen
        if is_frozen:  # `Worker.collect_garbage` has frozen the first network with everything else.
            gc.unfreeze()
        gc.collect()
        if is_frozen:
            gc.freeze()
            self._has_unfrozen = True

    def batches(self, step: int = 0) -> tf.data.Dataset:
        """Return the batches of the prepared run, from an optimisation step on."""
        assert self._batches is not None
        return self._batches.restart(self._derived_seed, step)

    def train(
        self,
        writer: RunWriter,
        checkpoint: Path,
        resumed: Checkpoint | None = None,
        tensorboard: Path | None = None,
    ) -> Result:
        """Train the prepared model with early stopping, and test the best epoch once.

        Args:
            writer: The writer of the run.
            checkpoint: The path of the checkpoint that is written between epochs.
            resumed: The checkpoint to resume from, or None to start from the beginning.
            tensorboard: A folder for TensorBoard summaries, or None for no summaries.

        Returns:
            The result of the run, without its output folder.
        """
        first, steps = (resumed.epoch, resumed.steps) if resumed else (0, 0)
        curves = RecordCurves(writer, self._stops)
        stopping = keras.callbacks.EarlyStopping(
            "val_loss", patience=self.training.patience, restore_best_weights=True
        )
        callbacks = [curves, stopping]
        if tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(str(tensorboard)))
        with contextlib.ExitStack() as exit_stack:
            checkpoints = Checkpoints(
                checkpoint, stopping, curves, self.steps_per_epoch, exit_stack, resumed
            )
            self.model.fit(
                self.batches(steps),
                steps_per_epoch=self.steps_per_epoch,
                validation_data=self.validation,
                initial_epoch=first,
                epochs=first if resumed and resumed.is_last else self.training.epochs,
                callbacks=[*callbacks, checkpoints],
                shuffle=False,  # The data set shuffles itself.
                verbose=1 if sys.stdout.isatty() else 2,
            )
        seconds, history = checkpoints.seconds, checkpoints.history
        val_losses = history["val_loss"]
        best = min(range(len(val_losses)), key=lambda i: (math.isnan(val_losses[i]), val_losses[i]))
        tested = self.model.evaluate(self.test, verbose=0, return_dict=True)
        if not self.model.has_finite_weights():
            tested = dict.fromkeys(tested, math.nan)
        if self.metric_properties is None:
            self._directions = self.model, maximized(self.model)
        return Result(
            run_id=writer.run_id,
            test_loss=tested.pop("loss"),
            best_val_loss=val_losses[best],
            best_epoch=best + 1,
            epochs=len(val_losses),
            steps=curves.steps,
            seconds=seconds,
            examples_per_second=self.train_size * len(val_losses) / seconds,
            diverged=curves.diverged,
            test_metrics=tested,
            best_val_metrics={name: history[f"val_{name}"][best] for name in tested},
        )


def _mode(config: Config) -> Mode:
    key, target = config.mode_function
    function = {key.removeprefix("mode_"): load(key, target)}
    try:
        return Mode(config.mode, uses=config.mode_uses, overall=config.mode_overall, **function)
    except ValueError as error:
        raise ConfigError(f"{key}={target}: {error}") from None


def _restart_keras(seed: int) -> None:
    """Reset the global state of Keras and TensorFlow to that of a new process, and seed it.

    Layers then get the same names in every run, and layers without a seed get the same seeds.
    TensorFlow has to compile everything again, which takes longer than a short run.
    """
    policy = keras.config.dtype_policy()
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(seed)
