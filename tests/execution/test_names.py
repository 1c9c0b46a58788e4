"""Names of outputs, losses, metrics and targets are checked before training, as Keras would."""

from __future__ import annotations

import copy
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxgrad
from auxgrad.errors import AuxgradError, ConfigError, DataError
from auxgrad.execution.names import check_names

X, Y = np.zeros((4, 3), np.float32), np.zeros((4, 1), np.float32)
NAMED = {"class": Y, "rotation": Y}
BOTH = {"class": "mse", "rotation": "mse"}
DECAY = auxgrad.WeightDecay()


class Digits(auxgrad.Problem):
    def load(self):
        raise NotImplementedError

    def build(self, data, seed):
        raise NotImplementedError


class Subclass(keras.Model):
    """A network whose outputs Keras does not know before it is called."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, x):
        return self.network(x)


def networks():
    inputs = keras.Input((3,))
    first, second = (keras.layers.Dense(1)(inputs) for _ in range(2))
    return {
        "two": keras.Model(inputs, {"class": first, "rotation": second}),
        "one": keras.Model(inputs, {"class": first}),
        "tensor": keras.Model(inputs, first),
        "list": keras.Model(inputs, [first, second]),
        "sequential": keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
        "deep": keras.Model(inputs, {"class": {"a": first}, "rotation": second}),
    }


def check(
    network, loss="mse", metrics=None, train=NAMED, validation=None, streamed=False, auxiliary=DECAY
):
    def part(y):
        return tf.data.Dataset.from_tensor_slices((X, y)) if streamed else (X, y)

    others = [part(train if validation is None else validation) for _ in range(2)]
    sizes = dict.fromkeys(("train", "validation", "test"), 4) if streamed else {}
    data = auxgrad.Data(
        train=part(train), validation=others[0], test=others[1], sizes=sizes, fingerprint="f"
    )
    training = auxgrad.Training(
        network=network,
        auxiliary=auxiliary,
        optimizer=keras.optimizers.SGD(),
        loss=loss,
        metrics=metrics,
        batch_size=2,
        epochs=1,
        patience=1,
    )
    check_names(Digits(), training, data)


@pytest.mark.parametrize(
    ("kind", "settings", "line"),
    [
        (
            "two",
            {"loss": {"clas": "mse", "rotation": "mse"}},
            "Digits.build: loss names 'clas'; the outputs of the network are 'class', 'rotation' "
            "(did you mean class?)",
        ),
        (
            "two",
            {"auxiliary": auxgrad.AuxiliaryLoss({"rotatio": "mse"})},
            "Digits.build: auxiliary loss 'rotatio' names 'rotatio'; the outputs of the network are "
            "'class', 'rotation' (did you mean rotation?)",
        ),
        (
            "two",
            {"metrics": {"turn": ["mae"]}},
            "Digits.build: metrics name 'turn'; the outputs of the network are 'class', 'rotation'",
        ),
        (
            "two",
            {"metrics": ["mae"]},
            "Digits.build: metrics is a list of 1; the network has 2 outputs, so it must be a dict by "
            "output, as in {'class': [...]}",
        ),
        (
            "tensor",
            {"metrics": "mae"},
            "Digits.build: metrics='mae': must be a list, or a dict by output",
        ),
        (
            "two",
            {"train": {"clas": Y, "rotation": Y}},
            "Digits.load: train has targets 'clas', 'rotation'; must be those of the outputs of the "
            "network: 'class', 'rotation' (did you mean class?)",
        ),
        (
            "two",
            {"loss": BOTH, "validation": {"class": Y}},
            "Digits.load: validation has targets 'class'; must be those of the outputs of the network: "
            "'class', 'rotation'",
        ),
        (
            "two",
            {"loss": {"class": "mse"}, "validation": {"class": Y}},
            "Digits.load: the targets are 'class', 'rotation' in train and 'class' in validation; must "
            "have equal names in all parts",
        ),
        (
            "two",
            {"loss": {"class": "mse"}, "train": {"rotation": Y}},
            "Digits.load: train has targets 'rotation'; must be 'class', the outputs with a loss, or "
            "those of all outputs: 'class', 'rotation'",
        ),
        (
            "two",
            {"loss": {"class": "mse"}, "metrics": {"class": ["mae"]}, "train": {"class": Y}},
            "Digits.load: train has targets 'class'; with metrics, each output of the network must have "
            "a target: 'class', 'rotation'",
        ),
        (
            "two",
            {"train": Y},
            "Digits.load: train has one array of targets, and the loss is for all outputs; the targets "
            "must be a dict by output: 'class', 'rotation'",
        ),
        (
            "two",
            {"loss": BOTH, "train": Y},
            "Digits.load: train has one array of targets, and there are losses for 'class', 'rotation'; "
            "the targets must be a dict by output",
        ),
        (
            "sequential",
            {"loss": {"class": "mse"}, "train": Y},
            "Digits.build: loss names 'class'; the network has one output without a name: name outputs "
            "by a dict, as in keras.Model(inputs, {'first': first})",
        ),
        (
            "tensor",
            {},
            "Digits.load: train has targets 'class', 'rotation'; the network has one output without a "
            "name: name outputs by a dict, as in keras.Model(inputs, {'first': first})",
        ),
        (
            "list",
            {"loss": BOTH},
            "Digits.build: loss names 'class', 'rotation'; the outputs of the network are a list: name "
            "outputs by a dict, as in keras.Model(inputs, {'first': first})",
        ),
        (
            "list",
            {"metrics": ["mae"], "train": (Y, Y)},
            "Digits.build: metrics is a list of 1; the network has 2 outputs, so it must be a list with "
            "an entry for each output",
        ),
        (
            "list",
            {"train": Y},
            "Digits.load: train has one array of targets, and the loss is for all outputs; the targets "
            "must be a tuple of 2 arrays",
        ),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_one_line_names_what_does_not_fit(kind, settings, line, streamed):
    with pytest.raises(AuxgradError) as caught:
        check(networks()[kind], **settings, streamed=streamed)
    assert str(caught.value) == line
    assert isinstance(caught.value, ConfigError if line.startswith("Digits.build") else DataError)


def test_networks_with_unknown_outputs_are_not_checked():
    for network in (Subclass(networks()["two"]), keras.Sequential([keras.layers.Dense(1)])):
        check(network, loss={"clas": "mse"})


TARGETS = (
    NAMED,
    {"class": Y},
    {"rotation": Y},
    {"clas": Y},
    {"clas": Y, "rotation": Y},
    {**NAMED, "third": Y},
    {"class": {"a": Y}, "rotation": Y},
    Y,
    (Y, Y),
)
LOSSES = (
    "mse",
    None,
    BOTH,
    {"class": "mse"},
    {"class": "mse", "rotation": None},
    {"class": ["mse", "mae"], "rotation": "mse"},
    {"clas": "mse"},
    {"clas": None, "class": "mse"},
    ["mse", "mae"],
    ["mse", None],
    [{"class": "mse"}],
)
METRICS = (
    [],
    ["mae"],
    ["mae", "mse"],
    [["mae"], None],
    {"class": ["mae"]},
    {"class": "mae", "rotation": ["mae"]},
    {"clas": ["mae"]},
    {"clas": None},
    "mae",
)


def keras_accepts(network, loss, metrics, parts):
    """Return whether Keras can compute losses and metrics of a model like ours for all parts."""
    model = Subclass(network)

    def step(x, y):
        y_pred = model(x)
        return model.compute_loss(x, y, y_pred), model.compute_metrics(x, y, y_pred)

    loss, metrics = copy.deepcopy((loss, metrics))  # Keras replaces the lists and dicts in them.
    try:
        model.compile("sgd", loss, metrics=metrics, jit_compile=False)
        for y in parts:
            tf.function(step, autograph=False).get_concrete_function(X, y)
    except Exception:
        return False
    return True


def cases():
    for y in TARGETS:
        for loss in LOSSES:
            yield loss, None, y, None
        for metrics, loss in itertools.product(METRICS, ("mse", {"class": "mse"})):
            yield loss, metrics, y, None
    for train, validation in itertools.product(TARGETS[:3], repeat=2):
        yield {"class": "mse"}, None, train, validation
        yield {"class": "mse", "rotation": None}, None, train, validation


def refusal(network, **settings):
    try:
        check(network, **settings)
    except AuxgradError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "kind",
    [kind if kind == "two" else pytest.param(kind, marks=pytest.mark.process) for kind in networks()],
)
def test_nothing_is_refused_that_keras_accepts(kind):
    network = networks()[kind]
    y = {"two": NAMED, "one": {"class": Y}, "list": (Y, Y), "deep": TARGETS[6]}.get(kind, Y)
    assert refusal(network, train=y) == ""
    assert keras_accepts(network, "mse", None, [y, y])
    for loss, metrics, train, validation in cases():
        settings = {"loss": loss, "metrics": metrics, "train": train, "validation": validation}
        if metrics is not None and refusal(network, **{**settings, "metrics": None}):
            continue  # Keras has been asked already.
        line = refusal(network, **settings)
        if line and "those of all outputs" not in line:  # There, Keras would take the wrong targets.
            parts = [train, train if validation is None else validation]
            assert not keras_accepts(network, loss, metrics, parts), (line, settings)
