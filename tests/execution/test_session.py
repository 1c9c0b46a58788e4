"""What a session keeps between runs does not change their results."""

from __future__ import annotations

import gc
import itertools
import json

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from mlflow import MlflowClient

import auxgrad
from auxgrad.config import compose
from auxgrad.config.identity import Names
from auxgrad.execution import session as session_module
from auxgrad.execution.session import Session
from auxgrad.problems import Data, Problem, Training
from auxgrad.record import view
from auxgrad.record.stored import METRICS
from auxgrad.training.batches import ShuffledBatches
from auxgrad.training.metrics import maximized

NAMES = ("train_loss", "val_loss", "test_loss", "cosine/overall", "conflict/overall")
OTHERS = ("val_accuracy", "test_accuracy", "best_val_accuracy", "val_share", "test_share")


def record_of(result):
    """Return all curves of a run, and the names of its metrics."""
    client = MlflowClient(f"sqlite:///{session_module.Path.cwd()}/mlflow.db")
    metrics = client.get_run(result.run_id).data.metrics
    curves = [
        [point.value for point in client.get_metric_history(result.run_id, name)]
        for name in (*NAMES, *OTHERS)
        if name in metrics
    ]
    return curves, sorted(metrics)


def run(session, overrides, folder="out"):
    return record_of(session.run(compose(overrides), session_module.Path(folder), log_model=False))


RUNS = [
    ["mode=Orthogonal", "lam=3", "alpha=0.01", "seed=0"],
    ["mode=Orthogonal", "lam=30", "alpha=0.5", "seed=1"],
    ["mode=Multitask", "lam=30", "seed=1"],
    ["mode=Multitask", "lam=30", "seed=1", "problem.hidden=[4]"],
    ["mode=SingleTask", "seed=2"],
    ["mode=Orthogonal", "lam=3", "alpha=1", "overall=true", "seed=0"],
]


@pytest.mark.process
def test_runs_in_one_session_equal_runs_in_sessions_of_their_own(in_tmp, small):
    own = [run(Session(), [*small, *words]) for words in RUNS]
    shared = Session()
    # Then in another order, so that each model is reused after a different one.
    for i in (*range(len(RUNS)), 4, 0, 2, 5, 1, 0, 4):
        assert run(shared, [*small, *RUNS[i]]) == own[i]


@pytest.fixture
def counted(monkeypatch):
    """Return a list that gets each model that is compiled."""
    made = []
    compile_ = auxgrad.AuxiliaryModel.compile

    def count(self, *args, **kwargs):
        made.append(self)
        compile_(self, *args, **kwargs)

    monkeypatch.setattr(auxgrad.AuxiliaryModel, "compile", count)
    return made


def test_a_model_is_compiled_once_for_each_way_of_censoring(in_tmp, small, counted):
    session = Session()
    for mode, seed in itertools.product(("SingleTask", "Projection", "SingleTask"), (0, 1)):
        run(session, [*small, f"mode={mode}", f"seed={seed}"])
    assert len(counted) == 2


class Scale(keras.layers.Layer):
    """A custom layer with a custom gradient and a factor that is not in the config."""

    factor = 1.0

    def call(self, inputs):
        factor = Scale.factor

        @tf.custom_gradient
        def scale(x):
            return factor * x, lambda upstream: factor * upstream

        return scale(inputs)


def plain(seed):
    return [keras.layers.Dense(4, activation="relu")]


def noise(seed):
    return [
        keras.layers.GaussianNoise(0.5),
        keras.layers.Dense(4, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
    ]


def custom_gradient(seed):
    Scale.factor = 1.0 + seed
    return [keras.layers.Dense(4), Scale()]


def closure(seed):
    return [keras.layers.Dense(4), keras.layers.Lambda(lambda x: (1 + seed) * x)]


def schedule(seed):
    return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 3 + 2 * seed, 0.5))


def huber(seed):
    return keras.losses.Huber(0.1 + seed)


