"""Batches of the examples of a problem, shuffled by a seed."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import scipy.sparse
import tensorflow as tf

from auxgrad.problems.data import Data, is_stream
from auxgrad.training.streams import zip_streams

MOST_COPIED = 64 << 20  # Bytes; TensorFlow gets its own copy of examples up to this size.


class TrainingBatches:
    """Endless batches of the primary task, and of auxiliary losses with their own data.

    Args:
        data: Data of the problem.
        batch_size: Number of examples in a batch of each stream.
        reshuffle: Whether the batches differ from epoch to epoch.
    """

    def __init__(self, data: Data, batch_size: int, reshuffle: bool) -> None:
        self._settings = batch_size, reshuffle
        parts = {"train": data.train} | {
            f"auxiliary {name}": data.auxiliary[name] for name in data.auxiliary
        }
        self._streams: list[ShuffledBatches | StreamedBatches] = []
        for part, content in parts.items():
            if is_stream(content):
                size, buffer = data.sizes[part], data.shuffle_buffer
                self._streams.append(StreamedBatches(content, size, batch_size, buffer, reshuffle))
            else:
                x, y = content
                self._streams.append(ShuffledBatches(x, y, batch_size, reshuffle))
        self._names = list(data.auxiliary)

    def fits(self, batch_size: int, reshuffle: bool) -> bool:
        """Return whether the batches were made with these arguments."""
        return self._settings == (batch_size, reshuffle)

    def restart(self, seed: int, step: int = 0) -> tf.data.Dataset:
        """Return the batches in the order of a seed, starting at a step.

        Do not use the batches of an earlier call any more.
        """
        primary, *others = (
            stream.restart(seed if i == 0 else _seed_of(seed, i), step)
            for i, stream in enumerate(self._streams)
        )
        return zip_streams(primary, dict(zip(self._names, others, strict=True))) if others else primary


def _seed_of(seed: int, number: int) -> int:
    """Derive the seed of a stream or an epoch, given by its number, from one seed."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def in_order(x: Any, y: Any, batch_size: int) -> tf.data.Dataset:
    """Return a data set with each example once, in order; it keeps its batches in memory.

    Args:
        x: Inputs: an array, or nested dicts and tuples of arrays, with one example in each row. SciPy
            sparse arrays become `tf.SparseTensor`s.
        y: Targets, of the same kind as `x`.
        batch_size: Number of examples in a batch; the last batch has the rest.
    """
    examples = _Examples((x, y))
    steps = math.ceil(examples.size / batch_size)

    def gather(step: int) -> list[Any]:
        return examples.gather(np.arange(examples.size)[step * batch_size : (step + 1) * batch_size])

    return _dataset(tf.data.Dataset.range(steps), examples, gather).cache()


