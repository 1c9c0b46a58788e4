"""Compare AuxiliaryModel with loops written by hand, for all features of Keras' training."""

from __future__ import annotations

import functools
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxgrad
from auxgrad import AuxiliaryLoss, AuxiliaryModel, SparseDense, WeightDecay

MSE = keras.losses.MeanSquaredError()
RATE, LAM, ALPHA, STEPS = 0.1, 2.0, 0.3, 4


@keras.saving.register_keras_serializable("tests")
def side_loss(x, y, y_pred):
    return tf.reduce_sum((y_pred["side"] - y["y"]) ** 2, axis=-1)


KINDS = {"decay": WeightDecay(), "loss": AuxiliaryLoss(side_loss)}
# Each kind compiles a model of its own. The default suite has the kind that matters more to a test.
MORE = {kind: pytest.param(kind, marks=pytest.mark.process) for kind in KINDS}
decay_first = pytest.mark.parametrize("kind", ["decay", MORE["loss"]])
loss_first = pytest.mark.parametrize("kind", ["loss", MORE["decay"]])


def network(between=None, **hidden):
    """A network with two outputs; the primary loss uses only y, so the other head has no gradient."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    shared = keras.layers.Dense(6, activation="tanh", name="hidden", **hidden)(inputs)
    shared = between()(shared) if between else shared
    return keras.Model(
        inputs, {name: keras.layers.Dense(1, name=name)(shared) for name in ("y", "side")}
    )


def batches(steps=STEPS, rows=8):
    rng = np.random.default_rng(0)
    xs = [rng.normal(1.0, 2.0, size=(rows, 5)).astype(np.float32) for _ in range(steps)]
    return [(x, {"y": x[:, :1] * x[:, 1:2]}) for x in xs]


def fit(model, **options):
    """Train by Keras' loop; it takes the same steps as `train_on_batch` on each batch."""
    xs, ys = zip(*batches(), strict=True)
    x, y = np.concatenate(xs), {"y": np.concatenate([each["y"] for each in ys])}
    return model.fit(x, y, batch_size=len(xs[0]), shuffle=False, verbose=0, **options)


def auxiliary_model(net, kind, optimizer, xla=False):
    model = AuxiliaryModel(net, KINDS[kind], "Projection", LAM, ALPHA)
    model.compile(optimizer, {"y": MSE}, jit_compile=xla)
    return model


def trained(net, kind, optimizer, data=None, xla=False):
    """Return the network after a step on each batch."""
    model = auxiliary_model(net, kind, optimizer, xla)
    for x, y in data or batches():
        model.train_on_batch(x, y)
    return net


def by_hand(net, kind, update, rates=(RATE,) * STEPS):
    """Return the network after the same steps; `update` takes total gradients, as an optimizer does."""
    variables = net.trainable_variables
    average = [np.zeros(variable.shape, np.float32) for variable in variables]
    for rate, (x, y) in zip(rates, batches(), strict=True):
        with tf.GradientTape(persistent=True) as tape:
            y_pred = net(x, training=True)
            primary, auxiliary = MSE(y["y"], y_pred["y"]), tf.reduce_mean(side_loss(x, y, y_pred))
        values = [variable.value for variable in variables]
        total = tape.gradient(primary, values)
        reference = list(total)
        for i, g in enumerate(total):
            if g is not None:
                reference[i] = average[i] = (1 - ALPHA) * average[i] + ALPHA * g.numpy()
        u = tape.gradient(auxiliary, values) if kind == "loss" else [v.numpy() for v in variables]
        censored = auxgrad.censor(u, reference, "Projection")
        parts = {i: LAM * part.numpy() for i, part in enumerate(censored) if part is not None}
        for i in parts if kind == "loss" else ():
            total[i] = parts[i] if total[i] is None else total[i] + parts[i]
        update([(g, variable) for g, variable in zip(total, variables, strict=True) if g is not None])
        for i in parts if kind == "decay" else ():
            constraint = variables[i].constraint or (lambda value: value)
            variables[i].assign(constraint(variables[i].value - rate * parts[i]))
    return net


def assert_alike(mine, wanted, rtol=1e-4, atol=1e-5):
    for a, b in zip(mine.weights, wanted.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=a.path)


