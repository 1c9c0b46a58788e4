"""Batches of reviews against the definition of multi-hot vectors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from auxgrad.config import compose
from auxgrad.data import load
from auxgrad.problems import build
from auxgrad.problems.reviews import batches


@pytest.fixture
def reviews(small):
    return load(compose([*small]).data)


def multi_hot(reviews, row):
    vector = np.zeros(reviews.num_words, np.float32)
    vector[reviews.indices[reviews.indptr[row] : reviews.indptr[row + 1]]] = 1
    return vector


def dense(batch):
    x, y = batch
    return np.concatenate([tf.sparse.to_dense(x).numpy(), y.numpy()], axis=1)


def test_in_order_each_review_comes_once(reviews):
    got = np.concatenate([dense(batch) for batch in batches(reviews, reviews.test, 16)])
    expected = [[*multi_hot(reviews, row), reviews.labels[row]] for row in reviews.test]
    np.testing.assert_array_equal(got, expected)


def test_every_epoch_has_all_reviews_in_an_order_of_its_own(reviews):
    size = 24  # 64 reviews: two batches of 24 and one of 16.
    epochs = []
    for seed in (1, 1, 2):
        found = [
            dense(batch) for batch in itertools.islice(batches(reviews, reviews.train, size, seed), 6)
        ]
        assert [len(batch) for batch in found] == [24, 24, 16, 24, 24, 16]
        epochs.append([np.concatenate(found[:3]), np.concatenate(found[3:])])
    all_rows = np.concatenate([dense(batch) for batch in batches(reviews, reviews.train, size)])
    for epoch in itertools.chain(*epochs):
        np.testing.assert_array_equal(np.sort(epoch, axis=0), np.sort(all_rows, axis=0))
    np.testing.assert_array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0][0], epochs[0][1])
    assert not np.array_equal(epochs[0][0], epochs[2][0])


def test_modes_share_weights_and_batches_of_a_seed(small):
    found = []
    for mode in ("SingleTask", "Projection"):
        config = compose([f"mode={mode}", *small])
        problem = build(config.problem, load(config.data), config.seed)
        assert problem.steps_per_epoch == 4
        found.append((dense(next(iter(problem.train))), problem.network.get_weights()[0]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
