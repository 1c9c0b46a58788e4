"""AuxiliaryModel: compare trajectories with an independent implementation, and check Keras' API."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxgrad
from auxgrad import AuxiliaryLoss, AuxiliaryModel
from auxgrad.censoring import MODES
from auxgrad.training.step.counters import LOSSES_KEPT

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "trajectories.json").read_text())
BCE = keras.losses.BinaryCrossentropy(from_logits=True)


def network(inputs=20, units=8, outputs=1):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(units, activation="relu", name="hidden"),
            keras.layers.Dense(outputs, name="logit"),
        ]
    )


def batch(n=32, inputs=20, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, inputs)).astype(np.float32)
    return x, (x[:, :1] > 0).astype(np.float32)


# One case for each mode; together they have both values of alpha and of overall.
QUICK = {
    "SingleTask-1-False",
    "Multitask-1-False",
    "Projection-0.01-False",
    "Orthogonal-0.01-True",
    "UnweightedCosine-1-True",
    "WeightedCosine-1-False",
}


def golden():
    """Runs that differ in lam only: one compiled model trains all of them."""
    found = {}
    for run in GOLDEN["runs"]:
        name = f"{run['mode']}-{run['alpha']:g}-{run['overall']}"
        found.setdefault(name, []).append(run)
    assert found.keys() >= QUICK
    return [
        pytest.param(runs, id=name, marks=() if name in QUICK else pytest.mark.process)
        for name, runs in found.items()
    ]


@pytest.mark.parametrize("runs", golden())
def test_golden_trajectory(runs):
    net = keras.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    first = runs[0]
    model = AuxiliaryModel(net, mode=first["mode"], alpha=first["alpha"], overall=first["overall"])
    model.compile(keras.optimizers.Adam(0.001), BCE)
    model.optimizer.build(model.trainable_variables)
    start = [np.array(variable) for variable in model.optimizer.variables]
    x, y = np.array(GOLDEN["x"], np.float32), np.array(GOLDEN["y"], np.float32)[:, None]
    for run in runs:
        net.set_weights([np.array(weight, np.float32) for weight in GOLDEN["initial_weights"]])
        model.restart(net, start)
        model.lam = run["lam"]
        losses = []
        for rows in GOLDEN["batches"]:
            model.train_on_batch(x[rows], y[rows])
            losses.append(model.batch_losses(len(losses))[0])
        np.testing.assert_allclose(losses, run["losses"], rtol=1e-5, atol=1e-6)
        for mine, wanted in zip(net.get_weights(), run["final_weights"], strict=True):
            np.testing.assert_allclose(mine, np.array(wanted, np.float32), rtol=1e-5, atol=1e-6)


@keras.saving.register_keras_serializable("tests")
def norm_of_hidden(x, y, y_pred):
    return tf.reduce_sum(y_pred["hidden"] ** 2, axis=-1)


def two_headed():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((20,))
    hidden = keras.layers.Dense(8, activation="tanh", name="hidden")(inputs)
    return keras.Model(inputs, {"logit": keras.layers.Dense(1, name="logit")(hidden), "hidden": hidden})


@pytest.mark.parametrize("mode", [name for name, mode in MODES.items() if mode.rule])
@pytest.mark.parametrize("overall", [False, True])
@pytest.mark.parametrize(
    ("alpha", "start"),
    [
        pytest.param(1.0, "zero", marks=pytest.mark.process),
        pytest.param(0.3, "zero", marks=pytest.mark.process),
        (0.3, "first"),
    ],
)
def test_auxiliary_loss_is_coupled(mode, overall, alpha, start):
    """Return the weights after three steps of gradient descent with `censor`."""
    x, y = batch()
    mine, written_out = two_headed(), two_headed()
    model = AuxiliaryModel(mine, AuxiliaryLoss(norm_of_hidden), mode, 0.5, alpha, overall, start=start)
    # Compile one mode only; the golden trajectories are compiled, too.
    model.compile(keras.optimizers.SGD(0.1), {"logit": BCE}, run_eagerly=mode != "Projection")
    variables = written_out.trainable_variables
    average = [0.0] * len(variables)
    for step in range(3):
        model.train_on_batch(x, {"logit": y})
        with tf.GradientTape(persistent=True) as tape:
            outputs = written_out(x)
            primary_loss = BCE(y, outputs["logit"])
            auxiliary_loss = tf.reduce_mean(norm_of_hidden(x, y, outputs))
        values = [variable.value for variable in variables]
        g, u = tape.gradient(primary_loss, values), tape.gradient(auxiliary_loss, values)
        share = 1.0 if start == "first" and step == 0 else alpha
        average = [(1 - share) * v + share * gradient for v, gradient in zip(average, g, strict=True)]
        censored = auxgrad.censor(u, average, mode, overall)
        for variable, gradient, part in zip(variables, g, censored, strict=True):
            variable.assign_sub(0.1 * (gradient if part is None else gradient + 0.5 * part))
    for got, wanted in zip(mine.get_weights(), written_out.get_weights(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        "adam",
        *(
            pytest.param(name, marks=pytest.mark.process)
            for name in ("sgd", "adamw", "rmsprop", "adagrad", "nadam", "lion")
        ),
    ],
)
def test_any_optimizer(optimizer):
    """SingleTask is Keras' own training; weight decay then subtracts learning_rate * lam * θ."""
    x, y = batch()
    plain, single, multi = network(), network(), network()
    plain.compile(optimizer, BCE, jit_compile=False)
    plain.train_on_batch(x, y)
    for net, mode in ((single, "SingleTask"), (multi, "Multitask")):
        model = AuxiliaryModel(net, mode=mode, lam=2.0)
        model.compile(optimizer, BCE)
        model.train_on_batch(x, y)
    rate = float(model.optimizer.learning_rate)
    for a, b, c, before in zip(
        plain.get_weights(),
        single.get_weights(),
        multi.get_weights(),
        network().get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(c, a - rate * 2.0 * before, rtol=1e-5, atol=1e-6)


@pytest.mark.process
def test_without_xla_the_same():
    x, y = batch()
    nets = [network(), network(), network()]
    for net, options in zip(nets, ({}, {"jit_compile": False}, {"run_eagerly": True}), strict=True):
        model = AuxiliaryModel(net, lam=10.0)
        model.compile("adam", BCE, **options)
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    xla, *others = (net.get_weights() for net in nets)
    for weights in others:
        for a, b in zip(xla, weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_fit_evaluate_predict_as_keras_users_know_them():
    x, y = batch(64)
    model = AuxiliaryModel(network(), lam=1.0)
    model.compile("adam", BCE, metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)])
    history = model.fit(x, y, validation_data=(x, y), batch_size=16, epochs=3, verbose=0)
    assert set(history.history) == {"loss", "binary_accuracy", "val_loss", "val_binary_accuracy"}
    logits = model.predict(x, verbose=0)
    loss, _ = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(float(BCE(y, logits)), rel=1e-5)
    np.testing.assert_allclose(logits, model.network.predict(x, verbose=0), rtol=1e-6)