def clipped(gradients, clipnorm=None, global_clipnorm=None, clipvalue=None):
    norms = [np.linalg.norm(g) for g in gradients]
    if clipvalue:
        return [np.clip(g, -clipvalue, clipvalue) for g in gradients]
    if clipnorm:
        return [g * min(1, clipnorm / norm) for g, norm in zip(gradients, norms, strict=True)]
    return [g * min(1, global_clipnorm / np.linalg.norm(norms)) for g in gradients]


@decay_first
@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm", "clipvalue"])
def test_clipping_is_of_the_total_and_not_of_decay(kind, clip):
    limit = {clip: 0.3}

    def descend(pairs):
        gradients = [np.array(g) for g, _ in pairs]
        limited = clipped(gradients, **limit)
        assert any(np.abs(a - b).max() > 0.1 for a, b in zip(gradients, limited, strict=True))
        for part, (_, variable) in zip(limited, pairs, strict=True):
            variable.assign_sub(RATE * part)

    assert_alike(
        trained(network(), kind, keras.optimizers.SGD(RATE, **limit), xla=True),
        by_hand(network(), kind, descend),
    )


@decay_first
@pytest.mark.parametrize("who", ["schedule", "callback"])
def test_decay_has_the_learning_rate_of_its_own_step(kind, who):
    rates = [RATE * 0.5**step for step in range(STEPS)]
    plain = keras.optimizers.SGD(RATE, momentum=0.9)
    left = iter(rates)

    def descend(pairs):
        plain.learning_rate = next(left)
        plain.apply_gradients(pairs)

    net = network()
    if who == "schedule":
        schedule = keras.optimizers.schedules.ExponentialDecay(RATE, decay_steps=1, decay_rate=0.5)
        fit(auxiliary_model(net, kind, keras.optimizers.SGD(schedule, momentum=0.9), xla=True))
    else:
        model = auxiliary_model(net, kind, keras.optimizers.SGD(1.0, momentum=0.9), xla=True)
        callback = keras.callbacks.LearningRateScheduler(lambda epoch, _: rates[epoch])
        for i, (x, y) in enumerate(batches()):
            model.fit(x, y, 8, initial_epoch=i, epochs=i + 1, callbacks=[callback], verbose=0)
    assert_alike(net, by_hand(network(), kind, descend, rates))


@decay_first
def test_averaged_weights_and_their_return(kind):
    """With `use_ema` the weights become their average every third step and at the end."""
    options = {"use_ema": True, "ema_momentum": 0.6, "ema_overwrite_frequency": 3}
    average = []

    def descend(pairs):
        number = len(average) + 1
        for g, variable in pairs:
            variable.assign_sub(RATE * g)
        found = {variable.path: variable.numpy() for variable in wanted.trainable_variables}
        average.append(
            {path: 0.6 * average[-1][path] + 0.4 * now for path, now in found.items()}
            if average
            else found
        )
        for variable in wanted.trainable_variables if number % 3 == 0 else ():
            variable.assign(average[-1][variable.path])

    wanted, net = network(), network()
    by_hand(wanted, kind, descend)
    model = auxiliary_model(net, kind, keras.optimizers.SGD(RATE, **options), xla=True)
    for x, y in batches():
        model.train_on_batch(x, y)
    assert_alike(net, wanted)
    model.optimizer.finalize_variable_values(net.trainable_variables)  # `fit` does the same at its end.
    for variable in net.trainable_variables:
        np.testing.assert_allclose(variable, average[-1][variable.path], rtol=1e-4, atol=1e-5)


@decay_first
def test_constraints_hold_after_every_step(kind):
    def constrained():
        return network(kernel_constraint=keras.constraints.UnitNorm(axis=0))

    net = trained(constrained(), kind, keras.optimizers.Adam(RATE), xla=True)
    norms = np.linalg.norm(net.get_layer("hidden").kernel, axis=0)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    assert_alike(net, by_hand(constrained(), kind, keras.optimizers.Adam(RATE).apply_gradients))


