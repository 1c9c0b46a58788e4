"""Streams of batches: the primary task, and auxiliary losses with their own data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

PRIMARY, AUXILIARY = "auxgrad.primary", "auxgrad.auxiliary"


def zip_streams(primary: tf.data.Dataset, auxiliary: Mapping[str, tf.data.Dataset]) -> tf.data.Dataset:
    """Return a data set for `AuxiliaryModel.fit` in which auxiliary losses have their own data.

    Each training step takes one batch of every stream. The primary loss is computed on the batch of
    `primary`, and an auxiliary loss on the batch of the stream with its name. An auxiliary loss without
    a stream uses the primary batch. `evaluate`, `predict` and validation take plain data.

    Args:
        primary: Batches (x, y) or (x, y, sample_weight) of the primary task.
        auxiliary: Batches of the same form for each auxiliary loss with its own data, by name.

    Returns:
        A data set with as many steps as the shortest stream.

    Examples:
        >>> x = tf.zeros((4, 3))
        >>> stream = tf.data.Dataset.from_tensor_slices((x, x)).batch(2)
        >>> len(list(zip_streams(stream, {"copy": stream.repeat()})))
        2
    """
    return tf.data.Dataset.zip({PRIMARY: primary, AUXILIARY: dict(auxiliary)})


@dataclass(frozen=True)
class Batches:
    """The batches of a step.

    Attributes:
        primary: (x, y, sample_weight) of the primary task.
        own: (x, y, sample_weight) of each auxiliary loss with its own data, by name.
    """

    primary: tuple[Any, Any, Any]
    own: Mapping[str, tuple[Any, Any, Any]]

    def size(self, name: str | None = None) -> tf.Tensor:
        """Return the number of examples for the auxiliary loss of this name, or the primary loss."""
        x = self.own.get(name, self.primary)[0] if name else self.primary[0]
        return tf.shape(tf.nest.flatten(x)[0])[0]


def split(data: Any) -> Batches:
    """Return the batches of a step, from an element of the data of `fit`, `evaluate` or `predict`."""
    unpack = keras.utils.unpack_x_y_sample_weight
    if isinstance(data, dict) and data.keys() == {PRIMARY, AUXILIARY}:
        own = {name: unpack(batch) for name, batch in data[AUXILIARY].items()}
        return Batches(unpack(data[PRIMARY]), own)
    return Batches(unpack(data), {})


def symbolic(inputs: Any) -> keras.KerasTensor:
    """Return a symbolic tensor with the shape and type of an array, tensor or sparse tensor."""
    is_sparse = isinstance(inputs, tf.SparseTensor) or getattr(inputs, "sparse", False)
    return keras.KerasTensor(inputs.shape, inputs.dtype, sparse=is_sparse)