@pytest.mark.parametrize(
    "auxiliary",
    [
        pytest.param(None, marks=pytest.mark.process, id="decay"),
        pytest.param(AuxiliaryLoss(norm_of_hidden), id="loss"),
    ],
)
def test_saved_and_loaded_it_goes_on_alike(tmp_path, auxiliary):
    x, y = batch()
    targets = {"logit": y}
    model = AuxiliaryModel(two_headed(), auxiliary, "Orthogonal", 3.0, 0.2, overall=True, start="first")
    model.compile("adam", {"logit": "mse"})
    model.train_on_batch(x, targets)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.train_on_batch(x, targets)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (loaded.mode.name, loaded.lam, loaded.alpha, loaded.overall) == ("Orthogonal", 3.0, 0.2, True)


def test_gradients_that_do_not_reach():
    """The head has no auxiliary gradient, so the statistics omit it."""
    x, y = batch()
    net = two_headed()
    model = AuxiliaryModel(net, AuxiliaryLoss(norm_of_hidden), "Projection", lam=1.0)
    model.compile("sgd", {"logit": BCE})
    model.train_on_batch(x, {"logit": y})
    names = model.censoring_statistics()
    assert "cosine/hidden.kernel" in names
    assert "cosine/logit.kernel" not in names
    assert -1 <= names["cosine/overall"] <= 1