@loss_first
def test_sparse_input_in_sixteen_bits(kind):
    """The result is that of the dense layer on dense input, with the same policy."""
    x = (np.random.default_rng(1).random((16, 30)) < 0.2).astype(np.float32)
    nets = []
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for sparse in (True, False):
            keras.utils.set_random_seed(0)
            data = [(tf.sparse.from_dense(x) if sparse else x, {"y": x[:, :1]})] * 3
            nets.append(trained(Heads(sparse), kind, keras.optimizers.SGD(RATE), data, xla=True))
    finally:
        keras.config.set_dtype_policy(policy)
    for variable in nets[0].variables:
        assert variable.dtype == "float32"
        assert np.isfinite(variable).all()
    assert_alike(*nets, rtol=0.02, atol=0.002)


def test_auxiliary_losses_get_outputs_of_full_precision():
    y_pred = {"side": tf.cast([[1.0], [2.0]], tf.bfloat16)}
    y = {"y": tf.constant([[0.0009765625], [0.0]]), "side": tf.constant([[0.0009765625], [0.0]])}
    for loss in (side_loss, {"side": "mse"}, {"side": MSE}):
        value = AuxiliaryLoss(loss).value("side", None, y, y_pred)
        assert value.dtype == tf.float32
        assert float(value) == pytest.approx(((1 - 0.0009765625) ** 2 + 4) / 2, rel=1e-6)


@keras.saving.register_keras_serializable("tests")
class Heads(keras.Model):
    """A user's model without `build`."""

    def __init__(self, sparse=False, **kwargs):
        super().__init__(**kwargs)
        self.hidden = (SparseDense if sparse else keras.layers.Dense)(6, activation="tanh")
        self.heads = {name: keras.layers.Dense(1) for name in ("y", "side")}

    def call(self, inputs):
        shared = self.hidden(inputs)
        return {name: head(shared) for name, head in self.heads.items()}


@loss_first
def test_networks_that_are_built_by_their_first_batch(kind, tmp_path):
    def fresh():
        keras.utils.set_random_seed(0)
        return Heads()

    wanted = fresh()
    wanted(batches()[0][0])
    by_hand(wanted, kind, keras.optimizers.Adam(RATE).apply_gradients)
    net = fresh()
    model = auxiliary_model(net, kind, keras.optimizers.Adam(RATE))
    assert not net.built
    fit(model)
    assert_alike(net, wanted)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        fit(each)
    assert_alike(model, loaded, rtol=0, atol=0)


@loss_first
def test_moving_statistics_go_on_once_a_step(kind):
    net = trained(network(keras.layers.BatchNormalization), kind, keras.optimizers.SGD(RATE))
    wanted = network(keras.layers.BatchNormalization)
    assert_alike(net, by_hand(wanted, kind, keras.optimizers.SGD(RATE).apply_gradients))
    # If the weights do not change, Keras' own training makes the same forward passes.
    still, plain = network(keras.layers.BatchNormalization), network(keras.layers.BatchNormalization)
    trained(still, kind, keras.optimizers.SGD(0.0))
    plain.compile(keras.optimizers.SGD(0.0), {"y": MSE}, run_eagerly=True)
    fit(plain)
    assert_alike(still, plain)


@loss_first
def test_dropout_has_one_mask_a_step_and_the_same_again(kind):
    dropout = functools.partial(keras.layers.Dropout, 0.5, seed=3)
    nets = [trained(network(dropout), kind, keras.optimizers.SGD(RATE)) for _ in range(2)]
    assert_alike(*nets, rtol=0, atol=0)
    assert_alike(nets[0], by_hand(network(dropout), kind, keras.optimizers.SGD(RATE).apply_gradients))


class Interrupted(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.steps == STEPS + 2:
            raise KeyboardInterrupt


@loss_first
def test_training_that_is_resumed_ends_alike(kind, tmp_path):
    whole, broken, new = (auxiliary_model(network(), kind, "adam") for _ in range(3))
    fit(whole, epochs=3)
    backup = [keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)]
    with pytest.raises(KeyboardInterrupt):
        fit(broken, epochs=3, callbacks=[*backup, Interrupted()])
    shutil.copytree(tmp_path / "backup", tmp_path / "copy")
    for resumed, folder in ((broken, "backup"), (new, "copy")):
        callback = keras.callbacks.BackupAndRestore(tmp_path / folder)
        assert fit(resumed, epochs=3, callbacks=[callback]).epoch == [1, 2]
        assert_alike(resumed, whole, rtol=0, atol=0)
    assert len(whole.weights) == 2 * len(whole.network.weights)  # The averages.
