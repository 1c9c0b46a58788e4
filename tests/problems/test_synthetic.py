"""The synthetic regression against its published recipe."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest

import auxgrad
from auxgrad.problems.synthetic import Synthetic, draw

TASKS = ("same", "similar", "unrelated")


def test_the_draw_is_the_published_one():
    inputs, matrices = draw()
    sums = {task: matrix.sum(dtype=np.float64) for task, matrix in matrices.items()}
    assert sums == pytest.approx(
        {"same": 903.93574865, "unrelated": -1569.81390682, "similar": 1021.07172736}, abs=1e-8
    )
    shapes = {part: array.shape for part, array in inputs.items()}
    assert shapes == {
        **dict.fromkeys(("train", "auxiliary", "validation"), (1000, 250)),
        "test": (10000, 250),
    }
    assert {array.dtype for array in (*inputs.values(), *matrices.values())} == {np.dtype("float32")}


@pytest.mark.parametrize("task", TASKS)
def test_the_targets(task):
    data, (inputs, matrices) = Synthetic(task=task).load(), draw()
    assert data.validation[1]["primary"].mean(dtype=np.float64) == pytest.approx(0.0062884, abs=1e-7)
    parts = {name: (getattr(data, name), "same") for name in ("train", "validation", "test")}
    for name, ((x, y), of) in {**parts, "auxiliary": (data.auxiliary["auxiliary"], task)}.items():
        np.testing.assert_array_equal(x, inputs[name])
        [(output, target)] = y.items()
        assert output == ("auxiliary" if name == "auxiliary" else "primary")
        assert target.dtype == np.float32
        np.testing.assert_allclose(target, np.tanh(x @ matrices[of]), atol=1e-3)
    assert data.sizes["train"] == len(data.auxiliary["auxiliary"][0])
    assert data.details["task"] == task


def test_the_fingerprint_tells_the_tasks_apart():
    first, again = ([Synthetic(task=task).load().fingerprint for task in TASKS] for _ in range(2))
    assert first == again
    assert len(set(first)) == 3


def test_the_network_and_its_training():
    problem = Synthetic(task="similar")
    training = problem.build(problem.load(), 0)
    layers = {layer.name: layer.units for layer in training.network.layers[1:]}
    names = [*(f"hidden_{i}" for i in range(1, 5)), "primary", "auxiliary"]
    assert layers == dict.fromkeys(names, 100)
    outputs = training.network(np.zeros((3, 250), np.float32))
    assert {name: output.shape for name, output in outputs.items()} == {
        "primary": (3, 100),
        "auxiliary": (3, 100),
    }
    shared = training.network.get_layer("hidden_4").output
    assert all(training.network.get_layer(name).input is shared for name in outputs)
    assert (float(training.optimizer.learning_rate), training.optimizer.epsilon) == (
        pytest.approx(0.001),
        1e-8,
    )
    assert (training.batch_size, training.patience, training.start) == (100, 10, "first")
    assert not training.reshuffle


def test_a_seed_fixes_the_initial_weights_whatever_the_global_state():
    data, weights = Synthetic(task="same").load(), []
    for number, seed in enumerate((0, 0, 1)):
        keras.utils.set_random_seed(number)
        weights.append(Synthetic(task=TASKS[number]).build(data, seed).network.get_weights())
    first, again, other = weights
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first[::2], other[::2], strict=True))
    kernels = first[2:8:2]  # Compare layers of equal shape: no two layers share a seed.
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(kernels))


@pytest.mark.long
def test_the_published_level(in_tmp):
    """The published loss is 0.4473 ± 0.0055; with reshuffled batches it would be 0.437."""
    words = ["problem=synthetic", "mode=SingleTask"]
    losses = [auxgrad.run([*words, f"seed={seed}"]).test_loss for seed in range(4)]
    assert 0.4413 < np.mean(losses) < 0.4533