def test_statistics_are_means_over_steps_since_the_reset():
    x, y = batch()
    model = AuxiliaryModel(network(), mode="Multitask", lam=1.0)
    model.compile("sgd", BCE)
    cosines = []
    for _ in range(4):
        kernel = model.network.trainable_variables[0]
        with tf.GradientTape() as tape:
            loss = BCE(y, model.network(x))
        g, u = tape.gradient(loss, kernel.value).numpy().ravel(), kernel.numpy().ravel()
        cosines.append(g @ u / np.linalg.norm(g) / np.linalg.norm(u))
        model.train_on_batch(x, y)
    statistics = model.censoring_statistics()
    assert statistics["cosine/hidden.kernel"] == pytest.approx(np.mean(cosines), rel=1e-4)
    assert statistics["conflict/hidden.kernel"] == np.mean(np.array(cosines) < 0)
    model.reset_censoring_statistics()
    assert model.censoring_statistics() == {}


@pytest.mark.process
def test_unbuilt_frozen_and_embedding_layers():
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [keras.layers.Embedding(10, 4), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    model = AuxiliaryModel(net, lam=1.0)
    model.compile("adam", "mse")
    x, y = np.arange(12).reshape(4, 3) % 10, np.ones((4, 1))
    assert np.isfinite(model.fit(x, y, epochs=2, verbose=0).history["loss"]).all()
    net.layers[0].trainable = False
    model.compile("adam", "mse")
    before = net.layers[0].get_weights()[0]
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(before, net.layers[0].get_weights()[0])
    frozen = network()
    frozen.layers[0].trainable = False
    model = AuxiliaryModel(frozen)
    frozen.layers[0].trainable = True
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="make a new AuxiliaryModel"):
        model.train_on_batch(*batch())


