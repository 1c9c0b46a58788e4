"""Batches of the primary task, and of auxiliary losses that have data of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

PRIMARY, AUXILIARY = "auxgrad.primary", "auxgrad.auxiliary"


def zip_streams(primary: tf.data.Dataset, auxiliary: Mapping[str, tf.data.Dataset]) -> tf.data.Dataset:
    """Return a data set for `AuxiliaryModel.fit` whose auxiliary losses have data of their own.

    Each step takes a batch of every stream: the primary loss is computed on that of `primary`, an
    auxiliary loss on that of its own name. `evaluate`, `predict` and validation take plain data.

    Args:
        primary: batches (x, y) or (x, y, sample_weight).
        auxiliary: such batches for each auxiliary loss that has data of its own, by its name.

    Returns:
        A data set as long as the shortest of them.

    >>> x = tf.zeros((4, 3))
    >>> stream = tf.data.Dataset.from_tensor_slices((x, x)).batch(2)
    >>> len(list(zip_streams(stream, {"copy": stream.repeat()})))
    2
    """
    return tf.data.Dataset.zip({PRIMARY: primary, AUXILIARY: dict(auxiliary)})


@dataclass(frozen=True)
class Batches:
    """What a step gets.

    Attributes:
        primary: (x, y, sample_weight).
        own: the same for each auxiliary loss that has data of its own.
    """

    primary: tuple[Any, Any, Any]
    own: Mapping[str, tuple[Any, Any, Any]]

    def size(self, name: str | None = None) -> tf.Tensor:
        """Return the number of examples for an auxiliary loss, or for the primary one."""
        x = self.own.get(name, self.primary)[0] if name else self.primary[0]
        return tf.shape(tf.nest.flatten(x)[0])[0]


def split(data: Any) -> Batches:
    """Return the batches of a step, from what `fit`, `evaluate` or `predict` take."""
    unpack = keras.utils.unpack_x_y_sample_weight
    if isinstance(data, dict) and data.keys() == {PRIMARY, AUXILIARY}:
        own = {name: unpack(batch) for name, batch in data[AUXILIARY].items()}
        return Batches(unpack(data[PRIMARY]), own)
    return Batches(unpack(data), {})


def symbolic(inputs: Any) -> keras.KerasTensor:
    """Return a tensor without values for an array, a tensor or a sparse tensor."""
    is_sparse = isinstance(inputs, tf.SparseTensor) or getattr(inputs, "sparse", False)
    return keras.KerasTensor(inputs.shape, inputs.dtype, sparse=is_sparse)