class Own(Problem):
    """A problem with random data, in which everything that a user may choose depends on the seed."""

    case: str

    def load(self):
        chance = np.random.default_rng(0)

        def part(rows):
            x = chance.normal(size=(rows, 3)).astype(np.float32)
            return x, x[:, :1]

        return Data(train=part(32), validation=part(16), test=part(16))

    def build(self, data, seed):
        chosen = {**USUAL, **CASES[self.case]}
        layers = [keras.Input((3,)), *chosen.pop("layers")(seed), keras.layers.Dense(1)]
        made = {name: choice(seed) for name, choice in chosen.items()}
        return Training(network=keras.Sequential(layers), batch_size=8, epochs=2, patience=2, **made)


def squared(x, y, y_pred):
    return y_pred**2


def absolute(x, y, y_pred):
    return tf.abs(y_pred)


def within(seed):
    """Return metrics, one of which is a function with another threshold for each seed."""

    def share(y, y_pred):
        return tf.cast(tf.abs(y - y_pred) < 0.1 * (1 + seed), tf.float32)

    return [share, keras.metrics.MeanAbsoluteError(name="error")]


USUAL = {
    "layers": plain,
    "optimizer": lambda seed: keras.optimizers.Adam(0.01),
    "loss": lambda seed: "mse",
    "auxiliary": lambda seed: auxgrad.WeightDecay(),
    "metrics": lambda seed: (),
}
CASES = {
    "dropout, noise and batch norm": {"layers": noise},
    "custom gradient": {"layers": custom_gradient},
    "lambda": {"layers": closure},
    "schedule": {"optimizer": schedule},
    "loss": {"loss": huber},
    "metrics": {"metrics": within},
    "auxiliary loss": {"auxiliary": lambda seed: auxgrad.AuxiliaryLoss((squared, absolute)[seed % 2])},
}


@pytest.mark.process
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if layers is noise else pytest.mark.long)
        for case, layers in ((case, made.get("layers")) for case, made in CASES.items())
    ],
)
def test_a_second_run_equals_a_first_one_for_any_network(in_tmp, case):
    """Layers without names and seeds give the same result after other runs in the process."""

    def trained(session, seed):
        config = compose(["mode=Projection", "lam=0.1", f"seed={seed}"])
        own = config.model_copy(update={"problem": Own(case=case), "names": Names("own")})
        return record_of(session.run(own, session_module.Path("out"), log_model=False))

    shared = Session()
    first, other, again = (trained(shared, seed) for seed in (0, 1, 0))
    assert first[0] != other[0]
    assert again == first
    assert other == trained(Session(), 1)


def test_the_metrics_of_a_problem_are_recorded(in_tmp, small):
    session = Session()
    result = session.run(compose([*small, "mode=Multitask", "lam=1"]), in_tmp / "a")
    client = MlflowClient(f"sqlite:///{in_tmp}/mlflow.db")
    validation = client.get_metric_history(result.run_id, "val_accuracy")
    losses = client.get_metric_history(result.run_id, "val_loss")
    assert [point.step for point in validation] == [point.step for point in losses]
    recorded = client.get_run(result.run_id).data.metrics
    assert recorded["best_val_accuracy"] == validation[result.best_epoch - 1].value
    # NumPy computes the same value from the tested network.
    x, y = session._data[1].test
    logits = session._trainer.network.predict(x.toarray(), verbose=0)
    assert recorded["test_accuracy"] == pytest.approx(np.mean((logits > 0) == (y > 0.5)))
    assert result.test_metrics == {"accuracy": recorded["test_accuracy"]}
    tags = client.get_run(result.run_id).data.tags
    assert json.loads(tags[METRICS]) == {
        "loss": {"label": "cross-entropy, nats"},
        "accuracy": {"maximize": True},
    }
    shared = client.get_experiment_by_name("auxgrad").tags[view.TAG]
    assert view.metrics_in(shared) == ["accuracy"]


def test_which_way_metrics_of_several_outputs_are_better():
    """The directions have the names that `evaluate` returns."""
    x = keras.Input((2,))
    outputs = {name: keras.layers.Dense(1, name=name)(x) for name in ("a", "b")}
    model = auxgrad.AuxiliaryModel(keras.Model(x, outputs))

    def share(y, y_pred):
        return tf.cast(y_pred > 0, tf.float32)

    error, accuracy = keras.metrics.MeanAbsoluteError(name="error"), keras.metrics.BinaryAccuracy()
    metrics = {"a": [accuracy, share], "b": [error, "accuracy"]}
    model.compile("sgd", {"a": "mse", "b": "mse"}, metrics=metrics)
    data = np.ones((4, 2)), {name: np.ones((4, 1)) for name in "ab"}
    tested = model.evaluate(*data, verbose=0, return_dict=True)
    better = {"a_binary_accuracy": True, "b_error": False, "b_accuracy": True}
    assert maximized(model) == better
    assert tested.keys() == {*better, "a_share", "loss", "a_loss", "b_loss"}