class Twins(keras.Model):
    """A model with two layers of the same name and different sizes."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(8, name="twin")
        self.second = keras.layers.Dense(1, name="twin")

    def call(self, inputs):
        return self.second(self.first(inputs))


def test_layers_of_one_name_keep_their_own_average():
    model = AuxiliaryModel(Twins(), mode="Orthogonal", lam=1.0)
    model.compile("adam", BCE)
    assert np.isfinite(model.fit(*batch(), epochs=2, verbose=0).history["loss"]).all()


@pytest.mark.process
@pytest.mark.parametrize("overall", [False, pytest.param(True, marks=pytest.mark.long)])
def test_variables_of_float64(overall):
    """Censoring is in float64; the statistics are float32 as always."""
    x, y = batch()
    weights = {}
    for dtype in ("float32", "float64"):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(n, "tanh", dtype=dtype) for n in (8, 8)]
        net = keras.Sequential(
            [keras.Input((20,)), *layers, keras.layers.Dense(1)]
        )  # Variables of two types.
        start = np.random.default_rng(0)
        net.set_weights([0.3 * start.normal(size=weight.shape) for weight in net.get_weights()])
        model = AuxiliaryModel(net, mode="Orthogonal", lam=0.1, alpha=0.5, overall=overall)
        model.compile(keras.optimizers.SGD(0.1), BCE)
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        assert np.isfinite(list(model.censoring_statistics().values())).all()
        weights[dtype] = net.get_weights()
    assert [weight.dtype for weight in weights["float64"]] == ["float64"] * 4 + ["float32"] * 2
    for one, other in zip(*weights.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_batch_losses_are_kept_for_a_thousand_steps():
    x, y = batch(8)
    model = AuxiliaryModel(network(), mode="SingleTask")
    model.compile(keras.optimizers.SGD(0.01), BCE, steps_per_execution=4)
    assert len(model.batch_losses()) == model.steps == 0
    expected = []
    for _ in range(3):
        expected.append(float(BCE(y, model.network(x))))
        model.train_on_batch(x, y)
    np.testing.assert_allclose(model.batch_losses(), expected, rtol=1e-5)
    data = tf.data.Dataset.from_tensors((x, y)).repeat()
    model.fit(data, steps_per_epoch=LOSSES_KEPT, verbose=0)
    assert model.steps == LOSSES_KEPT + 3
    with pytest.raises(ValueError, match=f"since=2: only the last {LOSSES_KEPT} of {LOSSES_KEPT + 3}"):
        model.batch_losses(2)
    losses = model.batch_losses(3)
    assert len(losses) == LOSSES_KEPT
    assert (
        np.diff(losses) <= 0
    ).all()  # Losses are in the order of the steps, across the end of the buffer.


def test_more_steps_in_one_call_than_losses_are_kept():
    x, y = batch(8)
    at_once = LOSSES_KEPT + 100
    model = AuxiliaryModel(network(), mode="SingleTask")
    model.compile(keras.optimizers.SGD(0.01), BCE, steps_per_execution=at_once)
    data = tf.data.Dataset.from_tensors((x, y)).repeat()
    model.fit(data, steps_per_epoch=at_once, epochs=2, verbose=0)
    assert len(model.batch_losses()) == 2 * at_once
    assert (np.diff(model.batch_losses()) <= 0).all()


def test_lam_can_change_during_training():
    x, y = batch()
    model = AuxiliaryModel(network(), mode="Multitask", lam=0.0)
    model.compile(keras.optimizers.SGD(0.0), BCE)
    start = model.network.get_weights()[0]
    model.train_on_batch(x, y)
    np.testing.assert_array_equal(model.network.get_weights()[0], start)
    model.optimizer.learning_rate = 0.1
    model.lam = 10.0
    model.train_on_batch(x, 0.5 * np.ones_like(y))
    assert np.abs(model.network.get_weights()[0]).max() < 0.1 * np.abs(start).max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"mode": "Projektion"},
            r"mode='Projektion': must be a Mode, a rule or one of .* \(did you mean Projection\?\)$",
        ),
        ({"mode": "Adam"}, "mode='Adam': must be a Mode, a rule or one of .*, Nash-MTL$"),
        ({"lam": -1.0}, "lam=-1.0: must be a finite number >= 0"),
        ({"lam": "0.1"}, "lam='0.1': must be a finite number >= 0"),
        ({"lam": float("inf")}, "lam=inf"),
        ({"alpha": 0.0}, r"alpha=0.0: must be a number in \(0, 1\]"),
        ({"start": "one"}, "start='one'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        AuxiliaryModel(network(), **arguments)


def test_knobs_are_the_numbers_that_were_given():
    model = AuxiliaryModel(network(), lam=0.3, alpha=0.01)
    assert (model.lam, model.alpha) == (0.3, 0.01)
    model.lam = 1e-9
    assert model.lam == 1e-9
    assert model.get_config()["lam"] == 1e-9
    model._lam.assign(2.0)  # As when a checkpoint of TensorFlow is restored.
    assert model.lam == 2.0


def test_alpha_can_be_assigned_where_there_is_an_average():
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model = AuxiliaryModel(network, mode="Projection", alpha=0.5)
    model.alpha = 0.25
    assert model.alpha == 0.25
    for wrong in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"must be a number in \(0, 1\]"):
            model.alpha = wrong
    without = AuxiliaryModel(network, mode="Projection", alpha=1)
    with pytest.raises(ValueError, match="keeps no average"):
        without.alpha = 0.5
