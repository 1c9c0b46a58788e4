"""An interrupted run is resumed from its checkpoint, with the same record as an uninterrupted one."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from mlflow import MlflowClient

import auxgrad
from auxgrad.config import compose
from auxgrad.config.identity import Names
from auxgrad.errors import RunsElsewhere
from auxgrad.execution import checkpointing
from auxgrad.execution.checkpoint import FILE, FOLDER, Checkpoint, CheckpointError, Resumption
from auxgrad.execution.session import Session
from auxgrad.problems import Data, Problem, Training
from auxgrad.process import interruption
from auxgrad.record.claims import AlreadyFinished
from auxgrad.record.opening import open_store
from auxgrad.record.store import Store
from auxgrad.record.stored import StoredRun
from auxgrad.record.writing import RunWriter, StoreUnavailable

TIMES = ("seconds", "examples_per_second")


class Everything(Problem):
    """A problem that uses everything with a state: dropout, accumulation, averages, streams."""

    streams: bool = False
    learning_rate: float = 0.01

    def load(self):
        chance = np.random.default_rng(0)

        def part(rows):
            x = chance.normal(size=(rows, 3)).astype(np.float32)
            return x, x[:, :1] + chance.normal(size=(rows, 1)).astype(np.float32)

        if not self.streams:
            return Data(train=part(30), validation=part(16), test=part(16))
        train, own = (tf.data.Dataset.from_tensor_slices(part(rows)) for rows in (30, 44))
        return Data(
            train=train,
            validation=part(16),
            test=part(16),
            auxiliary={"own": own},
            sizes={"train": 30, "auxiliary own": 44},
            fingerprint="0" * 64,
            shuffle_buffer=8,
        )

    def build(self, data, seed):
        layers = [keras.layers.Dense(4, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
        accumulated = 4 if self.streams else None
        own = {"own": auxgrad.AuxiliaryLoss(mean_square)}
        return Training(
            network=keras.Sequential([keras.Input((3,)), *layers]),
            auxiliary=own if self.streams else auxgrad.WeightDecay(),
            optimizer=keras.optimizers.Adam(self.learning_rate, gradient_accumulation_steps=accumulated),
            loss="mse",
            batch_size=8,
            epochs=7,
            patience=5,
        )


def mean_square(x, y, y_pred):
    return tf.square(y_pred - y)


@pytest.fixture
def signals():
    """Install the signal handlers of a command in the process that runs the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    interruption.install()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    interruption._State.received = None


def asked(monkeypatch, after, number=signal.SIGTERM):
    """Send a signal to the next run after this number of epochs."""
    begin = checkpointing.Checkpoints.on_epoch_begin

    def ask(self, epoch, logs=None):
        begin(self, epoch, logs)
        if epoch == after:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(checkpointing.Checkpoints, "on_epoch_begin", ask)


def go(folder, uri, *words, session=None, **options):
    config = compose([*words, f"tracking.uri=sqlite:///{uri}.db"])
    own = config.model_copy(update={"problem": Everything(**options), "names": Names("own")})
    return (session or Session()).run(own, folder, log_model=False)


def client_of(uri):
    return MlflowClient(f"sqlite:///{Path.cwd() / f'{uri}.db'}")


