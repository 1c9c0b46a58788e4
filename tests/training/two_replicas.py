"""Train on one and on two devices, and print the largest differences as JSON."""

from __future__ import annotations

import contextlib
import json

import keras
import numpy as np
import tensorflow as tf

from auxgrad import AuxiliaryLoss, AuxiliaryModel, WeightDecay

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype(np.float32)
Y = {"main": 2 * X[:, :1], "other": X[:, 1:2] - X[:, :1]}


def weighted_other(x, y, y_pred):
    return keras.losses.mean_squared_error(y["other"], y_pred["other"]) * (1 + abs(x[:, 0]))


AUXILIARIES = {
    "loss": lambda: AuxiliaryLoss({"other": "mse"}),
    "function and decay": lambda: {"other": AuxiliaryLoss(weighted_other), "decay": WeightDecay(0.1)},
}
OPTIMIZERS = {
    "plain": lambda: keras.optimizers.Adam(0.01),
    "clipped": lambda: keras.optimizers.Adam(0.01, clipnorm=0.01),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
}
CASES = [
    ("loss", "plain", "Projection", "first"),
    ("function and decay", "clipped", "Orthogonal", "zero"),
    ("loss", "scaled", "Projection", "zero"),
    ("function and decay", "plain", "GradVac", "zero"),
]


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    constraint = keras.constraints.MaxNorm(0.8)
    hidden = keras.layers.Dense(8, "tanh", kernel_constraint=constraint, name="hidden")(inputs)
    return keras.Model(inputs, {name: keras.layers.Dense(1, name=name)(hidden) for name in Y})


def train(scope, auxiliary, optimizer, mode, start):
    with scope:
        model = AuxiliaryModel(network(), AUXILIARIES[auxiliary](), mode, alpha=0.1, start=start)
        model.compile(OPTIMIZERS[optimizer](), loss={"main": "mse"}, jit_compile=False)
    history = model.fit(X, Y, batch_size=16, epochs=3, shuffle=False, verbose=0, validation_data=(X, Y))
    numbers = {**history.history, **model.censoring_statistics(), "steps": model.batch_losses()}
    weights = {f"weight {i}": weight for i, weight in enumerate(model.network.get_weights())}
    return {name: np.asarray(value, np.float64) for name, value in {**numbers, **weights}.items()}


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found = {}
    for case in CASES:
        one, two = (train(scope, *case) for scope in (contextlib.nullcontext(), strategy.scope()))
        differences = {name: float(np.abs(one[name] - two[name]).max()) for name in one}
        found[", ".join(case)] = differences | {"names": [*one] == [*two]}
    try:
        with strategy.scope():
            adam = keras.optimizers.Adam(gradient_accumulation_steps=2)
            AuxiliaryModel(network()).compile(adam, "mse")
    except ValueError as error:
        found["error"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
