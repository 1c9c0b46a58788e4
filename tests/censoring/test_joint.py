"""Joint modes: compare with TorchJD's results, and check the definition of each method.

`benchmarks/agreement.py` made `golden/torchjd.json`, and compares with TorchJD itself.
"""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY

import auxgrad
from auxgrad.censoring import MODES, joint

GOLDEN = json.loads((REPOSITORY / "tests" / "golden" / "torchjd.json").read_text())
CASES = [{**case, "gradients": np.array(case["gradients"])} for case in GOLDEN["cases"]]
JOINT = [name for name, mode in MODES.items() if mode.weigh is not None]
DRAWING = [name for name in JOINT if MODES[name].takes("seed")]
FIXED = [name for name in JOINT if name not in DRAWING]
SIZES = (2, 3, 4, 5)


@functools.cache
def compiled(mode):
    return tf.function(MODES[mode].weigh, jit_compile=True)


def weigh(mode, J, seed=(GOLDEN["seed"], 0), steps=2, call=None):
    """Return the weights of the gradients in the rows of J (GradVac: in the last of several steps)."""
    call = call or MODES[mode].weigh
    G = tf.constant(J @ np.swapaxes(J, -1, -2))
    further = {"seed": tf.constant(seed)} if MODES[mode].takes("seed") else {}
    if not MODES[mode].takes("memory"):
        return call(G, **further).numpy()
    memory = tf.zeros_like(G)
    for _ in range(steps):
        w, memory = call(G, memory=memory, alpha=tf.constant(GOLDEN["alpha"]), **further)
    return w.numpy()


def weigh_each(mode, chosen, change=lambda J: J):
    """Return J and its weights for each case, after a change of its gradients.

    One call weighs all of them, unless the mode draws random numbers, of which each call has its own.
    """
    Js = [change(case["gradients"]) for case in chosen]
    weights = [weigh(mode, J) for J in Js] if mode in DRAWING else weigh(mode, np.stack(Js))
    return list(zip(Js, weights, strict=True))


def cases(n, *without):
    return [
        case for case in CASES if len(case["gradients"]) == n and not case["kind"].startswith(without)
    ]


def relative_difference(J, w, other):
    least = 1e-6 * np.linalg.norm(J)
    return np.linalg.norm((w - other) @ J) / max(np.linalg.norm(other @ J), least)


# --- TorchJD -----------------------------------------------------------------------------------------


def measure(mode, J, w):
    """Return the value that a method minimises."""
    total, mean = w @ J, J.mean(axis=0)
    if mode == "MGDA":
        assert (w >= 0).all()
        assert w.sum() == pytest.approx(1)
        return np.linalg.norm(total)
    if mode == "CAGrad":
        assert np.linalg.norm(total - mean) <= (0.5 + 1e-6) * np.linalg.norm(mean) or not w.any()
        return -(J @ total).min()
    gains = (w * (J @ total))[np.linalg.norm(J, axis=1) > 0]
    return np.ptp(np.log(gains)) if (gains > 0).all() else np.inf


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("mode", [mode for mode in JOINT if mode != "RandomWeighting"])
def test_totals_are_those_of_torchjd(mode, n):
    """Or better weights, where TorchJD stops before it has converged; see the docstrings."""
    exact = mode not in ("MGDA", "CAGrad", "Nash-MTL")
    chosen = cases(n)
    for case, (J, w) in zip(chosen, weigh_each(mode, chosen), strict=True):
        if case["kind"] == "zero" and mode in ("MGDA", "CAGrad", "Nash-MTL"):
            continue  # Methods that ignore a zero gradient, while TorchJD stops or fails.
        other = np.array(case["weights"][mode])
        if relative_difference(J, w, other) > 1e-4:
            assert not exact, case["kind"]
            assert measure(mode, J, w) <= measure(mode, J, other), case["kind"]


# --- definitions of the methods ------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
def test_mgda_is_the_shortest_vector_of_the_hull(n):
    chosen = cases(n, "zero")
    for case, (J, w) in zip(chosen, weigh_each("MGDA", chosen), strict=True):
        assert (w >= 0).all()
        assert w.sum() == pytest.approx(1)
        # In the direction of the total, no vertex of the hull is nearer to zero.
        total = w @ J
        assert (J @ total).min() >= total @ total - 1e-9 * np.sum(J**2), case["kind"]


