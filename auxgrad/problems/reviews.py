"""Sentiment of movie reviews; weight decay is the auxiliary direction."""

from __future__ import annotations

import functools

import keras
import numpy as np
import tensorflow as tf

from auxgrad.auxiliaries import WeightDecay
from auxgrad.config import ProblemConfig
from auxgrad.data import Reviews
from auxgrad.problems import Problem
from auxgrad.sparse import SparseDense


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
        validation=_in_order(reviews, "validation", config.batch_size),
        test=_in_order(reviews, "test", config.batch_size),
        train_size=len(reviews.train),
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

    With a seed the rows are shuffled anew in every epoch, always alike; without, they keep their order.
    """
    # Only row numbers are shuffled and batched; the reviews themselves are gathered in the graph.
    columns, labels = _tensors(reviews)

    def gather(batch: tf.Tensor) -> tuple[tf.SparseTensor, tf.Tensor]:
        gathered = tf.gather(columns, batch)
        indices = tf.stack([gathered.value_rowids(), tf.cast(gathered.values, tf.int64)], axis=1)
        shape = [tf.shape(batch, tf.int64)[0], reviews.num_words]
        x = tf.SparseTensor(indices, tf.ones_like(gathered.values, tf.float32), shape)
        return x, tf.gather(labels, batch)[:, tf.newaxis]

    dataset = tf.data.Dataset.from_tensor_slices(rows)
    if seed is not None:
        dataset = dataset.shuffle(len(rows), seed=seed, reshuffle_each_iteration=True)
    return dataset.batch(batch_size).map(gather).prefetch(2)


@functools.lru_cache(maxsize=2)
def _in_order(reviews: Reviews, part: str, batch_size: int) -> tf.data.Dataset:
    """Batches of the validation or test reviews, built once for all runs of a process."""
    return batches(reviews, getattr(reviews, part), batch_size)


@functools.lru_cache(maxsize=1)
def _tensors(reviews: Reviews) -> tuple[tf.RaggedTensor, tf.Tensor]:
    """Columns and labels of all reviews, once for all data sets and runs of a process."""
    columns = tf.RaggedTensor.from_row_splits(
        tf.constant(reviews.indices.astype(np.int32)), tf.constant(reviews.indptr), validate=False
    )
    return columns, tf.constant(reviews.labels.astype(np.float32))
