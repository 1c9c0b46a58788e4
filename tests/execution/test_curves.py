"""All losses are recorded if an epoch has more steps than the model keeps losses."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from auxgrad.execution.curves import RecordCurves
from auxgrad.training.model import AuxiliaryModel
from auxgrad.training.step.counters import LOSSES_KEPT


class Record:
    def __init__(self):
        self.curves, self.flushed = {}, 0

    def metric(self, name, value, step):
        self.curves.setdefault(name, []).append((step, value))

    def flush_if_due(self):
        self.flushed += 1


@pytest.mark.long
def test_no_loss_is_left_out_of_a_long_epoch():
    steps = 2 * LOSSES_KEPT + 100
    x = np.ones((steps, 2), np.float32)
    model = AuxiliaryModel(
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), mode="Multitask"
    )
    model.compile("sgd", "mse", steps_per_execution=4)
    record = Record()
    curves = RecordCurves(record)
    model.optimizer.build(model.trainable_variables)
    start = [np.array(variable) for variable in model.optimizer.variables]
    for _ in range(2):
        model.restart(model.network, start)
        record.curves.clear()
        curves.steps = 0
        model.fit(
            x,
            x[:, :1],
            batch_size=1,
            epochs=2,
            validation_data=(x[:8], x[:8, :1]),
            callbacks=[curves],
            verbose=0,
        )
        assert [step for step, _ in record.curves["train_loss"]] == list(range(1, 2 * steps + 1))
        assert [step for step, _ in record.curves["val_loss"]] == [steps, 2 * steps]
        assert [step for step, _ in record.curves["cosine/overall"]] == [steps, 2 * steps]
    assert record.flushed == 4
