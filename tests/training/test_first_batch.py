"""Networks that are built by their first batch, of any type, and losses without a gradient."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from auxgrad import AuxiliaryModel, SparseDense


class OneHot(keras.Model):
    """A network for integers or sparse rows."""

    def __init__(self):
        super().__init__()
        self.head = SparseDense(1)

    def call(self, inputs):
        return self.head(inputs if inputs.dtype == "float32" else tf.one_hot(inputs, 4))


def model(loss="mse"):
    model = AuxiliaryModel(OneHot())
    model.compile("adam", loss, jit_compile=False)
    return model


@pytest.mark.parametrize("x", [np.array([0, 1, 2]), tf.sparse.eye(3, 4)], ids=["integer", "sparse"])
def test_a_network_is_built_by_what_it_is_given(x):
    trained = model()
    before = trained.train_on_batch(x, np.ones((3, 1), np.float32))
    assert trained.network.built
    assert trained.train_on_batch(x, np.ones((3, 1), np.float32)) < before


def test_a_loss_without_a_gradient_is_told():
    with pytest.raises(ValueError, match="no variable has a gradient: the loss does not depend on"):
        model(lambda y, y_pred: tf.zeros_like(y[:, 0])).train_on_batch(
            np.array([0, 1, 2]), np.ones((3, 1), np.float32)
        )
