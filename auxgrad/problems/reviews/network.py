"""The network for movie reviews."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

import auxgrad


def build(inputs: int, hidden: Sequence[int], seed: int) -> keras.Model:
    """Return a new network of dense relu layers and one logit, for `inputs` multi-hot columns."""
    # Skip the first number, from which the order of the batches is derived; see
    # `auxgrad.execution.trainer`.
    _, *seeds = np.random.SeedSequence(seed).generate_state(len(hidden) + 2)
    widths = (*hidden, 1)
    x = outputs = keras.Input((inputs,), sparse=True, name="reviews")
    for i, (units, layer_seed) in enumerate(zip(widths, seeds, strict=True)):
        last = i == len(widths) - 1
        layer = auxgrad.SparseDense if i == 0 else keras.layers.Dense
        outputs = layer(
            units,
            activation=None if last else "relu",
            kernel_initializer=keras.initializers.GlorotUniform(int(layer_seed)),
            name="logit" if last else f"hidden_{i + 1}",
        )(outputs)
    return keras.Model(x, outputs, name="reviews")
