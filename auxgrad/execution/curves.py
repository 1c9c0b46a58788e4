"""The Keras callback that records losses, metrics and statistics of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from auxgrad.record.writing import RunWriter
from auxgrad.training.step.counters import LOSSES_KEPT


class RecordCurves(keras.callbacks.Callback):
    """Records the training loss of each step, and the values that Keras logs after each epoch.

    After each epoch these are recorded: val_loss and the other validation metrics, the auxiliary
    losses (<name>_loss) and the censoring statistics. Each value is recorded at its optimisation
    step, counted from 1. Values are written to the store every few seconds.

    Args:
        writer: The writer of the run.
        stops: Whether training ends at the first loss or weight that is NaN or infinite.
    """

    def __init__(self, writer: RunWriter, stops: bool = True) -> None:
        super().__init__()
        self.writer, self._stops = writer, stops
        self.steps = 0
        self._fetched = 0
        self.diverged: int | None = None  # The first step with a loss or weight that is not finite.

    def resume(self, steps: int, pending: Sequence[Sequence[Any]], diverged: int | None) -> None:
        """Restore the state from a checkpoint.

        Args:
            steps: The number of optimisation steps already made.
            pending: The values that were not written to the store: (name, value, timestamp, step).
            diverged: The first step with a loss or weight that is NaN or infinite.
        """
        self.steps, self.diverged = steps, diverged
        self.writer.restore_pending(pending)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Reset the censoring statistics of the epoch."""
        self.model.reset_censoring_statistics()
        self._fetched = 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Fetch the losses before the model overwrites the oldest of them."""
        if batch - self._fetched >= LOSSES_KEPT // 2:
            self._fetch_losses()
            self._fetched = batch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the losses, validation metrics and censoring statistics of the epoch.

        If a weight is NaN or infinite, the validation metrics are NaN. They could be finite numbers
        otherwise, because relu turns NaN into zero, and such an epoch could be the best one.
        """
        self._fetch_losses()
        if logs and not self.model.has_finite_weights():
            self._note_divergence(self.steps)
            # The dict is also the one of the callbacks that follow, such as early stopping.
            logs.update({name: math.nan for name in logs if name.startswith("val_")})
        losses = {f"{name}_loss" for name in self.model.auxiliaries}
        for name, value in (logs or {}).items():
            if name.startswith("val_") or name in losses:
                self.writer.metric(name, value, self.steps)
        for name, value in self.model.censoring_statistics().items():
            self.writer.metric(name, value, self.steps)
        self.writer.flush_if_due()

    def _fetch_losses(self) -> None:
        losses = self.model.batch_losses(self.steps)
        wrong = np.flatnonzero(~np.isfinite(losses))
        if wrong.size:
            self._note_divergence(self.steps + int(wrong[0]) + 1)
        for loss in losses:
            self.steps += 1
            self.writer.metric("train_loss", float(loss), self.steps)

    def _note_divergence(self, step: int) -> None:
        if self.diverged is None:
            self.diverged = step
            if self._stops:
                self.model.stop_training = True
