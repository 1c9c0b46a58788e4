"""Compare the sparse layer with Keras' dense layer."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from auxgrad.training.sparse import SparseDense, sparse_matmul

rng = np.random.default_rng(0)


def test_values_gradients_and_saving_are_those_of_dense(tmp_path):
    dense = (rng.random((6, 30)) < 0.2) * rng.normal(size=(6, 30))
    dense[2] = 0  # One row has no entry.
    x = tf.constant(dense, tf.float32)
    sparse = tf.sparse.from_dense(x)
    ours, theirs = SparseDense(5, "relu"), keras.layers.Dense(5, "relu")
    for layer in (ours, theirs):
        layer.build((None, 30))
    theirs.set_weights([rng.normal(size=(30, 5)), rng.normal(size=5)])
    ours.set_weights(theirs.get_weights())

    gradients = []
    for layer, inputs in ((ours, sparse), (ours, x), (theirs, x)):
        with tf.GradientTape() as tape:
            outputs = layer(inputs)
            loss = tf.reduce_sum(outputs**2)
        np.testing.assert_allclose(outputs, theirs(x), rtol=1e-5, atol=1e-6)
        gradients.append(tape.gradient(loss, [weight.value for weight in layer.weights]))
    for parts in zip(*gradients, strict=True):
        for part in parts:
            np.testing.assert_allclose(part, parts[-1], rtol=1e-5, atol=1e-5)

    inputs = keras.Input((30,), sparse=True)
    keras.Model(inputs, ours(inputs)).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(sparse), ours(sparse))


def test_densified_it_is_the_same():
    """The result is the same if the input is made dense, as on a GPU."""
    sparse = tf.sparse.from_dense(tf.cast(rng.random((6, 30)) < 0.2, tf.float32))
    kernel = tf.constant(rng.normal(size=(30, 5)), tf.float32)
    found = []
    for densify in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            outputs = sparse_matmul(sparse, kernel, densify)
            loss = tf.reduce_sum(outputs**2)
        found.append((outputs, tape.gradient(loss, kernel)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
