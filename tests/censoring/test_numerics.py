"""`censor` against its formulas in extended precision: every size, type and way to run."""

from __future__ import annotations

import functools

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import auxgrad
from auxgrad.censoring import MODES as ALL

MODES = [name for name, mode in ALL.items() if mode.rule is not None and mode.overall is None]
DTYPES = {name: getattr(ml_dtypes, name, name) for name in ("float16", "bfloat16", "float32", "float64")}
SHAPES = [(3, 4), (5,)]
# Do not test every way for every type: calls from Python and compilation take most of the time.
WAYS = {"float16": ("eager", "xla"), "bfloat16": ("xla",), "float32": ("eager", "graph", "xla")}
few_seeds = settings(deadline=None, derandomize=True, max_examples=2)
seeds = st.integers(0, 2**32 - 1)

# --- kinds of input: u and v from two random directions, before they are cast --------------------------

half = functools.partial(np.resize, [1.0, 0.0])  # Its products with 1 - half are exactly zero.
FAMILIES = {
    "u zero": lambda x, y: (0 * x, y),
    "v zero": lambda x, y: (x, 0 * y),
    "parallel": lambda x, y: (x, 3 * x),
    "opposed": lambda x, y: (x, -0.5 * x),
    "orthogonal": lambda x, y: (half(x.shape) * x, (1 - half(x.shape)) * y),
    "random": lambda x, y: (x, y),
    "acute": lambda x, y: (x + 2 * y, y),
    "obtuse": lambda x, y: (x - 2 * y, y),
    "tiny": lambda x, y: (1e-30 * (x - y), 1e-30 * y),
    "huge": lambda x, y: (1e30 * (x - y), 1e30 * y),
    "tiny u, huge v": lambda x, y: (1e-30 * (x - y), 1e30 * y),
    "huge u, tiny v": lambda x, y: (1e30 * (x - y), 1e-30 * y),
    "tiny u, ordinary v": lambda x, y: (1e-30 * (x - y), y),
    "small v": lambda x, y: (
        x - y,
        1e-5 * y,
    ),  # float16 can represent neither its square nor its inverse.
}


def inputs(family, dtype, seed):
    """Return u and v of a family, each a list of arrays of finite numbers of a type."""
    rng = np.random.default_rng(seed)
    limits = ml_dtypes.finfo(DTYPES[dtype])
    lists = [], []
    for shape in SHAPES:
        pair = FAMILIES[family](*rng.normal(size=(2, *shape)))
        for items, item in zip(lists, pair, strict=True):
            largest = np.abs(item).max()
            # In float16 use 1e-6 instead of 1e-30, and 10,000 instead of 1e30.
            scale = np.clip(largest, 1e-6, 1e4) / largest if dtype == "float16" and largest else 1.0
            items.append((scale * item).astype(DTYPES[dtype]))
            assert np.abs(items[-1]).max() <= limits.max
    return lists


# --- the formulas --------------------------------------------------------------------------------------


def formula(mode, d, U, V):
    """Return (a, b) for three numbers."""
    if mode == "SingleTask":
        return 0, 0
    if mode == "Multitask" or U == 0 or V == 0:
        return 1, 0
    return {
        "UnweightedCosine": lambda: (1 if d > 0 else 0, 0),
        "WeightedCosine": lambda: (max(d, 0) / np.sqrt(U * V), 0),
        "Projection": lambda: (1, -min(d, 0) / V),
        "Orthogonal": lambda: (1, -d / V),
    }[mode]()


def expected(us, vs, mode, overall):
    """Return the expected result of `censor` before rounding, and the norms of u for the tolerance."""
    us, vs = ([item.astype(np.longdouble) for item in items] for items in (us, vs))
    scalars = np.array(
        [[np.sum(u * v), np.sum(u * u), np.sum(v * v)] for u, v in zip(us, vs, strict=True)]
    )
    if overall:
        scalars[:] = scalars.sum(axis=0)
    coefficients = [formula(mode, *row) for row in scalars]
    results = [a * u + b * v for (a, b), u, v in zip(coefficients, us, vs, strict=True)]
    return results, np.sqrt(scalars[:, 1])


def assert_close(actual, wanted, norm, dtype, message):
    """Results are rounded once, from a computation in float32 (float64 for float64)."""
    limits = ml_dtypes.finfo(DTYPES[dtype])
    computed = np.finfo(np.float64 if dtype == "float64" else np.float32).eps
    smallest = limits.smallest_subnormal if dtype == "float16" else limits.smallest_normal
    actual = np.asarray(actual).astype(np.longdouble)
    allowed = 0.501 * float(limits.eps) * np.abs(wanted) + 4 * computed * norm + float(smallest)
    assert np.isfinite(actual).all(), message
    assert (np.abs(actual - wanted) <= allowed).all(), (message, actual, wanted)


