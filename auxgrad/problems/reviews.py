"""Sentiment of movie reviews; weight decay is the auxiliary direction."""

from __future__ import annotations

import functools
import math

import keras
import numpy as np
import scipy.sparse
import tensorflow as tf

from auxgrad.auxiliaries import WeightDecay
from auxgrad.config import ProblemConfig
from auxgrad.data import Reviews
from auxgrad.problems import Problem
from auxgrad.sparse import SparseDense

EVALUATION_BATCH = 4096


def build(config: ProblemConfig, reviews: Reviews, seed: int) -> Problem:
    """Dense relu layers and one logit on multi-hot reviews, sigmoid cross-entropy, Adam."""
    # One generator each for batch order and layers: neither depends on how often the other is asked.
    order_seed, *layer_seeds = (
        int(state) for state in np.random.SeedSequence(seed).generate_state(len(config.hidden) + 2)
    )
    widths = (*config.hidden, 1)
    return Problem(
        network=_network(reviews.num_words, widths, layer_seeds),
        auxiliary=WeightDecay(),
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        train=batches(reviews, reviews.train, config.batch_size, order_seed),
        validation=_in_order(reviews, "validation"),
        test=_in_order(reviews, "test"),
        train_size=len(reviews.train),
        steps_per_epoch=math.ceil(len(reviews.train) / config.batch_size),
        description=(
            f"{'-'.join(str(width) for width in (reviews.num_words, *widths))} dense, "
            f"Adam {config.learning_rate:g}, batches of {config.batch_size}"
        ),
    )


def _network(inputs: int, widths: tuple[int, ...], seeds: list[int]) -> keras.Model:
    x = outputs = keras.Input((inputs,), sparse=True, name="reviews")
    for i, (units, seed) in enumerate(zip(widths, seeds, strict=True)):
        last = i == len(widths) - 1
        layer = SparseDense if i == 0 else keras.layers.Dense
        outputs = layer(
            units,
            activation=None if last else "relu",
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            name="logit" if last else f"hidden_{i + 1}",
        )(outputs)
    return keras.Model(x, outputs, name="reviews")


def batches(
    reviews: Reviews, rows: np.ndarray, batch_size: int, seed: int | None = None
) -> tf.data.Dataset:
    """Batches (x, y): x sparse float32 of shape (n, num_words), y float32 of shape (n, 1).

    Without a seed all rows once, in their order; with one epoch after epoch without end, each shuffled
    anew and always alike.
    """
    matrix, labels = _matrix(reviews)
    steps = math.ceil(len(rows) / batch_size)

    @functools.lru_cache(maxsize=1)
    def order(epoch: int) -> np.ndarray:
        return rows if seed is None else np.random.default_rng([seed, epoch]).permutation(rows)

    def gather(number: np.int64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        epoch, step = divmod(int(number), steps)
        chosen = order(epoch)[step * batch_size : (step + 1) * batch_size]
        part = matrix[chosen]
        indices = np.empty((part.nnz, 2), np.int64)
        indices[:, 0] = np.repeat(np.arange(len(chosen)), np.diff(part.indptr))
        indices[:, 1] = part.indices
        return indices, part.data, labels[chosen]

    def batch(number: tf.Tensor) -> tuple[tf.SparseTensor, tf.Tensor]:
        # SciPy gathers them in a fifteenth of the time of TensorFlow, on cores that the step needs.
        indices, values, y = tf.numpy_function(
            gather, [number], (tf.int64, tf.float32, tf.float32), stateful=False
        )
        for part, shape in ((indices, (None, 2)), (values, (None,)), (y, (None, 1))):
            part.set_shape(shape)
        shape = tf.stack([tf.shape(y, tf.int64)[0], reviews.num_words])
        return tf.SparseTensor(indices, values, shape), y

    numbers = tf.data.Dataset.counter() if seed is not None else tf.data.Dataset.range(steps)
    options = tf.data.Options()
    options.autotune.enabled = False  # It stalls the start of many an epoch for 0.2 s.
    return numbers.map(batch).prefetch(2).with_options(options)


@functools.lru_cache(maxsize=2)
def _in_order(reviews: Reviews, part: str) -> tf.data.Dataset:
    """The validation or test reviews, in a few large batches, for all runs of a process."""
    return batches(reviews, getattr(reviews, part), EVALUATION_BATCH).cache()


@functools.lru_cache(maxsize=1)
def _matrix(reviews: Reviews) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """All reviews as a sparse matrix and their labels as a column, once for all runs of a process."""
    return reviews.matrix(), reviews.labels.astype(np.float32)[:, np.newaxis]
