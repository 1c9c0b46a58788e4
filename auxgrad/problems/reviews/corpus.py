"""Encode movie reviews as sparse multi-hot vectors, and cache them on disk.

Column 1 is always 1. Column 2 is 1 if the review has an out-of-vocabulary word. Column r + 3 belongs to
the r-th most frequent training word. Columns 0 and 3 are unused. This equals
`keras.datasets.imdb.load_data(num_words)` followed by multi-hot encoding. The module does not import
TensorFlow, unless Keras' own copy must be downloaded.
"""

from __future__ import annotations

import hashlib
import json
import sys
from array import array
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from platformdirs import user_cache_path

from auxgrad.errors import DataError
from auxgrad.problems.reviews import cache
from auxgrad.problems.reviews.reading import START
from auxgrad.problems.reviews.sources import Corpus

# Increase it with every change of the result of `_encode`, so that no stale cache is read.
ENCODING_VERSION = 1
ARRAYS = ("indptr", "indices", "labels", "train", "validation", "test")


@dataclass(frozen=True, eq=False)
class EncodedReviews:
    """Encoded reviews in compressed sparse rows.

    In row i the columns `indices[indptr[i]:indptr[i + 1]]`, in ascending order, are 1. The label is
    `labels[i]`, 1 for positive and 0 for negative. `train`, `validation` and `test` have row numbers.
    `fingerprint` is the SHA-256 of all these arrays.
    """

    name: str
    num_words: int
    indptr: np.ndarray
    indices: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    fingerprint: str

    def matrix(self) -> scipy.sparse.csr_array:
        """Return the reviews as a sparse float32 matrix of multi-hot rows, shape (n, num_words)."""
        values = np.ones(len(self.indices), np.float32)
        shape = len(self.labels), self.num_words
        rows = self.indptr.astype(np.int32)  # With int64 here, SciPy would make both arrays int64.
        return scipy.sparse.csr_array((values, self.indices.astype(np.int32), rows), shape)


def load(source: Corpus) -> EncodedReviews:
    """Return the encoded reviews, from the cache or encoded now.

    If several processes need them at the same time, one encodes them. It prints a line before, because
    the encoding takes seconds, and a line on stderr if the cache cannot be written.

    Raises:
        DataError: The data is missing or damaged.
    """
    described = json.dumps([ENCODING_VERSION, source.name, source.num_words, source.content_key()])
    key = hashlib.sha256(described.encode()).hexdigest()
    folder = source.cache_dir or user_cache_path("auxgrad", appauthor=False)

    def encode() -> cache.Arrays:
        print(f"encoding the reviews of {source.name} into {folder} (only once) ...", flush=True)
        return _encode(source)

    arrays, error = cache.fetch(folder / f"{source.name}-{key[:16]}.npz", key, ARRAYS, encode)
    if error:
        reason = getattr(error, "strerror", None) or error
        print(
            f"data.cache_dir={folder}: cannot be written ({reason}); "
            "the next run has to encode the reviews again",
            file=sys.stderr,
            flush=True,
        )
    return _reviews(source, arrays)


def _reviews(source: Corpus, arrays: dict[str, np.ndarray]) -> EncodedReviews:
    return EncodedReviews(source.name, source.num_words, fingerprint=_fingerprint(arrays), **arrays)


def _fingerprint(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in ARRAYS:
        part = arrays[name]
        digest.update(f"{name} {part.dtype.str} {part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _encode(source: Corpus) -> cache.Arrays:
    # Import it here: that takes a second, and is not needed if the cache has the reviews.
    from sklearn.model_selection import train_test_split

    corpus = source.read()
    labels = np.asarray(corpus.labels)
    for row in np.flatnonzero(~np.isin(labels, (0, 1)))[:1]:
        raise _refusal(source, f"review {row} has the label {labels[row]}; must be 0 or 1")
    indptr, indices = array("q", [0]), array("H")
    for columns in corpus.columns:
        present = sorted({START, *columns})
        if present[0] < 0 or present[-1] >= source.num_words:
            odd = present[0] if present[0] < 0 else present[-1]
            most = source.num_words - 1
            raise _refusal(
                source, f"review {len(indptr) - 1} has column {odd}; must be from 0 to {most}"
            )
        indices.extend(present)
        indptr.append(len(indices))
    count, test_size = len(labels), corpus.test_size
    if len(indptr) - 1 != count:
        raise _refusal(
            source, f"has {len(indptr) - 1} reviews and {count} labels; their numbers must be equal"
        )
    if not 0 <= test_size <= count:
        raise _refusal(source, f"has a test_size of {test_size}; must be from 0 to {count}")
    training = np.arange(count - test_size, dtype=np.int32)
    _check_labels(source, "train", labels[training])
    train, validation = train_test_split(training, test_size=0.2, random_state=0)
    parts = {
        "train": train,
        "validation": validation,
        "test": np.arange(count - test_size, count, dtype=np.int32),
    }
    for name, rows in parts.items():
        _check_labels(source, name, labels[rows])
    return {
        "indptr": np.array(indptr, np.int64),
        "indices": np.array(indices, np.uint16),
        "labels": labels.astype(np.uint8),
        **parts,
    }


def _check_labels(source: Corpus, part: str, labels: np.ndarray) -> None:
    for label, kind in enumerate(("negative", "positive")):
        if label not in labels:
            raise _refusal(source, f"{part} has no {kind} reviews; there must be some in every part")


def _refusal(source: Corpus, fault: str) -> DataError:
    return DataError(f"data={source.name}: {fault}")
