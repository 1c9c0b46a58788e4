"""Optimizers that scale losses, skip steps or accumulate gradients censor the same gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from auxgrad import AuxiliaryLoss, AuxiliaryModel, WeightDecay

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype(np.float32)
Y = {"main": 2 * X[:, :1], "other": X[:, 1:2] - X[:, :1]}


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, "tanh", name="hidden")(inputs)
    # float32: the logits of a network in mixed precision.
    outputs = {name: keras.layers.Dense(1, dtype="float32", name=name)(hidden) for name in Y}
    return keras.Model(inputs, outputs)


def model(optimizer, mode="Projection", jit_compile=False, **options):
    auxiliary = {"other": AuxiliaryLoss({"other": "mse"}), "decay": WeightDecay(0.1)}
    made = AuxiliaryModel(network(), auxiliary, mode, alpha=0.1, **options)
    made.compile(optimizer, loss={"main": "mse"}, jit_compile=jit_compile)
    return made


def adam(**options):
    return keras.optimizers.Adam(0.01, **options)


def train(trained, steps=3, parts=1):
    size = len(X) // parts
    for _ in range(steps):
        for start in range(0, len(X), size):
            rows = slice(start, start + size)
            trained.train_on_batch(X[rows], {name: y[rows] for name, y in Y.items()})
    return trained


def assert_same(one, other, tolerance=1e-6):
    for left, right in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance)
    statistics = other.censoring_statistics()
    assert one.censoring_statistics() == pytest.approx(statistics, abs=10 * tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "Projection"},
        pytest.param(
            {"mode": "Orthogonal", "overall": True, "start": "first"}, marks=pytest.mark.process
        ),
        {"mode": "SingleTask"},
    ],
    ids=lambda options: options["mode"],
)
def test_accumulated_parts_count_as_one_batch(options):
    whole = train(model(adam(clipnorm=0.01), **options))
    parts = train(model(adam(clipnorm=0.01, gradient_accumulation_steps=4), **options), parts=4)
    assert_same(whole, parts)


def test_nothing_changes_before_the_last_part():
    started = model(adam(gradient_accumulation_steps=4))
    before = [weight.copy() for weight in started.get_weights()]
    started.train_on_batch(X, Y)
    assert all((old == new).all() for old, new in zip(before, started.get_weights(), strict=True))
    assert started.censoring_statistics() == {}


@pytest.mark.process
def test_a_model_saved_between_parts_goes_on_to_the_same_bits(tmp_path):
    whole = train(model(adam(gradient_accumulation_steps=4)), steps=1, parts=16)
    half = model(adam(gradient_accumulation_steps=4))
    for start in range(0, 12, 2):
        half.train_on_batch(X[start : start + 2], {n: y[start : start + 2] for n, y in Y.items()})
    half.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    for start in range(12, 32, 2):
        loaded.train_on_batch(X[start : start + 2], {n: y[start : start + 2] for n, y in Y.items()})
    for left, right in zip(whole.get_weights(), loaded.get_weights(), strict=True):
        assert (left == right).all()


@pytest.mark.process
@pytest.mark.parametrize("mode", ["Projection", "SingleTask"])
def test_scaled_losses_give_the_same_step(mode):
    plain = train(model(adam(), mode))
    assert_same(plain, train(model(adam(loss_scale_factor=256.0), mode)))
    assert_same(plain, train(model(keras.optimizers.LossScaleOptimizer(adam()), mode)))


@pytest.mark.process
def test_scaling_and_accumulation_together():
    plain = train(model(adam()))
    inner = adam(gradient_accumulation_steps=4)
    both = model(keras.optimizers.LossScaleOptimizer(inner), jit_compile=True)
    assert_same(plain, train(both, parts=4))


@pytest.mark.parametrize("output", ["main", "other"])
@pytest.mark.parametrize("steps", [None, pytest.param(2, marks=pytest.mark.process)])
def test_a_step_that_is_not_finite_changes_nothing_but_the_scale(output, steps):
    optimizer = keras.optimizers.LossScaleOptimizer(adam(gradient_accumulation_steps=steps))
    trained = train(model(optimizer), parts=2 if steps else 1)
    before = [weight.copy() for weight in trained.get_weights()]
    statistics, scale = trained.censoring_statistics(), float(optimizer.dynamic_scale)
    trained.train_on_batch(X, {name: y * (np.inf if name == output else 1) for name, y in Y.items()})
    assert float(optimizer.dynamic_scale) == scale / 2
    assert all((old == new).all() for old, new in zip(before, trained.get_weights(), strict=True))
    assert trained.censoring_statistics() == statistics
    if steps:  # A skipped step does not change the sums, either.
        assert_same(train(trained, parts=2), train(model(adam()), steps=6))


@pytest.mark.process
def test_mixed_float16_scales_by_itself():
    policy = keras.config.dtype_policy()
    plain = train(model(adam()), steps=20)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        mixed = train(model(adam()), steps=20)
    finally:
        keras.config.set_dtype_policy(policy)
    assert isinstance(mixed.optimizer, keras.optimizers.LossScaleOptimizer)
    assert_same(plain, mixed, 0.02)
    assert any((a != b).any() for a, b in zip(plain.get_weights(), mixed.get_weights(), strict=True))
