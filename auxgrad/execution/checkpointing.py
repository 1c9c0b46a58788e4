"""The Keras callback that writes checkpoints and restores them."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from auxgrad.execution.checkpoint import Checkpoint, CheckpointError
from auxgrad.execution.curves import RecordCurves
from auxgrad.process import interruption

EVERY_SECONDS = 15.0
MOST_SHARE = 0.02  # The largest part of the training time that is spent on writing checkpoints.
# A run that is asked to end during an epoch finishes the epoch if this takes at most so long.
FINISH_SECONDS = 10.0
STOPPING = ("wait", "best", "best_epoch", "stopped_epoch")


class Checkpoints(keras.callbacks.Callback):
    """Writes checkpoints between epochs, and restores one at the start of training.

    The callback must be the last one in the list, so that it saves the final state of the others.

    At most one checkpoint is written every 15 seconds, and writing takes less than 2 % of the
    training time. A run that is asked to end finishes the current epoch, writes a checkpoint and is
    interrupted. If the epoch would take more than ten seconds longer, the run is interrupted at
    once, and the previous checkpoint counts.

    Args:
        file: The path of the checkpoint.
        stopping: The early stopping callback, whose state is saved.
        curves: The recording callback, whose state is saved.
        steps_per_epoch: The number of optimisation steps in an epoch.
        exit_stack: A stack that the caller closes when training has ended. After the first step,
            which includes compilation, signals are postponed in it until the end of an epoch.
        resumed: The checkpoint to restore, or None to start from the beginning.
    """

    def __init__(
        self,
        file: Path,
        stopping: keras.callbacks.EarlyStopping,
        curves: RecordCurves,
        steps_per_epoch: int,
        exit_stack: contextlib.ExitStack,
        resumed: Checkpoint | None = None,
    ) -> None:
        super().__init__()
        self._file, self._stopping, self._curves = file, stopping, curves
        self._steps_per_epoch, self._exit_stack, self._resumed = steps_per_epoch, exit_stack, resumed
        self._postpones_signals = False
        self.history: dict[str, list[float]] = {}
        self._seconds_before = 0.0
        self._min_seconds_between = EVERY_SECONDS
        self._has_reported_failure = False

    @property
    def seconds(self) -> float:
        """The training time so far, added up over all processes that worked on the run."""
        return self._seconds_before + time.perf_counter() - self._started

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Start the clock, and restore the checkpoint if there is one."""
        self._started = self._last_saved = time.perf_counter()
        if self._resumed is not None:
            self._restore(self._resumed)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note the time."""
        self._epoch_started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Interrupt training if this was requested and the epoch would take too long to finish."""
        if not self._postpones_signals:
            self._postpones_signals = True
            self._exit_stack.enter_context(interruption.postponed())
        if interruption.is_requested():
            done = (batch + 1) / self._steps_per_epoch
            passed = time.perf_counter() - self._epoch_started
            if passed * (1 / done - 1) > FINISH_SECONDS:
                interruption.check()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Write a checkpoint if one is due, and interrupt training if this was requested."""
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(float(value))
        is_due = time.perf_counter() - self._last_saved > self._min_seconds_between
        if is_due or interruption.is_requested():
            started = time.perf_counter()
            self._save(epoch + 1)
            self._last_saved = time.perf_counter()
            self._min_seconds_between = max(EVERY_SECONDS, (self._last_saved - started) / MOST_SHARE)
            interruption.check()

    def _save(self, epoch: int) -> None:
        try:
            self._checkpoint(epoch).save(self._file)
        except OSError as error:
            if not self._has_reported_failure:
                message = f"note      {self._file}: no checkpoint can be written ({error.strerror}); "
                print(f"{message}the run continues", file=sys.stderr, flush=True)
            self._has_reported_failure = True

    def _checkpoint(self, epoch: int) -> Checkpoint:
        state = np.random.get_state(legacy=False)
        key = state["state"].pop("key")
        is_last = self.model.stop_training or epoch == self.params["epochs"]
        return Checkpoint(
            run_id=self._curves.writer.run_id,
            epoch=epoch,
            steps=self._curves.steps,
            is_last=is_last,
            seconds=self.seconds,
            diverged=self._curves.diverged,
            history=self.history,
            stopping={name: getattr(self._stopping, name) for name in STOPPING},
            waiting=self._curves.writer.pending,
            chance={"python": random.getstate(), "numpy": state},
            variables=[np.asarray(each) for each in self.model.training_variables()],
            best=self._stopping.best_weights or [],
            key=key,
        )

    def _restore(self, state: Checkpoint) -> None:
        variables = self.model.training_variables()
        if [each.shape for each in variables] != [each.shape for each in state.variables]:
            raise CheckpointError(f"{self._file}: belongs to another network")
        for variable, value in zip(variables, state.variables, strict=True):
            variable.assign(_of_type(value, variable))
        for name, value in state.stopping.items():
            setattr(self._stopping, name, value)
        weights = self.model.weights
        self._stopping.best_weights = [
            _of_type(value, weight) for value, weight in zip(state.best, weights, strict=True)
        ] or None
        self.history = {name: list(values) for name, values in state.history.items()}
        self._seconds_before = state.seconds
        self._curves.resume(state.steps, state.waiting, state.diverged)
        version, numbers, gauss = state.chance["python"]
        random.setstate((version, tuple(numbers), gauss))
        drawn = state.chance["numpy"]
        np.random.set_state({**drawn, "state": {**drawn["state"], "key": state.key}})


def _of_type(value: np.ndarray, variable: Any) -> np.ndarray:
    """Return the value with the type of the variable: NumPy's files have no bfloat16."""
    kind = np.asarray(variable).dtype
    return value if value.dtype == kind else value.view(kind)
