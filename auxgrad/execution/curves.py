"""What a run records while Keras trains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from auxgrad.record.writing import RunWriter
from auxgrad.training.step.counters import LOSSES_KEPT


class RecordCurves(keras.callbacks.Callback):
    """Record the training loss of every step, and what Keras logs at the end of every epoch.

    That is val_loss, other metrics of the validation set, auxiliary losses (<name>_loss) and statistics
    of censoring.

    Everything is recorded at its optimisation step, counted from 1, and written every few seconds.

    Args:
        writer: of the run.
        stops: whether training ends with the first loss that is NaN or infinite.
    """

    def __init__(self, writer: RunWriter, stops: bool = True) -> None:
        super().__init__()
        self.writer, self._stops = writer, stops
        self.steps = 0
        self._fetched = 0
        self.diverged: int | None = None  # The first step with a loss that is NaN or infinite.

    def resume(self, steps: int, pending: Sequence[Sequence[Any]], diverged: int | None) -> None:
        """Resume after this many steps, with the values that have not been written yet."""
        self.steps, self.diverged = steps, diverged
        self.writer.restore_pending(pending)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.model.reset_censoring_statistics()
        self._fetched = 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        if batch - self._fetched >= LOSSES_KEPT // 2:
            self._fetch_losses()
            self._fetched = batch

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._fetch_losses()
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
        if wrong.size and self.diverged is None:
            self.diverged = self.steps + int(wrong[0]) + 1
            if self._stops:
                self.model.stop_training = True
        for loss in losses:
            self.steps += 1
            self.writer.metric("train_loss", float(loss), self.steps)