def test_a_run_and_the_runs_from_python(in_tmp, small):
    result = auxgrad.run(["mode=SingleTask", "seed=3", *small])
    [row] = auxgrad.runs().to_dict("records")
    assert (row["run_id"], row["mode"], row["seed"]) == (result.run_id, "SingleTask", 3)
    assert (row["test_loss"], row["test_accuracy"]) == (
        result.test_loss,
        result.test_metrics["accuracy"],
    )
    assert (in_tmp / result.folder / "result.json").is_file()
    with pytest.raises(auxgrad.errors.TrackingError, match=r"tracking\.experiment=other: is not in"):
        auxgrad.runs(experiment="other")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(143)], ids=["Ctrl-C", "TERM"])
def test_a_run_interrupted_in_a_batch_is_killed_not_failed(in_tmp, small, monkeypatch, interruption):
    """TensorFlow converts exceptions raised while Python makes a batch into its own errors."""

    def interrupted(self, number):
        raise interruption

    monkeypatch.setattr(ShuffledBatches, "_gather", interrupted)
    with pytest.raises(type(interruption)) as caught:
        run(Session(), ["mode=SingleTask", *small])
    assert caught.value.args == interruption.args
    [stored] = MlflowClient(f"sqlite:///{in_tmp}/mlflow.db").search_runs(["1"])
    assert stored.info.status == "KILLED"


def test_once_returns_what_was_finished_before(in_tmp, small):
    session, config = Session(), compose([*small, "mode=SingleTask"])
    first = session.run(config, in_tmp / "a", once=True)
    second = session.run(config, in_tmp / "b", once=True)
    assert second.was_finished
    assert not first.was_finished
    assert second.run_id == first.run_id
    assert second.metrics == first.metrics
    assert not (in_tmp / "b").exists()


@pytest.mark.parametrize("is_repeated", [True, pytest.param(False, marks=pytest.mark.process)])
def test_a_run_that_was_taken_for_dead(in_tmp, small, monkeypatch, capsys, is_repeated):
    """It ends FINISHED, unless another process has repeated it in the meantime."""
    config = compose([*small, "mode=SingleTask"])
    original, others = Session._train, []

    def train(self, config, writer, folder, resumption):
        result = original(self, config, writer, folder, resumption)
        writer.client.set_terminated(writer.run_id, "KILLED")
        if is_repeated:
            monkeypatch.setattr(Session, "_train", original)
            others.append(Session().run(config, in_tmp / "other", once=True))
        return result

    monkeypatch.setattr(Session, "_train", train)
    result = Session().run(config, in_tmp / "out", once=True)
    runs = MlflowClient(f"sqlite:///{in_tmp}/mlflow.db").search_runs(["1"])
    assert [run.info.run_id for run in runs if run.info.status == "FINISHED"] == [result.run_id]
    assert sorted(run.info.status for run in runs) == ["FINISHED", "KILLED"][: 1 + is_repeated]
    assert [other.run_id for other in others] == [result.run_id][:is_repeated]
    assert ("another process took it for dead" in capsys.readouterr().out) is is_repeated


@pytest.mark.long
def test_memory_stays_flat_over_three_hundred_runs_of_changing_modes(in_tmp, small):
    session, process, used = Session(), psutil.Process(), []
    modes = ("SingleTask", "Multitask", "Projection", "Orthogonal", "WeightedCosine")
    for number in range(300):
        words = [f"mode={modes[number % 5]}", f"overall={('true', 'false')[number % 2]}"]
        run(session, [*small, *words, f"seed={number}", "problem.epochs=1"], folder=f"out/{number}")
        gc.collect()
        used.append(process.memory_info().rss)
    assert used[-1] - used[50] < 100 << 20, used[::25]