# --- ways to run; each is compiled once for each type --------------------------------------------------


@functools.cache
def censor_in(way, overall):
    """Return a function of u and v that returns the results of every mode."""

    def every_mode(us, vs):
        return {mode: auxgrad.censor(us, vs, mode, overall) for mode in MODES}

    if way == "eager":
        return every_mode
    return tf.function(
        every_mode, jit_compile=way == "xla", autograph=False
    )  # This halves the time of tracing.


def tensors(*lists):
    return [[tf.constant(item) for item in items] for items in lists]


each_dtype = pytest.mark.parametrize(
    "dtype",
    [
        name if name in ("bfloat16", "float32") else pytest.param(name, marks=pytest.mark.process)
        for name in DTYPES
    ],
)
each_overall = pytest.mark.parametrize("overall", [False, True], ids=["each", "overall"])
each_family = pytest.mark.parametrize("family", FAMILIES)


@each_dtype
@each_overall
@each_family
@few_seeds
@given(seed=seeds)
def test_every_mode_by_its_formula(dtype, overall, family, seed):
    us, vs = inputs(family, dtype, seed)
    for way in WAYS.get(dtype, ("eager", "xla")):
        results = censor_in(way, overall)(*tensors(us, vs))
        for mode in MODES:
            wanted, norms = expected(us, vs, mode, overall)
            for actual, each, norm in zip(results[mode], wanted, norms, strict=True):
                assert actual.dtype == dtype
                assert_close(actual, each, norm, dtype, f"{mode} {way}")


@each_dtype
@each_overall
@each_family
@few_seeds
@given(seed=seeds)
def test_what_is_left_of_the_reference(dtype, overall, family, seed):
    """⟨censored, v⟩ is not negative after Projection, and zero after Orthogonal."""
    us, vs = inputs(family, dtype, seed)
    results = censor_in("xla", overall)(*tensors(us, vs))
    eps = float(ml_dtypes.finfo(DTYPES[dtype]).eps)
    # Results in float16 may be subnormal, with the precision of subnormal numbers.
    smallest = float(ml_dtypes.finfo(DTYPES[dtype]).smallest_subnormal)
    for mode in ("Projection", "Orthogonal"):
        rows = []
        for c, u, v in zip(results[mode], us, vs, strict=True):
            c, u, v = (np.asarray(item).astype(np.longdouble) for item in (c, u, v))
            rows.append([np.sum(c * v), np.sum(u * u), np.sum(v * v), np.sum(np.abs(v))])
        for d, U, V, sum_v in [np.sum(rows, axis=0)] if overall else rows:
            if U == 0 or V == 0:
                continue
            allowed = 4 * eps * np.sqrt(U * V) + smallest * sum_v
            assert d >= -allowed
            if mode == "Orthogonal":
                assert d <= allowed


@each_dtype
@each_overall
@settings(few_seeds, max_examples=8)
@given(seed=seeds, exponent=st.sampled_from([-90, -50, -3, 3, 50, 90]))
def test_a_power_of_two_times_u_is_that_times_the_result(dtype, overall, seed, exponent):
    """The equality is exact, even if u leaves the ordinary range."""
    us, vs = inputs("obtuse", dtype, seed)
    exponent = int(np.clip(exponent, -3, 3)) if dtype == "float16" else exponent
    factor = np.array(2.0**exponent).astype(DTYPES[dtype])
    once, scaled = (
        censor_in("xla", overall)(*tensors(items, vs)) for items in (us, [u * factor for u in us])
    )
    for mode in MODES:
        for one, other in zip(once[mode], scaled[mode], strict=True):
            np.testing.assert_array_equal(np.asarray(one) * factor, np.asarray(other), mode)


# --- single cases --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gradient", "dtype"),
    [
        ([1, 2], "int32"),
        (np.array([1, 2]), "int64"),
        (np.array([True, False]), "bool"),
        (np.array([1j, 2]), "complex128"),
    ],
)
def test_only_floating_point_is_taken(gradient, dtype):
    floats = [1.0, 2.0]
    message = f"has type {dtype}; must be floating point"
    with pytest.raises(ValueError, match=f"^gradient 0: auxiliary {message}$"):
        auxgrad.censor([gradient], [floats])
    with pytest.raises(ValueError, match=f"^gradient 0: auxiliary {message}$"):
        auxgrad.censor([gradient], [None])
    with pytest.raises(ValueError, match=f"^gradient 1: primary {message}$"):
        auxgrad.censor([floats, floats], [None, gradient])