class ShuffledBatches:
    """Endless shuffled batches of arrays, one epoch after another.

    Equal seeds give equal orders. One object serves several trainings, one after another.

    Args:
        x: Inputs, as for `in_order`.
        y: Targets, as for `in_order`.
        batch_size: Number of examples in a batch; the last batch of an epoch has the rest.
        reshuffle: Whether the order differs from epoch to epoch.
    """

    def __init__(self, x: Any, y: Any, batch_size: int, reshuffle: bool = True) -> None:
        self.batch_size, self.reshuffle = batch_size, reshuffle
        self._examples = _Examples((x, y))
        self._steps = math.ceil(self._examples.size / batch_size)
        self._order = self._orders(0)
        self._dataset: tf.data.Dataset | None = None
        if not self._examples.are_few_and_dense:
            self._dataset = _dataset(tf.data.Dataset.counter(), self._examples, self._gather)
        elif reshuffle:
            self._dataset = tf.data.Dataset.counter().flat_map(self._epoch).with_options(_options())

    def restart(self, seed: int, step: int = 0) -> tf.data.Dataset:
        """Return the batches (x, y) in the order of a seed, starting at a step.

        Do not use the batches of an earlier call any more.
        """
        epoch, rest = divmod(step, self._steps)
        self._order = self._orders(seed, epoch)
        batches = self._dataset
        if batches is None:
            # TensorFlow keeps every traced function until the process ends, so use none here.
            batches = self._in_order(self._order(0)).repeat().with_options(_options())
        return batches.skip(rest) if rest else batches

    def _orders(self, seed: int, first: int = 0) -> Callable[[int], np.ndarray]:
        @functools.lru_cache(maxsize=1)
        def order(epoch: int) -> np.ndarray:
            number = first + epoch if self.reshuffle else 0
            return np.random.default_rng([seed, number]).permutation(self._examples.size)

        return order

    def _epoch(self, number: tf.Tensor) -> tf.data.Dataset:
        order = tf.numpy_function(
            lambda number: self._order(int(number)), [number], tf.int64, stateful=False
        )
        order.set_shape((self._examples.size,))
        return self._in_order(order)

    def _in_order(self, order: Any) -> tf.data.Dataset:
        """Return the batches of one epoch; the examples are reordered once and then sliced."""
        full = self._examples.size // self.batch_size
        first, rest = order[: full * self.batch_size], order[full * self.batch_size :]
        parts = []
        if full:
            rows = self._examples.take(tf.reshape(first, (full, self.batch_size)))
            parts.append(tf.data.Dataset.from_tensor_slices(rows))
        if self._examples.size % self.batch_size:
            parts.append(tf.data.Dataset.from_tensors(self._examples.take(rest)))
        return functools.reduce(tf.data.Dataset.concatenate, parts)

    def _gather(self, number: int) -> list[Any]:
        epoch, step = divmod(number, self._steps)
        start = step * self.batch_size
        return self._examples.gather(self._order(epoch)[start : start + self.batch_size])


class StreamedBatches:
    """Endless shuffled batches of a `tf.data.Dataset` of single examples, one epoch after another.

    Args:
        examples: Data set that yields (x, y).
        size: Number of examples. TensorFlow raises an error if the data set has more or fewer.
        batch_size: Number of examples in a batch; the last batch of an epoch has the rest.
        buffer: Number of examples from which the next one is drawn.
        reshuffle: Whether the order differs from epoch to epoch.
    """

    def __init__(
        self,
        examples: tf.data.Dataset,
        size: int,
        batch_size: int,
        buffer: int,
        reshuffle: bool = True,
    ) -> None:
        self.batch_size, self.reshuffle = batch_size, reshuffle
        self._examples, self._buffer = _of_size(examples, size), buffer
        self._steps = math.ceil(size / batch_size)
        self._seed = self._first = 0
        self._dataset = tf.data.Dataset.counter().flat_map(self._epoch).prefetch(2)

    def restart(self, seed: int, step: int = 0) -> tf.data.Dataset:
        """Return the batches (x, y) in the order of a seed, starting at a step."""
        self._seed = seed
        self._first, rest = divmod(step, self._steps)
        return self._dataset.skip(rest) if rest else self._dataset

    def _epoch(self, number: tf.Tensor) -> tf.data.Dataset:
        def draw(number: np.ndarray) -> np.int64:
            epoch = self._first + int(number) if self.reshuffle else 0
            return np.int64(_seed_of(self._seed, epoch))

        seed = tf.numpy_function(draw, [number], tf.int64, stateful=False)
        seed.set_shape(())
        # Set the seed of this graph: if it is 0, TensorFlow accepts no tensor as the seed of `shuffle`.
        tf.compat.v1.set_random_seed(1)
        shuffled = self._examples.shuffle(self._buffer, seed, reshuffle_each_iteration=False)
        return shuffled.batch(self.batch_size)


def streamed_in_order(examples: tf.data.Dataset, size: int, batch_size: int) -> tf.data.Dataset:
    """Return the batches of a `tf.data.Dataset` of single examples, once and in order."""
    return _of_size(examples, size).batch(batch_size).prefetch(2)


