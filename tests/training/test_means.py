"""Losses in the logs are means over weighted examples, for batches of any size."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from auxgrad import AuxiliaryLoss, AuxiliaryModel, zip_streams

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 3)).astype(np.float32)
Y = {name: RNG.normal(size=(5, 1)).astype(np.float32) for name in ("main", "other")}
WEIGHTS = np.array([0.5, 1, 2, 0.1, 3], np.float32)


@pytest.fixture
def model():
    """Return a model that training does not change."""
    inputs = keras.Input((3,))
    network = keras.Model(inputs, {name: keras.layers.Dense(1, name=name)(inputs) for name in Y})
    model = AuxiliaryModel(network, AuxiliaryLoss({"other": "mse"}))
    model.compile(keras.optimizers.SGD(0.0), loss={"main": "mse"}, jit_compile=False)
    return model


def errors(model, name, rows=slice(None)):
    return ((model.network.predict(X[rows], verbose=0)[name] - Y[name][rows]) ** 2)[:, 0]


def test_a_smaller_last_batch_counts_by_its_examples(model):
    history = model.fit(X, Y, batch_size=4, validation_data=(X, Y), validation_batch_size=4, verbose=0)
    for name, output in (("loss", "main"), ("other_loss", "other")):
        for log in (name, f"val_{name}"):
            assert history.history[log] == [pytest.approx(errors(model, output).mean(), rel=1e-5)]


def test_weights_of_a_stream_of_its_own_count(model):
    whole = tf.data.Dataset.from_tensors
    data = zip_streams(whole((X, Y)), {"other": whole((X[1:], {"other": Y["other"][1:]}, WEIGHTS[1:]))})
    history = model.fit(data, verbose=0)
    wanted = (errors(model, "other", slice(1, None)) * WEIGHTS[1:]).mean()
    assert history.history["other_loss"] == [pytest.approx(wanted, rel=1e-5)]
    assert history.history["loss"] == [pytest.approx(errors(model, "main").mean(), rel=1e-5)]
