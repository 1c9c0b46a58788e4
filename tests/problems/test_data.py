"""The examples of a problem: sizes, fingerprint, and refused input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from auxgrad.errors import DataError
from auxgrad.problems import Data
from auxgrad.training.batches import StreamedBatches, streamed_in_order

X, Y = np.arange(12.0).reshape(6, 2), np.arange(6)


def data(**parts) -> Data:
    return Data(**{"train": (X, Y), "validation": (X[:3], Y[:3]), "test": (X[:1], Y[:1]), **parts})


def test_sizes_of_nested_and_sparse_parts():
    nested = {"image": X, "pair": (scipy.sparse.csr_array(X), Y)}
    assert data(train=(nested, Y)).sizes == {"train": 6, "validation": 3, "test": 1}


@pytest.mark.parametrize(
    "changed",
    [
        {"train": (X + 1, Y)},
        {"train": (X.astype(np.float32), Y)},
        {"train": (X.reshape(6, 1, 2), Y)},
        {"train": (X, Y[::-1])},
        {"train": ({"x": X}, Y)},
        {"train": (scipy.sparse.csr_array(X), Y)},
        {"validation": (X[:2], Y[:2])},
        {"validation": (X[:1], Y[:1]), "test": (X[:3], Y[:3])},
        {"train": (np.array(list("abcdef"), object), Y)},
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_the_content(changed):
    assert data().fingerprint == data().fingerprint
    assert len(data().fingerprint) == 64
    assert data(**changed).fingerprint != data().fingerprint


def test_the_fingerprint_does_not_depend_on_the_layout_in_memory():
    assert data(train=(np.asfortranarray(X), Y)).fingerprint == data().fingerprint
    words = [np.array(texts, object) for texts in (["ab", "c"], ["a", "bc"])]
    parts = [data(test=(text, Y[:2])).fingerprint for text in words]
    assert parts[0] != parts[1]
    assert data(fingerprint="mine").fingerprint == "mine"


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({"train": (X, Y[:5])}, "Data: train has arrays of 6 and 5 rows; their numbers must be equal"),
        ({"test": (X[:0], Y[:0])}, "Data: test has no examples"),
        ({"test": X}, "Data: test is ndarray; must be a pair (x, y)"),
        ({"train": (X, Y, Y)}, "Data: train is tuple; must be a pair (x, y)"),
        ({"train": (X, 3)}, "Data: train[1] is int; must be an array of examples"),
        ({"train": (X, {"a": [1, 2]})}, "Data: train[1]['a'][0] is int; must be an array of examples"),
        ({"sizes": {"train": 6}}, "Data: sizes has 'train', which is not a tf.data.Dataset"),
        (
            {"train": tf.data.Dataset.range(3)},
            "Data: train is a tf.data.Dataset; fingerprint= must be given",
        ),
        (
            {"train": tf.data.Dataset.range(3), "fingerprint": "f"},
            "Data: train is a tf.data.Dataset; sizes= must have 'train'",
        ),
        (
            {"train": tf.data.Dataset.range(3), "fingerprint": "f", "sizes": {"train": 0}},
            "Data: sizes['train'] is 0; must be a whole number >= 1",
        ),
        (
            {"train": (np.array([None] * 6), Y)},
            "Data: an array of Python objects; must be numbers or texts",
        ),
    ],
)
def test_what_is_refused(parts, line):
    with pytest.raises(DataError) as caught:
        data(**parts)
    assert str(caught.value) == line


def spoilt(value, kind=np.float64, place=(3, 1)):
    array = X.astype(kind)
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ({"train": (spoilt(np.nan), Y)}, "train[0] has nan at [3, 1]"),
        ({"train": (spoilt(np.inf, np.float16), Y)}, "train[0] has inf at [3, 1]"),
        ({"train": (spoilt(-np.inf, np.float32), Y)}, "train[0] has -inf at [3, 1]"),
        ({"train": (spoilt([np.inf, -np.inf], place=4), Y)}, "train[0] has inf at [4, 0]"),
        ({"train": (spoilt(np.nan, np.complex64), Y)}, "train[0] has (nan+0j) at [3, 1]"),
        ({"train": (scipy.sparse.csr_array(spoilt(np.nan)), Y)}, "train[0] has nan at [3, 1]"),
        ({"train": (scipy.sparse.lil_array(spoilt(np.nan)), Y)}, "train[0] has nan at [3, 1]"),
        ({"validation": (X, {"a": Y, "b": spoilt(np.nan)[:, 1]})}, "validation[1]['b'] has nan at [3]"),
        ({"test": ((X, spoilt(np.nan)), Y)}, "test[0][1] has nan at [3, 1]"),
        ({"auxiliary": {"own": (X, spoilt(np.nan))}}, "auxiliary own[1] has nan at [3, 1]"),
        ({"train": (spoilt(np.nan), Y), "fingerprint": "mine"}, "train[0] has nan at [3, 1]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_that_are_not_finite_are_refused(parts, found):
    with pytest.raises(DataError) as caught:
        data(**parts)
    assert str(caught.value) == f"Data: {found}; must be finite numbers"


def test_finite_numbers_whose_sum_is_not_are_taken():
    for kind in (np.float16, np.float32, np.float64):
        large = np.full_like(X, np.finfo(kind).max, kind)
        assert data(train=(large, Y)).sizes["train"] == 6


def test_streams_are_batched_shuffled_by_seed_and_of_the_size_that_was_told():
    stream = tf.data.Dataset.range(10).map(lambda i: (i, i))
    made = data(train=stream, sizes={"train": 10}, fingerprint="f")
    assert made.sizes == {"train": 10, "validation": 3, "test": 1}

    def epochs(batches, seed):
        taken = [x.numpy().tolist() for x, _ in batches.restart(seed).take(6)]
        assert [len(each) for each in taken] == [4, 4, 2, 4, 4, 2]
        return [[i for batch in part for i in batch] for part in (taken[:3], taken[3:])]

    batches = StreamedBatches(stream, 10, batch_size=4, buffer=100)
    first, again, other = (epochs(batches, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first[0] != first[1]
    assert all(sorted(epoch) == list(range(10)) for epoch in first)
    assert [x.numpy().tolist() for x, _ in streamed_in_order(stream, 10, 6)] == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8, 9],
    ]
    with pytest.raises(tf.errors.FailedPreconditionError, match="elements"):
        list(streamed_in_order(stream, 11, 6))
