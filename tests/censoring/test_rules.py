"""The six rules: compare with an independent implementation, and check properties on kinds of input."""

from __future__ import annotations

import functools
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY

import auxgrad
from auxgrad.censoring import MODES as ALL
from auxgrad.config.code.loading import load
from auxgrad.config.groups import options, preset
from auxgrad.errors import RuleError

GOLDEN = json.loads((REPOSITORY / "tests" / "golden" / "censoring.json").read_text())
MODES = [name for name, mode in ALL.items() if mode.rule is not None and mode.overall is None]
CENSORING = [mode for mode in MODES if mode not in ("SingleTask", "Multitask")]


def arrays(lists):
    return [np.array(item, np.float32) for item in lists]


def every_case(auxiliary, primary):
    return {
        (mode, overall): auxgrad.censor(auxiliary, primary, mode, overall)
        for mode in MODES
        for overall in (False, True)
    }


@functools.cache
def graph(jit_compile):
    """Return a compiled function; lists of the same shapes share it."""
    return tf.function(every_case, jit_compile=jit_compile)


def in_graph(auxiliary, primary, jit_compile=False):
    tensors = [[tf.constant(item) for item in items] for items in (auxiliary, primary)]
    return graph(jit_compile)(*tensors)


def as_one_size(way):
    """Return `way` for a pair of any shape, which is flattened; zeros at the end change no product.

    A graph is compiled for each shape, which takes seconds.
    """
    longest = max(np.size(vector["primary"]) for vector in GOLDEN["vectors"])

    def padded(auxiliary, primary):
        [u], [v] = auxiliary, primary
        results = way(*([np.pad(item.ravel(), (0, longest - item.size))] for item in (u, v)))
        found = {case: censored.numpy() for case, [censored] in results.items()}
        assert not any(censored[u.size :].any() for censored in found.values())
        return {case: [censored[: u.size].reshape(u.shape)] for case, censored in found.items()}

    return padded


in_xla = functools.partial(in_graph, jit_compile=True)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(every_case, id="eager"),
        pytest.param(as_one_size(in_graph), id="graph"),
        pytest.param(as_one_size(in_xla), id="xla"),
        pytest.param(in_graph, id="graph of each size", marks=pytest.mark.long),
        pytest.param(in_xla, id="xla of each size", marks=pytest.mark.long),
    ],
)
def test_golden_vectors(way):
    for vector in GOLDEN["vectors"]:
        u, v = arrays([vector["auxiliary"], vector["primary"]])
        for (mode, overall), [censored] in way([u], [v]).items():
            wanted = np.array(vector["censored"][mode], np.float32)
            message = f"{vector['kind']} {mode} overall={overall}"
            np.testing.assert_allclose(censored, wanted, rtol=1e-5, atol=1e-6, err_msg=message)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(every_case, id="eager"),
        pytest.param(in_graph, id="graph", marks=pytest.mark.process),
        pytest.param(in_xla, id="xla", marks=pytest.mark.process),
    ],
)
def test_golden_lists(way):
    for lists in GOLDEN["gradient_lists"]:
        auxiliary, lam = arrays(lists["auxiliary"]), lists["lam"]
        results = {
            averaged: way(auxiliary, arrays(lists["average_primary" if averaged else "primary"]))
            for averaged in (False, True)
        }
        for case in lists["cases"]:
            censored = results[case["averaged"]][case["mode"], case["overall"]]
            # Compare before multiplying by lam: otherwise the rest after an exact cancellation would
            # be multiplied by lam, too.
            for mine, weighted in zip(censored, case["combined"], strict=True):
                wanted = np.array(weighted, np.float32) / lam
                message = f"lam={lam:g} {case['mode']}"
                np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6, err_msg=message)


def test_every_mode_is_on_the_command_line():
    assert sorted(ALL) == options("mode")
    for name, mode in ALL.items():
        file = preset("mode", name)
        assert (file["mode"], tuple(file["mode_uses"])) == (name, mode.uses)
        assert file.get("mode_overall") == mode.overall
        key = "mode_rule" if mode.rule else "mode_weigh"
        assert load(key, file[key]) is (mode.rule or mode.weigh)