def _of_size(examples: tf.data.Dataset, size: int) -> tf.data.Dataset:
    return examples.apply(tf.data.experimental.assert_cardinality(size))


def _dataset(
    numbers: tf.data.Dataset, examples: _Examples, gather: Callable[[int], list[Any]]
) -> tf.data.Dataset:
    def batch(number: tf.Tensor) -> Any:
        # SciPy gathers a sparse batch in a fifteenth of the time that TensorFlow needs, and leaves the
        # cores to the training step.
        arrays = tf.numpy_function(
            lambda number: gather(int(number)), [number], examples.types, stateful=False
        )
        return examples.pack(arrays)

    return numbers.map(batch).prefetch(2).with_options(_options())


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.autotune.enabled = False  # Autotuning often delays the start of an epoch by 0.2 s.
    return options


class _Examples:
    """Nested arrays with one example in each row."""

    def __init__(self, structure: Any) -> None:
        self._structure = structure
        self._arrays = [_Rows.of(array) for array in keras.tree.flatten(structure)]
        self.size = self._arrays[0].size
        self.types = [kind for array in self._arrays for kind in array.types]
        self._copies: list[tf.Tensor] | None = None

    @property
    def are_few_and_dense(self) -> bool:
        """Whether TensorFlow can hold a copy of the examples and gather from it quickly."""
        dense = [each.array for each in self._arrays if not isinstance(each, _SparseRows)]
        return len(dense) == len(self._arrays) and sum(each.nbytes for each in dense) <= MOST_COPIED

    def take(self, rows: tf.Tensor) -> Any:
        """Return these rows as tensors; `rows` has row numbers in any shape."""
        if self._copies is None:
            with tf.init_scope():
                self._copies = [tf.constant(each.array) for each in self._arrays]
        return keras.tree.pack_sequence_as(
            self._structure, [tf.gather(copy, rows) for copy in self._copies]
        )

    def gather(self, chosen: np.ndarray) -> list[Any]:
        return [part for array in self._arrays for part in array.gather(chosen)]

    def pack(self, parts: Sequence[tf.Tensor]) -> Any:
        left = iter(parts)
        tensors = [array.tensor([next(left) for _ in array.types]) for array in self._arrays]
        return keras.tree.pack_sequence_as(self._structure, tensors)


class _Rows:
    """A dense array with one example in each row."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.size = array.shape[0]
        self.types = [tf.as_dtype(array.dtype)]

    @staticmethod
    def of(array: Any) -> _Rows:
        return _SparseRows(array) if scipy.sparse.issparse(array) else _Rows(np.asarray(array))

    def gather(self, chosen: np.ndarray) -> list[Any]:
        return [self.array[chosen]]

    def tensor(self, parts: list[tf.Tensor]) -> Any:
        parts[0].set_shape((None, *self.array.shape[1:]))
        return parts[0]


class _SparseRows(_Rows):
    """A sparse matrix with one example in each row."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = scipy.sparse.csr_array(matrix)
        self.size, self.width = self.matrix.shape
        self.types = [tf.int64, tf.as_dtype(self.matrix.dtype), tf.int64]

    def gather(self, chosen: np.ndarray) -> list[Any]:
        part = self.matrix[chosen]
        indices = np.empty((part.nnz, 2), np.int64)
        indices[:, 0] = np.repeat(np.arange(len(chosen)), np.diff(part.indptr))
        indices[:, 1] = part.indices
        return [indices, part.data, np.int64(len(chosen))]

    def tensor(self, parts: list[tf.Tensor]) -> Any:
        indices, values, count = parts
        for part, shape in ((indices, (None, 2)), (values, (None,)), (count, ())):
            part.set_shape(shape)
        return tf.SparseTensor(indices, values, tf.stack([count, self.width]))