@each_overall
def test_a_pair_of_two_types_is_computed_in_the_wider(overall):
    u, v = np.array([1, 1], np.float32), np.array([1, 1 + 1e-9])
    for first, second, type_of_u in ((u, v, "float32"), (v, u, "float64")):
        [wanted], _ = expected([first], [second], "Orthogonal", overall)
        [actual] = auxgrad.censor([first], [second], "Orthogonal", overall)
        assert actual.dtype == type_of_u
        np.testing.assert_allclose(actual, wanted.astype(np.float64), rtol=1e-6)  # About 5e-10.


def test_a_float64_neighbour_changes_no_float32_result():
    rng = np.random.default_rng(0)
    u, v, wide = *rng.normal(size=(2, 50)).astype(np.float32), rng.normal(size=50)
    for mode in ("Projection", "Orthogonal"):
        [alone] = auxgrad.censor([u], [v], mode)
        beside, _, _ = auxgrad.censor([u, wide, u], [v, -wide, None], mode)
        assert beside.dtype == "float32"
        np.testing.assert_array_equal(alone, beside)


@pytest.mark.parametrize("size", [1e-10, 1.0, 1e10])
def test_an_ordinary_size_is_not_scaled(size):
    """A rule that depends on the scale must see the true values."""
    u, v = np.array([1.0, -2.0]) * size, np.array([3.0, 1.0]) * size
    [censored] = auxgrad.censor([u], [v], lambda d, U, V: (U, d * V))
    np.testing.assert_allclose(
        censored, np.sum(u * u) * u + np.sum(u * v) * np.sum(v * v) * v, rtol=1e-14
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_overall
def test_two_numbers_hold_at_every_size(dtype, overall):
    u, v = np.array([1e-30, 2e-30], dtype), np.array([1e-25, -1e-35], dtype)
    [censored] = auxgrad.censor([u], [v], lambda d, U, V: (0.5, 0.3), overall)
    wanted = np.longdouble(0.5) * u + np.longdouble(0.3) * v
    np.testing.assert_allclose(censored, wanted.astype(dtype), rtol=2 * np.finfo(dtype).eps)


def test_small_variables_survive_beside_large_ones():
    """One scale for all variables does not make much smaller ones vanish."""
    us, vs = [np.float32([1e20]), np.float32([1e-25])], [np.float32([1e20]), np.float32([1e-25])]
    for mode in ("UnweightedCosine", "Projection"):
        for u, censored in zip(us, auxgrad.censor(us, vs, mode, overall=True), strict=True):
            np.testing.assert_array_equal(censored, u)


@each_overall
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_what_has_no_partner_makes_no_difference_to_the_scale(overall, size):
    u, v = np.float32([1, -2]) * np.float32(size), np.float32([1, 3]) * np.float32(size)
    [alone] = auxgrad.censor([u], [v], "Orthogonal", overall)
    for lone in (np.float32([1.0, 1.0]), np.float32([1e30, 1e30])):
        first, second, third = auxgrad.censor([lone, u, None], [None, v, lone], "Orthogonal", overall)
        np.testing.assert_array_equal(first, lone)
        np.testing.assert_array_equal(second, alone)
        assert third is None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_of_a_rule_are_multiplied_before_rounding(dtype):
    u = np.array([3.0, 7.0]).astype(DTYPES[dtype])
    for v in (None, u):
        [censored] = auxgrad.censor([u], [v], lambda d, U, V: (0.1, 0.0))
        wanted = (np.float32(0.1) * u.astype(np.float32)).astype(DTYPES[dtype])
        np.testing.assert_array_equal(np.asarray(censored), wanted)


@each_overall
def test_what_is_not_finite_shows_and_what_is_empty_stays(overall):
    bad, good, empty = np.float32([np.nan, 1.0]), np.float32([1.0, -2.0]), np.zeros((0, 3), np.float32)
    for u, v in ((bad, good), (good, bad)):
        [censored] = auxgrad.censor([u], [v], "Orthogonal", overall)
        assert np.isnan(np.asarray(censored)).any()
    first, second = auxgrad.censor([empty, good], [empty, -good], "Orthogonal", overall)
    assert first.shape == (0, 3)
    np.testing.assert_allclose(second, 0 * good, atol=1e-6)