def halfway(d, U, V):
    return tf.ones_like(d), -0.5 * tf.minimum(d, 0.0) / V


def test_a_rule_of_ones_own():
    """A rule, a mode with a rule, and a rule that returns numbers instead of tensors."""
    u, v = [1.0, -1.0], [0.0, 2.0]
    cases = {
        halfway: [1.0, -0.5],
        auxgrad.Mode("Halfway", halfway): [1.0, -0.5],
        auxgrad.Mode("Half", lambda d, U, V: (0.5, 0.0)): [0.5, -0.5],
        auxgrad.Mode("Plus", lambda d, U, V: (0.5, 0.25)): [0.5, 0.0],
    }
    for mode, wanted in cases.items():
        for overall in (False, True):
            [censored] = auxgrad.censor([u], [v], mode, overall)
            np.testing.assert_allclose(censored, wanted, rtol=1e-6, atol=1e-7)
    # With tensors u stays as it is where v is None or zero; numbers hold there, too.
    for v in (None, [0.0, 0.0]):
        assert auxgrad.censor([u], [v], halfway)[0].numpy().tolist() == u
        half = auxgrad.Mode("Half", lambda d, U, V: (0.5, 0.0))
        assert auxgrad.censor([u], [v], half)[0].numpy().tolist() == [0.5, -0.5]


# --- properties --------------------------------------------------------------------------------------

rng = np.random.default_rng(0)
U0, V0 = rng.normal(size=(2, 40, 30)).astype(np.float32)
FAMILIES = {
    "random": (U0, V0),
    "parallel": (U0, 3 * U0),
    "opposed": (U0, -0.5 * U0),
    "acute": (U0 + V0, V0),
    "obtuse": (U0 - V0, V0),
    "u zero": (0 * U0, V0),
    "v zero": (U0, 0 * V0),
    "both zero": (0 * U0, 0 * V0),
}
NONZERO = {name: pair for name, pair in FAMILIES.items() if "zero" not in name}
SCALES = [1e-10, 1.0, 1e10]
family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
nonzero_family = pytest.mark.parametrize("family", NONZERO.values(), ids=NONZERO)
any_mode = pytest.mark.parametrize("mode", MODES)


def cosine(u, v):
    u, v = np.float64(u).ravel(), np.float64(v).ravel()
    return u @ v / (np.linalg.norm(u) * np.linalg.norm(v))


@functools.cache
def traced(mode):
    """Return a compiled `censor` of one variable."""
    return tf.function(lambda u, v: auxgrad.censor([u], [v], mode))


@family
@any_mode
def test_finite_never_longer_and_blind_to_the_length_of_v(family, mode):
    [reference] = traced(mode)(*family)
    for scales in itertools.product([1e-30, *SCALES], repeat=2):
        u, v = (part * np.float32(scale) for part, scale in zip(family, scales, strict=True))
        [censored] = traced(mode)(u, v)
        assert np.isfinite(censored).all(), scales
        length, original = (np.linalg.norm(np.float64(part)) for part in (censored, u))
        assert length <= original * (1 + 1e-5), scales
        back = np.asarray(censored) / np.float32(scales[0])
        np.testing.assert_allclose(back, reference, rtol=1e-4, atol=1e-5, err_msg=str(scales))


@nonzero_family
@pytest.mark.parametrize("mode", CENSORING)
def test_a_censored_direction_never_opposes_the_reference(family, mode):
    u, v = family
    [censored] = auxgrad.censor([u], [v], mode)
    assert np.sum(np.float64(censored) * v) >= -1e-6 * np.linalg.norm(u) * np.linalg.norm(v)


