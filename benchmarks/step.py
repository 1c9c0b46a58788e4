"""The optimisation step against the same algorithm eager and dense, in one process, taken in turns.

    python benchmarks/step.py

Batches of imdb25k, the published network. The eager, dense version is the one a person writes first:
float32 multi-hot input, a gradient tape, one censoring after the other with NumPy.
"""

from __future__ import annotations

import itertools
import resource
import statistics
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from auxgrad import AuxiliaryModel
from auxgrad.config import Config, compose
from auxgrad.data import load
from auxgrad.problems import Problem, build

ROUNDS, STEPS = 5, 12
SETTINGS: dict[str, Sequence[str]] = {
    "SingleTask": ["mode=SingleTask"],
    "Multitask": ["mode=Multitask"],
    "Projection alpha=0.01": ["mode=Projection"],
    "Projection alpha=1": ["mode=Projection", "alpha=1"],
    "Orthogonal overall": ["mode=Orthogonal", "overall=true"],
}
Step = Callable[[tf.SparseTensor, tf.Tensor], None]


def auxgrad_step(config: Config, problem: Problem) -> Step:
    model = AuxiliaryModel(
        problem.network, problem.auxiliary, config.mode, config.lam, config.alpha, config.overall
    )
    model.compile(problem.optimizer, problem.loss)
    compiled = tf.function(model.train_step, autograph=False)
    return lambda x, y: float(compiled((x, y))["loss"])


def censored(
    config: Config, u: np.ndarray, v: np.ndarray, scalars: tuple[float, float, float]
) -> np.ndarray:
    d, squared_u, squared_v = scalars
    if config.mode == "Multitask" or not (squared_u and squared_v):
        return u
    if config.mode == "Projection":
        return u - min(d, 0) / squared_v * v
    return u - d / squared_v * v


def eager_dense_step(config: Config, network: keras.Model) -> Step:
    optimizer, loss = (
        keras.optimizers.Adam(config.problem.learning_rate),
        keras.losses.BinaryCrossentropy(True),
    )
    variables = network.trainable_variables
    averages = [np.zeros(variable.shape, np.float32) for variable in variables]

    def products(u: np.ndarray, v: np.ndarray) -> tuple[float, float, float]:
        return float(np.vdot(u, v)), float(np.vdot(u, u)), float(np.vdot(v, v))

    def step(x: tf.Tensor, y: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            value = loss(y, network(x, training=True))
        gradients = tape.gradient(value, variables)
        before = [variable.numpy() for variable in variables] if config.mode != "SingleTask" else []
        optimizer.apply(gradients, variables)
        if config.mode != "SingleTask":
            for average, gradient in zip(averages, gradients, strict=True):
                average *= 1 - config.alpha
                average += config.alpha * gradient.numpy()
            each = [products(u, v) for u, v in zip(before, averages, strict=True)]
            total = tuple(np.sum(each, axis=0))
            for variable, u, v, own in zip(variables, before, averages, each, strict=True):
                part = censored(config, u, v, total if config.overall else own)
                variable.assign(variable.numpy() - config.problem.learning_rate * config.lam * part)
        float(value)

    return step


def dense_network(config: Config) -> keras.Model:
    hidden = [keras.layers.Dense(units, "relu") for units in config.problem.hidden]
    return keras.Sequential([keras.Input((config.data.num_words,)), *hidden, keras.layers.Dense(1)])


def milliseconds(step: Step, batches: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> list[float]:
    times = []
    for x, y in batches:
        started = time.perf_counter()
        step(x, y)
        times.append(1000 * (time.perf_counter() - started))
    return times


def main() -> None:
    reviews = load(compose().data, print)
    print("| step | auxgrad, ms | eager dense, ms | ratio |\n|---|---|---|---|")
    for name, overrides in SETTINGS.items():
        config = compose(overrides)
        problem = build(config.problem, reviews, config.seed)
        sparse = list(problem.train.take(STEPS))
        dense = [(tf.sparse.to_dense(x), y) for x, y in sparse]
        ours, theirs = auxgrad_step(config, problem), eager_dense_step(config, dense_network(config))
        milliseconds(ours, sparse[:2]), milliseconds(theirs, dense[:2])
        rounds = [(milliseconds(ours, sparse), milliseconds(theirs, dense)) for _ in range(ROUNDS)]
        fast, slow = (statistics.median(itertools.chain(*part)) for part in zip(*rounds, strict=True))
        print(f"| {name} | {fast:.1f} | {slow:.1f} | {slow / fast:.1f} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory {peak:,.0f} MB, both versions together")


if __name__ == "__main__":
    main()
