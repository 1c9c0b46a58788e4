"""What a run records while Keras trains it."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from auxgrad.record.writing import RunWriter
from auxgrad.training.step.counters import LOSSES_KEPT


class RecordCurves(keras.callbacks.Callback):
    """Record the training loss of every step, and what Keras logs at the end of every epoch.

    That is val_loss, other metrics of the validation set, auxiliary losses (<name>_loss) and statistics
    of censoring.

    Everything is recorded at its optimisation step, counted from 1, and written every few seconds.
    """

    def __init__(self, writer: RunWriter) -> None:
        super().__init__()
        self._writer = writer
        self.steps = 0
        self._fetched = 0

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
                self._writer.metric(name, value, self.steps)
        for name, value in self.model.censoring_statistics().items():
            self._writer.metric(name, value, self.steps)
        self._writer.flush_now_and_then()

    def _fetch_losses(self) -> None:
        for loss in self.model.batch_losses(self.steps):
            self.steps += 1
            self._writer.metric("train_loss", float(loss), self.steps)