@nonzero_family
def test_each_mode_by_its_formula(family):
    u, v = (np.float64(part) for part in family)
    c, d = cosine(u, v), np.sum(u * v)
    against = d / np.sum(v * v) * v
    wanted = {
        "SingleTask": 0 * u,
        "Multitask": u,
        "UnweightedCosine": u if d > 0 else 0 * u,
        "WeightedCosine": max(c, 0) * u,
        "Projection": u - against if d < 0 else u,
        "Orthogonal": u - against,
    }
    for mode in MODES:
        [censored] = auxgrad.censor([family[0]], [family[1]], mode)
        np.testing.assert_allclose(censored, wanted[mode], rtol=1e-4, atol=1e-5, err_msg=mode)


@pytest.mark.parametrize("mode", CENSORING)
def test_overall_is_the_same_as_one_long_vector(mode):
    us = [U0, U0[0] - 2 * V0[0], np.float32(0.3) * U0[:5]]
    vs = [V0, V0[0], -V0[:5]]
    split = auxgrad.censor(us, vs, mode, overall=True)
    [whole] = auxgrad.censor(
        [np.concatenate([u.ravel() for u in us])], [np.concatenate([v.ravel() for v in vs])], mode
    )
    np.testing.assert_allclose(
        np.concatenate([np.ravel(part) for part in split]), whole, rtol=1e-4, atol=1e-5
    )


@any_mode
@pytest.mark.parametrize("overall", [False, True])
def test_none(mode, overall):
    u, v = U0, U0 - 2 * V0
    both, no_v, no_u, neither = auxgrad.censor([u, u, None, None], [v, None, v, None], mode, overall)
    [alone] = auxgrad.censor([u], [v], mode)
    np.testing.assert_array_equal(both, alone)
    np.testing.assert_array_equal(no_v, 0 * u if mode == "SingleTask" else u)
    assert no_u is None
    assert neither is None


@any_mode
def test_zero_leaves_the_auxiliary_as_it_is(mode):
    [censored] = auxgrad.censor([U0], [0 * V0], mode)
    np.testing.assert_array_equal(censored, 0 * U0 if mode == "SingleTask" else U0)


def test_types_and_ranks():
    for dtype in ("float32", "bfloat16", "float64"):
        u, v = tf.cast(U0[0], dtype), tf.cast(V0[0], dtype)
        assert auxgrad.censor([u], [v], "Orthogonal")[0].dtype == dtype
    assert auxgrad.censor([2.0], [-3.0], "Projection")[0].numpy() == 0.0
    assert auxgrad.censor([], []) == []


def test_shapes_that_only_the_run_of_a_graph_tells():
    """For ragged batches no dimension of a gradient is known when it is traced."""
    shape = tf.TensorSpec((None, None), tf.float32)
    graph = tf.function(lambda u, v: auxgrad.censor([u], [v], "Orthogonal"), input_signature=[shape] * 2)
    [wanted] = auxgrad.censor([U0], [V0], "Orthogonal")
    np.testing.assert_allclose(graph(U0, V0)[0], wanted, rtol=1e-5, atol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="mode='Projektion': must be a Mode, a rule or one of"):
        auxgrad.censor([U0], [V0], "Projektion")
    with pytest.raises(ValueError, match="auxiliary has 1 gradients, primary has 2"):
        auxgrad.censor([U0], [V0, V0])
    with pytest.raises(ValueError, match=r"gradient 0: auxiliary has shape \(40, 30\), primary \(30,\)"):
        auxgrad.censor([U0], [V0[0]])


def test_a_rule_that_returns_no_pair_is_named():
    def lonely(d, U, V):
        return tf.ones_like(d)

    for rule, what in (
        (lonely, r"lonely: returned \w*Tensor; must return a pair \(a, b\)"),
        (lambda d, U, V: (d, U, V), r"returned 3 values; must return a pair \(a, b\)"),
    ):
        with pytest.raises(RuleError, match=what):
            auxgrad.censor([U0], [V0], rule)
    with pytest.raises(ValueError, match=r"mode 'of_two': its rule must take \(d, U, V\)"):
        auxgrad.censor([U0], [V0], of_two)


def of_two(d, V):
    raise NotImplementedError