@pytest.mark.parametrize("n", SIZES)
def test_cagrad_is_on_the_sphere_around_the_mean_and_at_its_best(n):
    chosen = cases(n, "opposed", "parallel", "zero")
    for case, (J, w) in zip(chosen, weigh_each("CAGrad", chosen), strict=True):
        mean = J.mean(axis=0)
        moved = w @ J - mean
        assert np.linalg.norm(moved) == pytest.approx(0.5 * np.linalg.norm(mean), rel=1e-5)
        worst = (J @ (mean + moved)).min()
        directions = np.random.default_rng(0).normal(size=(2000, J.shape[1]))
        directions *= np.linalg.norm(moved) / np.linalg.norm(directions, axis=1, keepdims=True)
        for share in (1, 0.1, 0.01):  # Points far from the total and near it.
            others = (1 - share) * moved + share * directions
            others *= np.linalg.norm(moved) / np.linalg.norm(others, axis=1, keepdims=True)
            assert ((mean + others) @ J.T).min(axis=1).max() <= worst + 1e-9 * np.sum(J**2), case["kind"]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("mode", ["UPGrad", "DualProj"])
def test_projections_conflict_with_no_gradient(mode, n):
    chosen = cases(n)
    for case, (J, w) in zip(chosen, weigh_each(mode, chosen), strict=True):
        total = w @ J
        assert (J @ total).min() >= -1e-6 * np.sum(J**2), case["kind"]


@pytest.mark.parametrize("n", SIZES)
def test_imtl_g_has_equal_projections(n):
    chosen = cases(n, "opposed", "parallel", "zero")
    for case, (J, w) in zip(chosen, weigh_each("IMTL-G", chosen), strict=True):
        projections = (J @ (w @ J)) / np.linalg.norm(J, axis=1)
        assert w.sum() == pytest.approx(1)
        assert np.ptp(projections) <= 1e-6 * np.abs(w @ J).max(), case["kind"]


@pytest.mark.parametrize("n", SIZES)
def test_nash_mtl_has_equal_gains(n):
    chosen = cases(n, "opposed")
    for case, (J, w) in zip(chosen, weigh_each("Nash-MTL", chosen), strict=True):
        assert (w >= 0).all()
        assert measure("Nash-MTL", J, w) <= 1e-4, case["kind"]
        assert np.linalg.norm(w @ J) <= 1 + 1e-9


@pytest.mark.parametrize("mode", ["MGDA", "CAGrad", "Nash-MTL", "PCGrad", "IMTL-G"])
def test_a_gradient_that_is_zero_takes_no_part(mode):
    g, u, zero = np.random.default_rng(0).normal(size=(3, 6)) * [[1], [1], [0]]
    J = np.stack([g, u])
    w = weigh(mode, np.stack([g, zero, u]))
    if mode == "CAGrad":  # Except for the mean, near which its total lies.
        mean = (g + u) / 3
        total = w @ np.stack([g, zero, u])
        assert np.linalg.norm(total - mean) == pytest.approx(0.5 * np.linalg.norm(mean))
        assert (J @ total).min() > (J @ mean).min()
    else:
        np.testing.assert_allclose(w[[0, 2]], weigh(mode, J), rtol=1e-6)


def test_orthogonal_gradients_of_one_norm_are_averaged():
    J = np.eye(3)
    for mode in ("Mean", "MGDA", "IMTL-G", "UPGrad", "DualProj", "Aligned-MTL"):
        np.testing.assert_allclose(weigh(mode, J), np.full(3, 1 / 3), rtol=1e-9, err_msg=mode)
    np.testing.assert_allclose(weigh("PCGrad", J), np.ones(3))


def test_pcgrad_is_projection_of_each_with_two_gradients():
    J = np.random.default_rng(0).normal(size=(50, 2, 4))
    for g, u in J:
        wanted = sum(auxgrad.combine([g], [[u]], "Projection")[0].numpy() for g, u in ((g, u), (u, g)))
        wanted -= g + u  # Each projection adds a multiple of the other gradient.
        np.testing.assert_allclose(weigh("PCGrad", np.stack([g, u])) @ np.stack([g, u]), wanted)


