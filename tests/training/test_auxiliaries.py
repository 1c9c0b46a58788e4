"""Auxiliary losses: by output, as a function, several at once, and with their own data."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxgrad
from auxgrad import AuxiliaryLoss, AuxiliaryModel, WeightDecay
from auxgrad.errors import AuxiliaryError

BCE = keras.losses.BinaryCrossentropy(from_logits=True)
LOSS = {"digit": BCE}
RATE = 0.1


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dense(8, activation="tanh", name="hidden")(inputs)
    outputs = {name: keras.layers.Dense(1, name=name)(hidden) for name in ("digit", "odd")}
    return keras.Model(inputs, outputs)


def batch(rows=16, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, 5)).astype(np.float32)
    return x, {"digit": (x[:, :1] > 0).astype(np.float32), "odd": (x[:, 1:2] > 0).astype(np.float32)}


@keras.saving.register_keras_serializable("tests")
def odd_loss(x, y, y_pred):
    return keras.losses.binary_crossentropy(y["odd"], y_pred["odd"], from_logits=True)


def gradients(net, loss):
    """Return the gradients of a function of the network."""
    values = [variable.value for variable in net.trainable_variables]
    with tf.GradientTape() as tape:
        found = loss(net)
    return tape.gradient(found, values)


def compiled(auxiliary, mode="Projection", lam=1.0, **settings):
    model = AuxiliaryModel(network(), auxiliary, mode, lam, alpha=1.0, **settings)
    model.compile(keras.optimizers.SGD(RATE), LOSS)
    return model


def trained(auxiliary, data=None, **settings):
    """Return the weights after a step of gradient descent, and the logs of the step."""
    model = compiled(auxiliary, **settings)
    net, data = model.network, data or batch()
    if isinstance(data, tf.data.Dataset):
        logs = {name: each[0] for name, each in model.fit(data, verbose=0).history.items()}
    else:
        logs = model.train_on_batch(*data, return_dict=True)
    return net.get_weights(), logs


def assert_near(got, wanted):
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@functools.cache
def by_function():
    return trained(AuxiliaryLoss(odd_loss))


OTHER = keras.losses.BinaryCrossentropy(from_logits=True, name="other")
TWO = {"parity": AuxiliaryLoss({"odd": BCE}, weight=2.0), "none": AuxiliaryLoss(odd_loss, weight=0)}


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(AuxiliaryLoss({"odd": BCE}), id="output"),
        pytest.param(AuxiliaryLoss({"odd": OTHER}), id="another name", marks=pytest.mark.process),
        pytest.param({"parity": AuxiliaryLoss(odd_loss)}, id="named", marks=pytest.mark.process),
        pytest.param(TWO, id="two"),
    ],
)
def test_one_loss_in_several_spellings(same):
    lam = 0.5 if isinstance(same, dict) and len(same) == 2 else 1.0
    weights, logs = trained(same, lam=lam)
    wanted, wanted_logs = by_function()
    assert_near(weights, wanted)
    assert wanted_logs.keys() == {"loss", "odd_loss"}
    name = "parity_loss" if isinstance(same, dict) else "odd_loss"
    assert logs[name] == pytest.approx(wanted_logs["odd_loss"])


@pytest.mark.parametrize("overall", [False, True])
def test_several_are_censored_each_by_itself_and_weighted(overall):
    def l2(x, y, y_pred):
        return 3.0 * tf.reduce_sum(y_pred["digit"] ** 2, axis=-1)

    parts = {
        "odd": AuxiliaryLoss(odd_loss, weight=0.3),
        "l2": AuxiliaryLoss(l2, weight=2.0),
        "decay": WeightDecay(0.5),
    }
    x, y = batch()
    weights, logs = trained(parts, lam=0.7, overall=overall)
    net = network()
    before = [variable.numpy() for variable in net.trainable_variables]
    g = gradients(net, lambda net: BCE(y["digit"], net(x)["digit"]))
    directions = {
        "odd": gradients(net, lambda net: tf.reduce_mean(odd_loss(x, y, net(x)))),
        "l2": gradients(net, lambda net: tf.reduce_mean(l2(x, y, net(x)))),
        "decay": before,
    }
    wanted = [
        theta - RATE * (0 if own is None else own.numpy()) for theta, own in zip(before, g, strict=True)
    ]
    for name, u in directions.items():
        for i, part in enumerate(auxgrad.censor(u, g, "Projection", overall)):
            if part is not None:
                wanted[i] = wanted[i] - RATE * 0.7 * parts[name].weight * part.numpy()
    assert_near(weights, wanted)
    assert logs["l2_loss"] == pytest.approx(float(tf.reduce_mean(l2(x, y, net(x)))), rel=1e-5)
    assert set(logs) == {"loss", "odd_loss", "l2_loss"}


def test_statistics_of_each_auxiliary():
    model = AuxiliaryModel(
        network(), {"odd": AuxiliaryLoss(odd_loss), "decay": WeightDecay()}, "Multitask"
    )
    model.compile("sgd", LOSS)
    model.train_on_batch(*batch())
    found = model.censoring_statistics()
    assert {"cosine/odd/overall", "cosine/decay/overall", "conflict/decay/hidden.kernel"} <= found.keys()
    # The loss of the other output gives no direction for the head of the digit.
    assert "cosine/odd/digit.kernel" not in found


@pytest.mark.parametrize(
    "auxiliary", [AuxiliaryLoss({"odd": BCE}), AuxiliaryLoss(odd_loss)], ids=["Keras", "function"]
)
def test_sample_weights_count_for_every_loss(auxiliary):
    x, y = batch()
    weights = np.linspace(0, 3, len(x)).astype(np.float32)
    _, logs = trained(auxiliary, (x, y, weights), mode="SingleTask")
    outputs = network()(x)
    each = keras.losses.binary_crossentropy(y["odd"], outputs["odd"], from_logits=True)
    assert logs["odd_loss"] == pytest.approx(float(np.mean(weights * each)), rel=1e-5)
    # Rows with weight zero have no effect.
    weights = np.array([1.0] * 12 + [0.0] * 4, np.float32)
    changed = {name: np.where(weights[:, None] > 0, part, 9.0) for name, part in y.items()}
    model, ends = compiled(auxiliary), []
    for targets in (changed, y):
        model.network.set_weights(network().get_weights())
        model.train_on_batch(x, targets, weights)
        ends.append(model.network.get_weights())
    assert_near(*ends)


def test_sample_weights_by_output():
    x, y = batch()
    half = np.full(len(x), 0.5, np.float32)
    _, logs = trained(AuxiliaryLoss({"odd": BCE}), (x, y, {"digit": half, "odd": 3 * half}))
    _, plain = trained(AuxiliaryLoss({"odd": BCE}))
    assert logs["odd_loss"] == pytest.approx(1.5 * plain["odd_loss"], rel=1e-5)
    assert logs["loss"] == pytest.approx(0.5 * plain["loss"], rel=1e-5)


def test_a_loss_with_data_of_its_own():
    (x, y), (own_x, own_y) = batch(), batch(24, seed=1)
    streams = [tf.data.Dataset.from_tensors(part) for part in ((x, y), (own_x, own_y))]
    weights, logs = trained(
        AuxiliaryLoss({"odd": BCE}), auxgrad.zip_streams(streams[0], {"odd": streams[1]})
    )
    net = network()
    before = [variable.numpy() for variable in net.trainable_variables]
    g = gradients(net, lambda net: BCE(y["digit"], net(x)["digit"]))
    u = gradients(net, lambda net: BCE(own_y["odd"], net(own_x)["odd"]))
    total = [
        sum(part.numpy() for part in pair if part is not None)
        for pair in zip(g, auxgrad.censor(u, g, "Projection"), strict=True)
    ]
    assert_near(weights, [a - RATE * b for a, b in zip(before, total, strict=True)])
    assert logs["odd_loss"] == pytest.approx(float(BCE(own_y["odd"], net(own_x)["odd"])), rel=1e-5)


def test_evaluation_and_prediction_take_plain_data():
    x, y = batch()
    digits = tf.data.Dataset.from_tensor_slices((x, {"digit": y["digit"]})).batch(8)
    odd = tf.data.Dataset.from_tensor_slices((x, {"odd": y["odd"]})).batch(4).repeat()
    model = AuxiliaryModel(network(), AuxiliaryLoss({"odd": BCE}))
    model.compile("adam", LOSS)
    history = model.fit(
        auxgrad.zip_streams(digits, {"odd": odd}), validation_data=digits, epochs=2, verbose=0
    ).history
    assert set(history) == {"loss", "odd_loss", "val_loss"}
    assert set(model.evaluate(digits, return_dict=True, verbose=0)) == {"loss"}
    assert model.predict(x, verbose=0)["odd"].shape == (16, 1)
    # If the data has the targets, the loss is logged, too.
    fresh = AuxiliaryModel(network(), AuxiliaryLoss({"odd": BCE}))
    fresh.compile("adam", LOSS)
    logs = fresh.evaluate(x, y, return_dict=True, verbose=0)
    assert logs["odd_loss"] == pytest.approx(float(BCE(y["odd"], network()(x)["odd"])), rel=1e-5)


def test_single_task_ignores_them_but_tells_their_losses():
    x, y = batch()
    weights, logs = trained(AuxiliaryLoss({"odd": BCE}), mode="SingleTask")
    plain = network()
    plain.compile(keras.optimizers.SGD(RATE), LOSS)
    plain.train_on_batch(x, y)
    assert_near(weights, plain.get_weights())
    assert set(logs) == {"loss", "odd_loss"}


def test_several_are_saved_and_loaded(tmp_path):
    parts = {"odd": AuxiliaryLoss({"odd": BCE}, weight=0.3), "other": AuxiliaryLoss(odd_loss, 2.0)}
    model = AuxiliaryModel(network(), {**parts, "decay": WeightDecay(0.01)}, "Orthogonal", 0.5, 0.2)
    model.compile("adam", LOSS)
    model.train_on_batch(*batch())
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert {name: each.weight for name, each in loaded.auxiliaries.items()} == {
        "odd": 0.3,
        "other": 2.0,
        "decay": 0.01,
    }
    for each in (model, loaded):
        each.train_on_batch(*batch(seed=1))
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_lam_is_one_by_default():
    assert AuxiliaryModel(network()).lam == 1.0


HEAD = keras.layers.Dense(3)
HEAD.build((None, 5))


def with_a_layer_of_its_own(x, y, y_pred):
    return tf.reduce_sum(HEAD(x) ** 2, axis=-1)


@pytest.mark.parametrize(
    ("auxiliary", "line"),
    [
        (odd_loss, r"must be a WeightDecay, an AuxiliaryLoss, .*; wrap it: AuxiliaryLoss\(odd_loss\)"),
        ([WeightDecay()], "must be a WeightDecay, an AuxiliaryLoss, or a dict of them by name"),
        ({}, "must be a WeightDecay, an AuxiliaryLoss, or a dict of them by name; mode SingleTask"),
        ({"a": odd_loss}, "auxiliary 'a' is .*: must be a WeightDecay or an AuxiliaryLoss"),
        ({"a b": WeightDecay()}, "auxiliary 'a b': its name must consist of letters, digits and _"),
        ({"digit": AuxiliaryLoss(odd_loss)}, None),
        (AuxiliaryLoss({"even": BCE}), "'even': there is no output 'even'; there are digit, odd"),
        (AuxiliaryLoss("mse"), "'auxiliary': must be a dict by output; there are digit, odd"),
        (
            AuxiliaryLoss(with_a_layer_of_its_own),
            "depends on the variable .*kernel.* not part of the network",
        ),
    ],
)
def test_wrong_auxiliaries_get_one_sentence(auxiliary, line):
    if line is None:
        trained(auxiliary)  # The names do not clash: the loss of a single output has no separate entry.
        return
    with pytest.raises(ValueError, match=line):
        trained(auxiliary)


def test_other_wrong_arguments():
    for make, line in (
        (lambda: AuxiliaryLoss(3), "loss=3: must be a Keras loss, a dict of them by output, or a fun"),
        (lambda: AuxiliaryLoss({}), "must name an output"),
        (lambda: AuxiliaryLoss({"odd": 3}), "loss=3: must be the name of a Keras loss or a"),
        (lambda: WeightDecay(-1), "weight=-1: must be a finite number >= 0"),
        (lambda: AuxiliaryLoss("mse", weight=float("nan")), "weight=nan: must be a finite number"),
    ):
        with pytest.raises(ValueError, match=line):
            make()
    x, y = batch()
    with pytest.raises(ValueError, match="there is no target 'odd'; there are digit"):
        trained(AuxiliaryLoss({"odd": BCE}), (x, {"digit": y["digit"]}))
    with pytest.raises(ValueError, match="has an output of this name, whose loss would be odd_loss"):
        AuxiliaryModel(network(), AuxiliaryLoss({"odd": BCE})).compile("sgd", {"digit": BCE, "odd": BCE})
    weights = np.ones(16, np.float32)
    with pytest.raises(ValueError, match="sample_weight has a part for each output"):
        trained(AuxiliaryLoss(odd_loss), (x, y, {"digit": weights}))
    with pytest.raises(ValueError, match="returns one number; for sample_weight to count"):
        trained(AuxiliaryLoss(lambda x, y, y_pred: tf.reduce_mean(y_pred["odd"])), (x, y, weights))
    stream = tf.data.Dataset.from_tensors((x, y))
    with pytest.raises(ValueError, match=r"a stream for 'copy', which is not an aux.*; there are odd"):
        trained(AuxiliaryLoss(odd_loss), auxgrad.zip_streams(stream, {"copy": stream}))


def pairs(x, y, y_pred):
    return (y["odd"][:, 0] - y_pred["odd"]) ** 2


@pytest.mark.parametrize(
    "auxiliary",
    [
        AuxiliaryLoss(pairs),
        {"pairs": AuxiliaryLoss({"odd": lambda target, output: (target[:, 0] - output) ** 2})},
    ],
    ids=["function", "by output"],
)
@pytest.mark.parametrize("kind", ["one batch", "batches of several sizes", "a single example"])
def test_a_value_for_each_pair_of_examples_is_refused(auxiliary, kind):
    data = batch(1 if kind == "a single example" else 16)
    if kind == "batches of several sizes":
        data = tf.data.Dataset.from_tensor_slices(data).batch(6)
    with pytest.raises(AuxiliaryError) as caught:
        trained(auxiliary, data)
    assert str(caught.value) == (
        "auxiliary loss 'pairs': returns shape (n, n), where n is the batch size; must be a loss for "
        "each example, shape (n,), or their mean; (n,) and (n, 1) broadcast to (n, n)"
    )


def test_pairs_are_refused_in_eager_execution_too():
    model = AuxiliaryModel(network(), AuxiliaryLoss(pairs))
    model.compile(keras.optimizers.SGD(RATE), LOSS, run_eagerly=True)
    with pytest.raises(AuxiliaryError, match="returns shape"):
        model.train_on_batch(*batch())


@pytest.mark.parametrize("shapes", [((5, 5), (5, 5)), ((None, 5), (None, 5)), ((None, 5), (None, None))])
def test_several_losses_for_an_example_are_accepted(shapes):
    """There are as many examples as columns, and TensorFlow may not know one number or the other."""
    x, net = batch(5)[0], network()
    mean = float(np.mean(x * net(x)["odd"]))
    for function in (
        lambda x, y, y_pred: y * y_pred["odd"],
        lambda x, y, y_pred: tf.reshape(y * y_pred["odd"], (tf.shape(x)[0], -1)),
        lambda x, y, y_pred: tf.reshape(y * y_pred["odd"], (5, 5)),
        lambda x, y, y_pred: tf.reduce_mean(y * y_pred["odd"]),
    ):
        loss = AuxiliaryLoss(function)
        value = tf.function(
            lambda x, y, loss=loss: loss.value("copy", x, y, net(x)),
            input_signature=[tf.TensorSpec(shape) for shape in shapes],
            autograph=False,
        )
        assert float(value(x, x)) == pytest.approx(mean, rel=1e-5)


def test_a_frozen_teacher_is_no_foreign_variable():
    teacher = keras.layers.Dense(1)
    teacher.build((None, 5))

    def distil(x, y, y_pred):
        return (y_pred["odd"] - keras.ops.stop_gradient(teacher(x))) ** 2

    assert trained(AuxiliaryLoss(distil))[1]["distil_loss"] > 0
