"""Training with joint modes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxgrad
from auxgrad import AuxiliaryLoss, AuxiliaryModel, WeightDecay
from auxgrad.censoring import MODES, joint

JOINT = [name for name, mode in MODES.items() if mode.weigh is not None]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype(np.float32)
Y = {"main": X[:, :1], "side": X[:, 1:2] - X[:, :1]}
LAM, WEIGHT, RATE, SEED = 0.5, 0.2, 0.05, 3


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(5, "tanh", name="hidden", bias_initializer="ones")(inputs)
    return keras.Model(inputs, {name: keras.layers.Dense(1, name=name)(hidden) for name in Y})


def model_of(mode, overall=True, lam=LAM, alpha=0.3, optimizer="sgd", **options):
    auxiliaries = {
        "side": AuxiliaryLoss({"side": "mse"}),
        "none": AuxiliaryLoss({"side": "mae"}, weight=0.0),
        "decay": WeightDecay(WEIGHT),
    }
    model = AuxiliaryModel(network(), auxiliaries, mode, lam, alpha, overall, seed=SEED)
    optimizer = keras.optimizers.SGD(RATE) if optimizer == "sgd" else optimizer
    model.compile(optimizer, {"main": "mse"}, **options)
    return model


def directions(net):
    """Return the gradients of both losses, and the weights."""
    with tf.GradientTape(persistent=True) as tape:
        outputs = net(X)
        losses = {name: tf.reduce_mean((Y[name] - outputs[name]) ** 2) for name in Y}
    values = [variable.value for variable in net.trainable_variables]
    return *(tape.gradient(losses[name], values) for name in Y), [tf.identity(v) for v in values]


@pytest.mark.parametrize("overall", [False, pytest.param(True, marks=pytest.mark.process)])
@pytest.mark.parametrize("mode", [mode for mode in JOINT if mode != "GradVac"])
def test_steps_are_those_of_combine(mode, overall):
    model, net = model_of(mode, overall, run_eagerly=True), network()
    for step in range(3):
        model.train_on_batch(X, Y)
        g, u, decay = directions(net)
        scaled = [WEIGHT * each for each in decay]
        total = auxgrad.combine(g, [u, scaled], mode, LAM, overall, seed=(SEED, step))
        for variable, direction in zip(net.trainable_variables, total, strict=True):
            variable.assign_sub(RATE * direction)
    for mine, wanted in zip(model.network.get_weights(), net.get_weights(), strict=True):
        # Nash-MTL divides by gains, so rounding of a small gain has a larger effect.
        rtol = 1e-3 if mode == "Nash-MTL" else 1e-4
        np.testing.assert_allclose(mine, wanted, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("overall", [False, True])
def test_a_step_written_out_in_numpy(overall):
    """IMTL-G by its formula; only the primary loss and the decay reach the head of the primary loss."""
    model, net = model_of("IMTL-G", overall, run_eagerly=True), network()
    model.train_on_batch(X, Y)
    scales = [1, LAM, LAM * WEIGHT]
    columns = [
        [
            None if each is None else scale * np.float64(each).ravel()
            for scale, each in zip(scales, row, strict=True)
        ]
        for row in zip(*directions(net), strict=True)
    ]

    def weights(parts):
        """Return the weights of IMTL-G; each part has one gradient in each row."""
        G = sum(part @ part.T for part in parts)
        v = np.linalg.pinv(G) @ np.sqrt(np.diag(G))
        return v / v.sum()

    filled = [
        np.stack([np.zeros_like(column[2]) if each is None else each for each in column])
        for column in columns
    ]
    for variable, column, whole in zip(net.trainable_variables, columns, filled, strict=True):
        own = np.stack([each for each in column if each is not None])
        total = weights(filled) @ whole if overall else weights([own]) @ own
        variable.assign_sub(RATE * total.reshape(variable.shape))
    for mine, wanted in zip(model.network.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-6)


def test_gradvac_remembers_cosines():
    """Take three steps by hand; a missing gradient of a variable counts as zero."""
    model, net = model_of("GradVac", run_eagerly=True), network()
    memory, scales = tf.zeros((1, 3, 3)), np.float32([1, LAM, LAM * WEIGHT])
    for step in range(3):
        model.train_on_batch(X, Y)
        rows = directions(net)
        rows = [
            [0 * w if each is None else scale * each for each, w in zip(row, rows[2], strict=True)]
            for scale, row in zip(scales, rows, strict=True)
        ]
        J = np.stack([np.concatenate([np.ravel(each) for each in row]) for row in rows])
        G = tf.constant(J @ J.T)[tf.newaxis]
        w, memory = joint.gradvac(G, tf.constant([SEED, step]), memory, tf.constant(0.3))
        for i, variable in enumerate(net.trainable_variables):
            parts = [np.float32(a) * row[i] for a, row in zip(w.numpy()[0], rows, strict=True)]
            variable.assign_sub(RATE * tf.add_n(parts))
    for mine, wanted in zip(model.network.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-6)
    assert np.abs(memory).max() > 0.01


@pytest.mark.process
@pytest.mark.parametrize("mode", ["GradVac", "RandomWeighting"])
def test_compiled_restarted_and_loaded_the_same(mode, tmp_path):
    whole = model_of(mode, overall=False)
    whole.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    weights = whole.network.get_weights()
    whole.restart(
        network(),
        [
            tf.zeros(v.shape, v.dtype) if v.name != "learning_rate" else v
            for v in whole.optimizer.variables
        ],
    )
    whole.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    whole.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.seed, loaded.mode) == (SEED, MODES[mode])
    for model in (whole, loaded):
        model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
        for mine, wanted in zip(model.network.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(mine, wanted)
    whole.seed = SEED + 1
    whole.restart(network(), whole.optimizer.variables)
    whole.fit(X, Y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    assert any((a != b).any() for a, b in zip(whole.network.get_weights(), weights, strict=True))


def test_without_lam_the_primary_gradient_alone():
    for mode in ("MGDA", "Mean"):
        nets = []
        for name, lam in ((mode, 0.0), ("SingleTask", LAM)):
            model = model_of(name, lam=lam, run_eagerly=True)
            model.train_on_batch(X, Y)
            nets.append(model.network)
        for a, b in zip(*(net.get_weights() for net in nets), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_step_that_is_not_finite_is_forgotten():
    scaling = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE), initial_scale=2.0)
    model = model_of("GradVac", optimizer=scaling, jit_compile=False)
    model.train_on_batch(X, Y)
    before = [np.array(v) for v in model.non_trainable_variables]
    assert any(each.any() for each in before)
    model.train_on_batch(np.full_like(X, np.inf), Y)
    for was, variable in zip(before, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(variable, was)


def test_statistics_are_against_the_primary_gradient():
    """Statistics are those of the other modes, for any weights."""
    found = []
    for mode in ("Mean", "Multitask"):
        model = model_of(mode, alpha=1.0, run_eagerly=True)
        model.train_on_batch(X, Y)
        found.append(model.censoring_statistics())
    assert found[0].keys() == found[1].keys() > {"cosine/side/overall", "conflict/decay/hidden.kernel"}
    for key, value in found[0].items():
        assert value == pytest.approx(found[1][key], rel=1e-5), key


def test_what_combine_and_censor_refuse():
    g, u = [[1.0, 2.0]], [[[0.5, 1.0]]]
    for arguments, line in (
        ((g, u, "PCGrad"), r"mode 'PCGrad': draws random numbers; give seed=\(number, step\)"),
        ((g, u, "GradVac"), "mode 'GradVac': takes memory, which only AuxiliaryModel has"),
        ((g, u, "Mean", -1.0), "lam=-1.0: must be a finite number >= 0"),
        ((g, [[[1]]], "Mean"), "gradient 0: auxiliary 0 has type int32; must be floating point"),
        ((g, [[]], "Mean"), "primary has 1 gradients, auxiliary 0 has 0"),
        ((g, [[tf.constant([1.0, 2.0], tf.float64)]]), "primary has type float32, auxiliary 0 float64"),
    ):
        with pytest.raises(ValueError, match=line):
            auxgrad.combine(*arguments)
    with pytest.raises(ValueError, match=r"mode 'MGDA': weighs .* together; auxgrad\.combine"):
        auxgrad.censor(g, u[0], "MGDA")
    with pytest.raises(ValueError, match=r"mode 'MGDA': weighs .* without \(a, b\)"):
        auxgrad.censoring.coefficients("MGDA", *tf.ones((3, 1)))
    # Check the effect of lam, and a variable that no loss reaches.
    total = auxgrad.combine([[1.0], None, None], [[None, [2.0], None]], "MGDA", lam=0.5)
    assert [None if each is None else each.numpy().tolist() for each in total] == [[1.0], [1.0], None]
    assert auxgrad.combine(g, u, "MGDA", lam=0.0)[0].numpy().tolist() == g[0]


def weigh_with_memory(G, memory):
    return tf.ones_like(G[..., 0]) + memory[..., 0, :], memory + 1


def test_a_mode_of_ones_own():
    mode = auxgrad.Mode("Growing", weigh=weigh_with_memory, uses=("lam",), overall=True)
    model, net = model_of(mode, run_eagerly=True), network()
    for step in range(2):
        model.train_on_batch(X, Y)
        g, u, decay = directions(net)
        total = auxgrad.combine(g, [u, [WEIGHT * each for each in decay]], "Multitask", LAM)
        for variable, direction in zip(net.trainable_variables, total, strict=True):
            variable.assign_sub(RATE * (1 + step) * direction)
    for mine, wanted in zip(model.network.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-6)
    with pytest.raises(
        ValueError, match="mode 'Wrong': weigh has a parameter 'beta'; after G it may take"
    ):
        auxgrad.Mode("Wrong", weigh=lambda G, beta: G)
    wrong = auxgrad.Mode("Wrong", weigh=lambda G: tf.linalg.trace(G))
    with pytest.raises(ValueError, match=r"weigh returned shape \(1,\) for G of shape \(1, 2, 2\)"):
        auxgrad.combine([[1.0]], [[[2.0]]], wrong)
    with pytest.raises(ValueError, match="mode 'Wrong': weigh has no parameter"):
        auxgrad.Mode("Wrong", weigh=lambda: 1)
    with pytest.raises(ValueError, match=r"parameter alpha if, and only if, the mode uses it \(lam\)"):
        auxgrad.Mode("Wrong", weigh=joint.gradvac, uses=("lam",))
    with pytest.raises(ValueError, match="mode 'None': must have either a rule or weigh"):
        auxgrad.Mode("None")
