"""The problem of movie reviews against the definition of multi-hot vectors."""

from __future__ import annotations

import numpy as np
import pytest

from auxgrad.config import compose
from auxgrad.problems.reviews.corpus import load


@pytest.fixture
def config(small):
    return compose([*small])


def multi_hot(reviews, row):
    vector = np.zeros(reviews.num_words, np.float32)
    vector[reviews.indices[reviews.indptr[row] : reviews.indptr[row + 1]]] = 1
    return vector


def test_the_parts_are_multi_hot_vectors_and_labels(config):
    data, reviews = config.problem.load(), load(config.problem.data)
    assert data.fingerprint == reviews.fingerprint
    assert data.sizes == {"train": 64, "validation": 16, "test": 80}
    for part in ("train", "validation", "test"):
        x, y = getattr(data, part)
        rows = getattr(reviews, part)
        np.testing.assert_array_equal(x.toarray(), [multi_hot(reviews, row) for row in rows])
        np.testing.assert_array_equal(y, reviews.labels[rows][:, None])
        assert x.dtype == y.dtype == np.float32


def test_a_seed_fixes_the_initial_weights(config):
    problem = config.problem
    data = problem.load()
    first, again, other = (problem.build(data, seed).network.get_weights() for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
