"""Batches of arrays, sparse arrays and nested arrays, in order and shuffled by a seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from auxgrad.training.batches import ShuffledBatches, in_order

X = np.arange(64 * 3, dtype=np.float32).reshape(64, 3)
Y = np.arange(64, dtype=np.int32)[:, None]
INPUTS = {
    "dense": X,
    "sparse": scipy.sparse.csr_array(X),
    "nested": {"a": X, "b": (scipy.sparse.csr_matrix(X), Y)},
}


def dense(batch):
    """Return a batch as one dense matrix."""
    parts = tf.nest.flatten(batch)
    arrays = [tf.sparse.to_dense(part) if isinstance(part, tf.SparseTensor) else part for part in parts]
    return np.concatenate([np.asarray(array, np.float32) for array in arrays], axis=1)


@pytest.fixture(params=INPUTS)
def x(request):
    return INPUTS[request.param]


def test_in_order_each_example_comes_once(x):
    batches = [dense(batch) for batch in in_order(x, Y, 24)]
    assert [len(batch) for batch in batches] == [24, 24, 16]
    got = np.concatenate(batches)
    np.testing.assert_array_equal(got[:, :3], X)
    np.testing.assert_array_equal(got[:, -1:], Y)
    assert {array.shape[0] for array in tf.nest.flatten(in_order(x, Y, 24).element_spec)} == {None}


def test_every_epoch_has_all_examples_in_an_order_of_its_own(x):
    shuffled = ShuffledBatches(x, Y, 24)
    epochs = []
    for seed in (1, 2, 1):
        found = [dense(batch) for batch in itertools.islice(shuffled.restart(seed), 6)]
        assert [len(batch) for batch in found] == [24, 24, 16, 24, 24, 16]
        epochs.append([np.concatenate(found[:3]), np.concatenate(found[3:])])
    for epoch in itertools.chain(*epochs):
        np.testing.assert_array_equal(np.sort(epoch[:, -1:], axis=0), Y)
        np.testing.assert_array_equal(epoch[:, :3], X[epoch[:, -1].astype(int)])
    np.testing.assert_array_equal(epochs[0], epochs[2])
    assert not np.array_equal(epochs[0][0], epochs[0][1])
    assert not np.array_equal(epochs[0][0], epochs[1][0])


def test_without_reshuffling_every_epoch_is_the_first(x):
    fixed, other = ShuffledBatches(x, Y, 24, reshuffle=False), ShuffledBatches(x, Y, 24)
    firsts = []
    for seed in (1, 2, 1):
        found = [dense(batch) for batch in itertools.islice(fixed.restart(seed), 6)]
        assert [len(batch) for batch in found] == [24, 24, 16, 24, 24, 16]
        np.testing.assert_array_equal(np.concatenate(found[:3]), np.concatenate(found[3:]))
        wanted = [dense(batch) for batch in itertools.islice(other.restart(seed), 3)]
        np.testing.assert_array_equal(np.concatenate(found[:3]), np.concatenate(wanted))
        firsts.append(np.concatenate(found[:3]))
    np.testing.assert_array_equal(firsts[0], firsts[2])
    assert not np.array_equal(firsts[0], firsts[1])
