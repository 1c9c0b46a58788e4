"""AuxiliaryModel in all that Keras' training knows, against loops written by hand."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxgrad
from auxgrad import AuxiliaryLoss, AuxiliaryModel, Mode, SparseDense, WeightDecay

MSE = keras.losses.MeanSquaredError()
RATE, LAM, ALPHA, STEPS = 0.1, 2.0, 0.3, 4


@keras.saving.register_keras_serializable("tests")
def side_loss(x, y, y_pred):
    return tf.reduce_sum((y_pred["side"] - y["y"]) ** 2, axis=-1)


KINDS = {"decay": WeightDecay(), "loss": AuxiliaryLoss(side_loss)}
both = pytest.mark.parametrize("kind", KINDS)


def network(between=None, **hidden):
    """Two outputs; the primary loss is on y alone, so that the head of the other has no gradient."""
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


def dataset(steps=STEPS):
    return tf.data.Dataset.from_generator(
        lambda: iter(batches(steps)),
        output_signature=(tf.TensorSpec((8, 5)), {"y": tf.TensorSpec((8, 1))}),
    ).apply(tf.data.experimental.assert_cardinality(steps))


def auxiliary_model(net, kind, optimizer, **options):
    model = AuxiliaryModel(net, KINDS[kind], "Projection", LAM, ALPHA)
    model.compile(optimizer, {"y": MSE}, **options)
    return model


def trained(net, kind, optimizer, data=None):
    """The network after a step on each batch."""
    model = auxiliary_model(net, kind, optimizer)
    for x, y in batches() if data is None else data:
        model.train_on_batch(x, y)
    return net


def by_hand(net, kind, update, rates=(RATE,) * STEPS, data=None):
    """The network after the same steps; `update` takes the total gradients as an optimizer does."""
    variables = net.trainable_variables
    average = [np.zeros(variable.shape, np.float32) for variable in variables]
    for rate, (x, y) in zip(rates, batches() if data is None else data, strict=True):
        with tf.GradientTape(persistent=True) as tape:
            y_pred = net(x, training=True)
            primary, auxiliary = MSE(y["y"], y_pred["y"]), tf.reduce_mean(side_loss(x, y, y_pred))
        values = [variable.value for variable in variables]
        total = tape.gradient(primary, values)
        average = [
            v if g is None else (1 - ALPHA) * v + ALPHA * g.numpy() for v, g in zip(average, total)
        ]
        reference = [None if g is None else v for v, g in zip(average, total)]
        u = tape.gradient(auxiliary, values) if kind == "loss" else [v.numpy() for v in variables]
        parts = [
            0.0 if p is None else LAM * p.numpy() for p in auxgrad.censor(u, reference, "Projection")
        ]
        if kind == "loss":
            total = [p if g is None else g + p for g, p in zip(total, parts)]
        update([(g, variable) for g, variable in zip(total, variables) if g is not None])
        for variable, part in zip(variables, parts if kind == "decay" else ()):
            constraint = variable.constraint or (lambda value: value)
            variable.assign(constraint(variable.value - rate * part))
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


@both
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
        trained(network(), kind, keras.optimizers.SGD(RATE, **limit)), by_hand(network(), kind, descend)
    )


@both
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
        model = auxiliary_model(net, kind, keras.optimizers.SGD(schedule, momentum=0.9))
        model.fit(dataset(), verbose=0)
    else:
        model = auxiliary_model(net, kind, keras.optimizers.SGD(1.0, momentum=0.9))
        callback = keras.callbacks.LearningRateScheduler(lambda epoch, _: rates[epoch])
        for epoch, (x, y) in enumerate(batches()):
            last = epoch + 1
            model.fit(x, y, 8, initial_epoch=epoch, epochs=last, callbacks=[callback], verbose=0)
    assert_alike(net, by_hand(network(), kind, descend, rates))


@both
def test_averaged_weights_and_their_return(kind):
    """`use_ema`: every third step the weights become their average, and so they do at the end."""
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

    wanted = network()
    by_hand(wanted, kind, descend)
    assert_alike(trained(network(), kind, keras.optimizers.SGD(RATE, **options)), wanted)
    net = network()
    auxiliary_model(net, kind, keras.optimizers.SGD(RATE, **options)).fit(dataset(), verbose=0)
    for variable in net.trainable_variables:
        np.testing.assert_allclose(variable, average[-1][variable.path], rtol=1e-4, atol=1e-5)


@both
def test_constraints_hold_after_every_step(kind):
    def constrained():
        return network(kernel_constraint=keras.constraints.UnitNorm(axis=0))

    net = trained(constrained(), kind, keras.optimizers.Adam(RATE))
    norms = np.linalg.norm(net.get_layer("hidden").kernel, axis=0)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    assert_alike(net, by_hand(constrained(), kind, keras.optimizers.Adam(RATE).apply_gradients))


@both
@pytest.mark.parametrize("build", ["functional", "subclassed"])
def test_sparse_input_in_sixteen_bits(kind, build):
    """As the dense layer on dense input, in the same policy."""
    rng = np.random.default_rng(1)
    x = (rng.random((16, 30)) < 0.2).astype(np.float32)
    y = {"y": x[:, :1]}
    nets = []
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for kind_of_layer, data in ((SparseDense, tf.sparse.from_dense(x)), (keras.layers.Dense, x)):
            keras.utils.set_random_seed(0)
            net = Heads(kind_of_layer)
            if build == "functional":
                inputs = keras.Input((30,), sparse=kind_of_layer is SparseDense)
                net = keras.Model(inputs, net.call(inputs))
            nets.append(trained(net, kind, "adam", [(data, y)] * 3))
    finally:
        keras.config.set_dtype_policy(policy)
    for variable in nets[0].variables:
        assert variable.dtype == "float32"
        assert np.isfinite(variable).all()
    assert_alike(*nets, rtol=0.02, atol=1e-3)  # Three steps of Adam are of 1e-3 each.


def test_auxiliary_losses_get_outputs_of_full_precision():
    y_pred = {"side": tf.cast([[1.0], [2.0]], tf.bfloat16)}
    y = {"y": tf.constant([[0.0009765625], [0.0]]), "side": tf.constant([[0.0009765625], [0.0]])}
    for loss in (side_loss, {"side": "mse"}, {"side": MSE}):
        value = AuxiliaryLoss(loss).value("side", None, y, y_pred)
        assert value.dtype == tf.float32
        assert float(value) == pytest.approx(((1 - 0.0009765625) ** 2 + 4) / 2, rel=1e-6)


@keras.saving.register_keras_serializable("tests")
class Heads(keras.Model):
    """As a person writes a model: no `build`, no `get_config` for what it does not take."""

    def __init__(self, layer=keras.layers.Dense, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layer(6, activation="tanh")
        self.heads = {name: keras.layers.Dense(1) for name in ("y", "side")}

    def call(self, inputs):
        shared = self.hidden(inputs)
        return {name: head(shared) for name, head in self.heads.items()}


@both
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
    model.fit(dataset(), verbose=0)
    assert_alike(net, wanted)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(dataset(), verbose=0)
    assert_alike(model, loaded, rtol=0, atol=0)


@both
def test_moving_statistics_go_on_once_a_step(kind):
    net = trained(network(keras.layers.BatchNormalization), kind, keras.optimizers.SGD(RATE))
    wanted = network(keras.layers.BatchNormalization)
    assert_alike(net, by_hand(wanted, kind, keras.optimizers.SGD(RATE).apply_gradients))
    # Where weights stay as they are, Keras' own training makes the same forward passes.
    net = trained(network(keras.layers.BatchNormalization), kind, keras.optimizers.SGD(0.0))
    plain = network(keras.layers.BatchNormalization)
    plain.compile(keras.optimizers.SGD(0.0), {"y": MSE})
    plain.fit(dataset(), verbose=0)
    assert_alike(net, plain)


@both
def test_dropout_has_one_mask_a_step_and_the_same_again(kind):
    dropout = functools.partial(keras.layers.Dropout, 0.5, seed=3)
    nets = [trained(network(dropout), kind, keras.optimizers.SGD(RATE)) for _ in range(2)]
    assert_alike(*nets, rtol=0, atol=0)
    assert_alike(nets[0], by_hand(network(dropout), kind, keras.optimizers.SGD(RATE).apply_gradients))


class Interrupted(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.steps == STEPS + 2:
            raise KeyboardInterrupt


@both
@pytest.mark.parametrize("again", ["same model", "new model"])
def test_training_that_is_resumed_ends_alike(kind, again, tmp_path):
    def model():
        return auxiliary_model(network(), kind, "adam")

    whole, broken = model(), model()
    whole.fit(dataset(), epochs=3, verbose=0)
    callbacks = [keras.callbacks.BackupAndRestore(tmp_path / "backup"), Interrupted()]
    with pytest.raises(KeyboardInterrupt):
        broken.fit(dataset(), epochs=3, callbacks=callbacks, verbose=0)
    resumed = broken if again == "same model" else model()
    history = resumed.fit(dataset(), epochs=3, callbacks=callbacks[:1], verbose=0)
    assert history.epoch == [1, 2]
    assert len(resumed.weights) > len(resumed.network.weights)  # The averages.
    assert_alike(resumed, whole, rtol=0, atol=0)


def unregistered_loss(x, y, y_pred):
    return side_loss(x, y, y_pred)


def halfway(d, U, V):
    return tf.ones_like(d), -0.5 * tf.minimum(d, 0.0) / V


class UnregisteredLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return tf.reduce_mean((y_true - y_pred) ** 2, axis=-1)


@pytest.mark.parametrize(
    ("auxiliary", "mode", "line", "known"),
    [
        (AuxiliaryLoss(unregistered_loss), "Projection", "the auxiliary loss '{}'", unregistered_loss),
        (
            AuxiliaryLoss({"side": UnregisteredLoss()}),
            "Projection",
            "output 'side': the auxiliary loss '{}'",
            UnregisteredLoss,
        ),
        (None, Mode("Half", halfway), "mode 'Half': the rule '{}'", halfway),
    ],
    ids=["function", "class", "rule"],
)
def test_what_is_not_registered_is_named(auxiliary, mode, line, known, tmp_path):
    model = AuxiliaryModel(network(), auxiliary, mode)
    model.save(tmp_path / "model.keras")
    name = known.__name__
    with pytest.raises(
        ValueError, match=line.format(name) + " is not registered: .*register_keras"
    ) as error:
        keras.saving.load_model(tmp_path / "model.keras")
    assert f"custom_objects={{'{name}': ...}}" in str(error.value)
    assert "\n" not in str(error.value)
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={name: known})
    assert loaded.get_config() == model.get_config()


@keras.saving.register_keras_serializable("tests")
class Broken(UnregisteredLoss):
    @classmethod
    def from_config(cls, config):
        raise ValueError("broken")


def test_what_cannot_be_saved_is_named_and_other_errors_stay(tmp_path):
    for auxiliary, mode, line in (
        (
            AuxiliaryLoss(functools.partial(side_loss)),
            "Projection",
            "the auxiliary loss functools.partial",
        ),
        (None, functools.partial(halfway), "mode 'partial': the rule functools.partial"),
    ):
        with pytest.raises(
            ValueError, match=line + ".* cannot be saved: write it as a function with `def`"
        ):
            AuxiliaryModel(network(), auxiliary, mode).save(tmp_path / "model.keras")
    AuxiliaryModel(network(), AuxiliaryLoss({"side": Broken()})).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="^broken$"):
        keras.saving.load_model(tmp_path / "model.keras")