def test_gradvac_raises_cosines_to_their_average():
    g, u = np.array([1.0, 0.0]), np.array([-1.0, 1.0])
    J = np.stack([g, u])
    G, alpha = tf.constant(J @ J.T), tf.constant(1.0)
    memory = tf.constant([[0.0, 0.5], [0.5, 0.0]])
    w, after = joint.gradvac(G, tf.constant([0, 0]), memory, alpha)
    cosine = -1 / np.sqrt(2)
    np.testing.assert_allclose(after, [[0, cosine], [cosine, 0]], rtol=1e-6)

    # The sum, by hand, of g + c·u with cosine 0.5 to u, and u + c·g with cosine 0.5 to g.
    def raised(one, other):
        c = np.linalg.norm(one) * (0.5 * np.sqrt(0.5) - cosine * np.sqrt(0.75))
        return one + c / (np.linalg.norm(other) * np.sqrt(0.75)) * other

    for one, other in ((g, u), (u, g)):
        changed = raised(one, other)
        assert changed @ other == pytest.approx(0.5 * np.linalg.norm(changed) * np.linalg.norm(other))
    np.testing.assert_allclose(w.numpy() @ J, raised(g, u) + raised(u, g), rtol=1e-6)


def test_random_weights_are_those_of_a_softmax():
    J = np.zeros((4000, 3, 1))
    w = weigh("RandomWeighting", J)
    np.testing.assert_allclose(w.sum(axis=-1), 1)
    logarithms = np.log(w) - np.log(w).mean(axis=-1, keepdims=True)
    assert logarithms.std(axis=0) == pytest.approx(np.full(3, np.sqrt(2 / 3)), rel=0.05)
    assert (weigh("RandomWeighting", J, seed=(GOLDEN["seed"], 1)) != w).any()
    assert (weigh("RandomWeighting", J) == w).all()


# --- properties of all methods -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FIXED)
def test_order_and_length_make_no_difference(mode):
    # For opposed or parallel gradients several weights give the same total.
    chosen, order = cases(4, "opposed", "parallel"), [2, 0, 3, 1]
    changes = (lambda J: J, lambda J: J[order], lambda J: 1e3 * J)
    found = [[w for _, w in weigh_each(mode, chosen, change)] for change in changes]
    for w, ordered, longer in zip(*found, strict=True):
        np.testing.assert_allclose(ordered, w[order], rtol=1e-3, atol=1e-6 * abs(w).max())
        if mode == "Nash-MTL":  # Its total has norm 1.
            longer, w = longer / longer.sum(), w / w.sum()
        np.testing.assert_allclose(longer, w, rtol=1e-6, atol=1e-9 * abs(w).max())


@pytest.mark.parametrize("mode", [mode for mode in JOINT if mode != "RandomWeighting"])
def test_one_matrix_or_many_eager_or_compiled(mode):
    many = np.stack([case["gradients"] for case in cases(3)])
    if mode in DRAWING:  # The orders of all matrices are drawn at once.
        many = many[:1]
    together, xla = weigh(mode, many), weigh(mode, many, call=compiled(mode))
    for J, w, other in zip(many, together, xla, strict=True):
        assert relative_difference(J, other, w) < 1e-5
        assert relative_difference(J, weigh(mode, J), w) < 1e-5


@pytest.mark.parametrize("mode", JOINT)
def test_all_zero_and_float32(mode):
    assert np.isfinite(weigh(mode, np.zeros((3, 2)))).all()
    # For near or opposed gradients rounding to 32 bits changes the total.
    chosen = cases(4, "near", "opposed")
    single = weigh_each(mode, chosen, np.float32)
    double = weigh_each(mode, chosen, lambda J: np.float64(np.float32(J)))
    for case, (J, w), (_, wanted) in zip(chosen, single, double, strict=True):
        assert relative_difference(J, w, wanted) < 1e-2, case["kind"]
    chosen = cases(4)
    for case, (_, w) in zip(chosen, weigh_each(mode, chosen, np.float32), strict=True):
        assert np.isfinite(w).all()
        assert np.linalg.norm(w @ case["gradients"]) < 20 * np.linalg.norm(case["gradients"]) + 1


def test_too_many_gradients_are_refused():
    with pytest.raises(ValueError, match=r"11 gradients: this mode takes at most 10"):
        joint.mgda(tf.eye(11))