def record_of(uri, result):
    client = client_of(uri)
    names = client.get_run(result.run_id).data.metrics
    return {
        name: [(each.step, each.value) for each in client.get_metric_history(result.run_id, name)]
        for name in names
        if name not in TIMES
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the result of a run of SingleTask that nothing interrupts, its metrics and its record."""
    uri = tmp_path_factory.mktemp("whole") / "a"
    result = go(uri.with_name("out"), uri, "mode=SingleTask")
    return result, client_of(uri).get_run(result.run_id).data.metrics, record_of(uri, result)


policies = pytest.mark.parametrize(
    "policy", ["continue", pytest.param("stop", marks=pytest.mark.process)]
)
CASES = {
    "dropout and an average": (["mode=Projection", "lam=0.1", "alpha=0.1"], {}),
    "streams, accumulation, memory": (["mode=GradVac", "lam=0.5", "alpha=0.1"], {"streams": True}),
}


@pytest.mark.parametrize(
    "case",
    [
        "dropout and an average",
        pytest.param("streams, accumulation, memory", marks=pytest.mark.process),
    ],
)
def test_an_interrupted_run_resumes_to_the_same_result(in_tmp, monkeypatch, signals, capsys, case):
    words, options = CASES[case]
    whole = go(in_tmp / "whole", "a", *words, **options)
    with monkeypatch.context() as patch:
        asked(patch, 3)
        with pytest.raises(SystemExit, match="143"):
            go(in_tmp / "first", "b", *words, **options)
    interruption._State.received = None
    assert (in_tmp / "first" / FILE).exists()
    assert "the same command resumes it from its checkpoint" in capsys.readouterr().err
    [found] = client_of("b").search_runs(["1"])
    assert found.info.status == "KILLED"
    result = go(in_tmp / "second", "b", *words, **options)
    assert result.run_id == found.info.run_id
    assert f"resuming  run {result.run_id} after epoch 4" in capsys.readouterr().out
    assert record_of("b", result) == record_of("a", whole)
    assert (result.test_loss, result.epochs) == (whole.test_loss, whole.epochs)
    assert [run.info.status for run in client_of("b").search_runs(["1"])] == ["FINISHED"]
    assert not list(in_tmp.rglob(f"{FILE}*"))


def test_an_epoch_that_takes_long_is_not_waited_for(whole, in_tmp, monkeypatch, signals):
    """The run resumes from the last checkpoint, and later values are not recorded twice."""
    words = ["mode=SingleTask"]
    monkeypatch.setattr(checkpointing, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpointing, "MOST_SHARE", 1e9)
    monkeypatch.setattr(checkpointing, "FINISH_SECONDS", -1.0)
    with monkeypatch.context() as patch:
        asked(patch, 2, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            go(in_tmp / "first", "b", *words)
    interruption._State.received = None
    checkpoint = Checkpoint.load(in_tmp / "first" / FILE)
    assert (checkpoint.epoch, checkpoint.steps) == (2, 8)
    assert record_of("b", go(in_tmp / "second", "b", *words)) == whole[2]


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        pytest.param("altered", marks=pytest.mark.process),
        pytest.param("of another version of a package", marks=pytest.mark.process),
    ],
)
def test_a_checkpoint_that_cannot_be_trusted_is_left_alone(in_tmp, monkeypatch, signals, capsys, damage):
    with monkeypatch.context() as patch:
        asked(patch, 1)
        with pytest.raises(SystemExit):
            go(in_tmp / "first", "b", "mode=SingleTask")
    interruption._State.received = None
    file, client = in_tmp / "first" / FILE, client_of("b")
    [run] = client.search_runs(["1"])
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        client.set_tag(run.info.run_id, "version.tensorflow", "1.15")
    result = go(in_tmp / "second", "b", "mode=SingleTask")
    assert result.run_id != run.info.run_id
    assert client.get_run(run.info.run_id).info.status == "KILLED"
    told = f"note      {file}: cannot be read" in capsys.readouterr().out
    assert told == (damage != "of another version of a package")


def test_a_checkpoint_is_written_in_one_piece(tmp_path, monkeypatch):
    state = {"bit_generator": "MT19937", "state": {"pos": 0}, "has_gauss": 0, "gauss": 0.0}
    fields = {"epoch": 1, "steps": 4, "is_last": False, "seconds": 1.0, "history": {"loss": [np.nan]}}
    fields |= {"run_id": "r", "diverged": None}
    fields |= {"stopping": {"wait": 0}, "waiting": [["loss", 0.5, 1, 2]]}
    fields |= {"chance": {"python": [3, [1, 2], None], "numpy": state}, "key": np.arange(4)}
    first = Checkpoint(**fields, variables=[np.ones(3)], best=[])
    first.save(tmp_path / FILE)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        Checkpoint(**{**fields, "epoch": 2}, variables=[np.zeros(3)], best=[]).save(tmp_path / FILE)
    again = Checkpoint.load(tmp_path / FILE)
    assert (again.epoch, again.waiting, list(again.variables[0])) == (
        1,
        [["loss", 0.5, 1, 2]],
        [1, 1, 1],
    )
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    "error",
    [
        RunsElsewhere("is being started elsewhere"),
        pytest.param("finished", marks=pytest.mark.process),
    ],
)
def test_a_run_that_another_process_was_faster_to_resume(whole, in_tmp, monkeypatch, signals, error):
    """On a server that is known only after the checkpoint has been copied: the copy goes."""
    with monkeypatch.context() as patch:
        asked(patch, 2)
        with pytest.raises(SystemExit, match="143"):
            go(in_tmp / "first", "b", "mode=SingleTask")
    interruption._State.received = None
    copied, metrics = [], whole[1]

    def refuse(self, identity, tags, dataset, once, resumes):
        [run] = self.runs("KILLED")
        copied.append(resumes(run) and (in_tmp / "second" / FILE).exists())
        raise AlreadyFinished(replace(run, metrics=metrics)) if error == "finished" else error

    monkeypatch.setattr(Store, "start_run", refuse)
    if error == "finished":
        assert go(in_tmp / "second", "b", "mode=SingleTask").was_finished
    else:
        with pytest.raises(RunsElsewhere):
            go(in_tmp / "second", "b", "mode=SingleTask")
    assert copied == [True]
    assert [file.parent.name for file in in_tmp.rglob(f"{FILE}*")] == ["first"]


def test_a_store_that_goes_away_while_a_run_is_resumed(whole, in_tmp, monkeypatch, signals):
    """The run keeps its checkpoint, and is resumed once more."""
    with monkeypatch.context() as patch:
        asked(patch, 2)
        with pytest.raises(SystemExit, match="143"):
            go(in_tmp / "first", "b", "mode=SingleTask")
    interruption._State.received = None

    def fail(self, *_):
        raise StoreUnavailable(f"run {self.run_id}: the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "text", fail)
        with pytest.raises(StoreUnavailable):
            go(in_tmp / "second", "b", "mode=SingleTask")
    result = go(in_tmp / "third", "b", "mode=SingleTask")
    assert [run.info.run_id for run in client_of("b").search_runs(["1"])] == [result.run_id]
    assert record_of("b", result) == whole[2]
    assert not list(in_tmp.rglob(f"{FILE}*"))


def test_a_folder_that_cannot_be_searched(tmp_path, monkeypatch, capsys):
    """As that of another user: the run starts anew, and does not fail."""

    def fail(file):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "is_file", fail)
    run = StoredRun("r", "KILLED", {}, {}, {FOLDER: "/home/other/outputs"})
    assert not Resumption({}, tmp_path).fetch(run)
    assert "Permission denied: '/home/other/outputs/checkpoint.npz'; the run" in capsys.readouterr().out


def test_a_full_disk_costs_the_checkpoint_only(in_tmp, monkeypatch, capsys):
    monkeypatch.setattr(checkpointing, "EVERY_SECONDS", 0.0)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    result = go(in_tmp / "out", "a", "mode=SingleTask")
    assert result.epochs == 7
    told = f"{FILE}: no checkpoint can be written (No space left on device); the run continues"
    assert capsys.readouterr().err.count(told) == 1
    assert not list(in_tmp.rglob(f"{FILE}*"))


@policies
def test_a_loss_that_is_not_a_number(in_tmp, capsys, policy):
    result = go(in_tmp / "out", "a", "mode=SingleTask", f"on_nan={policy}", learning_rate=1e30)
    assert result.diverged == 2
    assert (result.epochs, result.steps) == ((1, 4) if policy == "stop" else (6, 24))
    assert "diverged  a loss or a weight is NaN or infinite at step 2;" in capsys.readouterr().out
    [run] = client_of("a").search_runs(["1"])
    assert (run.info.status, run.data.tags["auxgrad.diverged"]) == ("FINISHED", "2")
    assert ("on_nan=continue" in run.data.params["config"]) == (policy == "continue")


@pytest.mark.process
def test_a_checkpoint_of_another_run_in_the_same_folder_is_left_alone(in_tmp, monkeypatch, signals):
    """As with a fixed hydra.run.dir: the second run ends before its first checkpoint."""
    whole = go(in_tmp / "whole", "a", "mode=SingleTask", "seed=1")
    for epoch, seed in ((2, 0), (0, 1)):
        with monkeypatch.context() as patch:
            asked(patch, epoch)
            with pytest.raises(SystemExit, match="143"):
                go(in_tmp / "out", "b", "mode=SingleTask", f"seed={seed}")
        interruption._State.received = None
    assert (in_tmp / "out" / FILE).exists()
    result = go(in_tmp / "out", "b", "mode=SingleTask", "seed=1")
    assert record_of("b", result) == record_of("a", whole)


@policies
def test_a_resumed_run_knows_where_it_diverged(in_tmp, monkeypatch, signals, policy):
    """With on_nan=stop the interrupted epoch is the last one: nothing is left to train."""
    words, options = ["mode=SingleTask", f"on_nan={policy}"], {"learning_rate": 1e30}
    end = checkpointing.Checkpoints.on_train_batch_end

    def ask(self, batch, logs=None):
        end(self, batch, logs)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(checkpointing.Checkpoints, "on_train_batch_end", ask)
        with pytest.raises(SystemExit, match="143"):
            go(in_tmp / "first", "b", *words, **options)
    interruption._State.received = None
    result = go(in_tmp / "second", "b", *words, **options)
    [run] = client_of("b").search_runs(["1"])
    assert (run.info.status, run.data.tags["auxgrad.diverged"]) == ("FINISHED", "2")
    assert (result.diverged, result.epochs) == (2, 1 if policy == "stop" else 6)


def test_the_order_of_batches_from_any_step_on():
    """Batches after a restart equal those of an uninterrupted run, for arrays and streams."""
    from auxgrad.training.batches import TrainingBatches

    for streams in (False, True):
        data = Everything(streams=streams).load()
        for reshuffle in (True, False):
            batches = TrainingBatches(data, 8, reshuffle)
            whole = [tf.nest.flatten(batch)[0].numpy() for batch in batches.restart(5).take(20)]
            assert not np.array_equal(whole[0], whole[4]) or not reshuffle
            for step in (0, 3, 4, 13):
                rest = batches.restart(5, step).take(20 - step)
                for batch, expected in zip(rest, whole[step:], strict=True):
                    np.testing.assert_array_equal(tf.nest.flatten(batch)[0].numpy(), expected)


def test_a_signal_while_the_store_is_told_that_the_run_is_finished(in_tmp, monkeypatch):
    """The run stays FINISHED, and the same command takes it as it is."""
    end = RunWriter.end

    def interrupted(self, status, *patience):
        end(self, status, *patience)
        if status == "FINISHED":
            raise KeyboardInterrupt

    config = compose(
        ["problem=toy", "problem.starts=[[-1.5,0.4]]", "mode=SingleTask", "problem.epochs=2"]
    )
    monkeypatch.setattr(RunWriter, "end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Session().run(config, in_tmp / "out", log_model=False)
    store = open_store(config.tracking)
    [run] = store.runs()
    assert run.status == "FINISHED"
    assert Session().run(config, in_tmp / "again", log_model=False, once=True).run_id == run.run_id
    assert not list(in_tmp.rglob("checkpoint.npz*"))
