"""The network for movie reviews and its training."""

from __future__ import annotations

import keras
import numpy as np

from auxgrad.config.schema import ProblemConfig
from auxgrad.problems.base import Training
from auxgrad.training.auxiliaries import WeightDecay
from auxgrad.training.sparse import SparseDense


def build(options: ProblemConfig, inputs: int, seed: int) -> Training:
    """Return a new network of dense relu layers and one logit for multi-hot vectors of that width."""
    # The first number fixes the order of the batches; see `auxgrad.execution.trainer`.
    _, *seeds = np.random.SeedSequence(seed).generate_state(len(options.hidden) + 2)
    widths = (*options.hidden, 1)
    x = outputs = keras.Input((inputs,), sparse=True, name="reviews")
    for i, (units, layer_seed) in enumerate(zip(widths, seeds, strict=True)):
        last = i == len(widths) - 1
        layer = SparseDense if i == 0 else keras.layers.Dense
        outputs = layer(
            units,
            activation=None if last else "relu",
            kernel_initializer=keras.initializers.GlorotUniform(int(layer_seed)),
            name="logit" if last else f"hidden_{i + 1}",
        )(outputs)
    return Training(
        network=keras.Model(x, outputs, name="reviews"),
        auxiliary=WeightDecay(),
        optimizer=keras.optimizers.Adam(options.learning_rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        loss_label="cross-entropy, nats",
        metrics=[keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)],  # Of the logit.
        batch_size=options.batch_size,
        epochs=options.epochs,
        patience=options.patience,
        description=(
            f"{'-'.join(str(width) for width in (inputs, *widths))} dense, "
            f"Adam {options.learning_rate:g}, batches of {options.batch_size}"
        ),
    )
