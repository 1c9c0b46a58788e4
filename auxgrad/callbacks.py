"""What a run writes down while Keras trains it."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from auxgrad.model import LOSSES_KEPT
from auxgrad.tracking import RunRecord


class RecordCurves(keras.callbacks.Callback):
    """Records train_loss of every step, and val_loss and the censoring statistics of every epoch.

    Everything is recorded at its optimisation step, counted from 1, and written every few seconds.
    """

    def __init__(self, record: RunRecord) -> None:
        super().__init__()
        self._record = record
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
        self._record.metric("val_loss", (logs or {})["val_loss"], self.steps)
        for name, value in self.model.censoring_statistics().items():
            self._record.metric(name, value, self.steps)
        self._record.flush_now_and_then()

    def _fetch_losses(self) -> None:
        for loss in self.model.batch_losses(self.steps):
            self.steps += 1
            self._record.metric("train_loss", float(loss), self.steps)
