"""A run from the command line and from Python, and its record in MLflow."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REPOSITORY, on_a_terminal
from mlflow import MlflowClient

from auxgrad.config import compose
from auxgrad.config.groups import options
from auxgrad.execution.session import Session
from auxgrad.training.batches import in_order


def runs_of(folder: Path, name: str = "auxgrad"):
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return client, client.search_runs([client.get_experiment_by_name(name).experiment_id])


def curve(client, run, name):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]


def run(overrides, folder, session=None):
    return (session or Session()).run(compose(overrides), folder)


def test_from_the_command_line_to_the_record(train, new_store, tmp_path, small):
    new_store(tmp_path)
    done = train("mode=Orthogonal", "lam=3", "seed=4", "tracking.tensorboard=true", *small)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    setting = "Orthogonal lam=3 alpha=0.01 data=aclimdb data.num_words=60 "
    setting += "problem.hidden=[8,8] problem.batch_size=16 problem.epochs=3 problem.patience=2"
    assert lines[0] == f"auxgrad 0.2.0: {setting}, seed 4"
    assert "64 train, 16 validation, 80 test" in done.stdout

    client, [recorded] = runs_of(tmp_path)
    assert recorded.info.status == "FINISHED"
    assert recorded.data.params == {
        "mode": "Orthogonal",
        "lam": "3",
        "alpha": "0.01",
        "overall": "false",
        "seed": "4",
        "data": "aclimdb",
        "problem": "reviews",
        "config": setting,
    }
    metrics = recorded.data.metrics
    assert f"test loss {metrics['test_loss']:.4f}" in done.stdout
    train_loss, val_loss = curve(client, recorded, "train_loss"), curve(client, recorded, "val_loss")
    assert metrics["epochs"] == len(val_loss) <= 3
    assert [step for step, _ in train_loss] == list(range(1, 4 * len(val_loss) + 1))
    assert [step for step, _ in val_loss] == [4, 8, 12][: len(val_loss)]
    assert metrics["best_val_loss"] == min(value for _, value in val_loss)
    assert metrics["steps"] == len(train_loss)
    assert metrics["examples_per_second"] == pytest.approx(
        64 * metrics["epochs"] / metrics["seconds"], rel=1e-6
    )
    for name in ("hidden_1.kernel", "hidden_2.bias", "logit.kernel", "overall"):
        assert len(curve(client, recorded, f"cosine/{name}")) == len(val_loss)
        assert all(0 <= value <= 1 for _, value in curve(client, recorded, f"conflict/{name}"))

    [dataset] = recorded.inputs.dataset_inputs
    fingerprint = recorded.data.tags["data_fingerprint"]
    assert dataset.dataset.name == "aclimdb"
    assert fingerprint.startswith(dataset.dataset.digest)
    assert json.loads(dataset.dataset.profile)["train"] == 64
    assert recorded.data.tags["version.tensorflow"] == tf.__version__
    commit = recorded.data.tags.get("mlflow.source.git.commit", "")
    assert len(commit) == (40 if (REPOSITORY / ".git").exists() else 0)

    artifacts = tmp_path / "mlartifacts" / recorded.info.run_id / "artifacts"
    assert "mode: Orthogonal" in (artifacts / "config.yaml").read_text()
    # The stored network is the one that was tested.
    importlib.import_module("auxgrad.training.sparse")  # As docs/reference/records.md says.
    network = keras.saving.load_model(artifacts / "model.keras")
    config = compose(["mode=Orthogonal", "lam=3", "seed=4", *small])
    test = config.problem.load().test
    losses = [
        keras.losses.binary_crossentropy(y, network(x), from_logits=True) for x, y in in_order(*test, 16)
    ]
    assert np.mean(np.concatenate(losses)) == pytest.approx(metrics["test_loss"], rel=1e-5)
    [output] = (tmp_path / "outputs").glob("*/*_Orthogonal")
    assert list(output.glob("tensorboard/train/*"))
    assert recorded.info.run_id in lines[-1]


@pytest.mark.process
def test_same_command_same_losses_bit_for_bit(train, forked_sweep, new_store, tmp_path, small):
    """This also holds with one thread, and in a process that trained other runs before."""
    new_store(tmp_path)
    overrides = ("mode=Projection", "lam=10", *small)
    commands = [(overrides, {}), (overrides, {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"})]
    for arguments, env in commands:
        assert train(*arguments, **env).returncode == 0
    # One after the other in one process, which seed 1 follows.
    sweep = ("mode=Multitask,Projection", "seed=0,1", "force=true", "hydra/launcher=basic")
    assert forked_sweep(*sweep, *overrides[1:]).returncode == 0
    client, runs = runs_of(tmp_path)
    found = {}
    for recorded in runs:
        key = recorded.data.params["mode"], recorded.data.params["seed"]
        losses = [*curve(client, recorded, "train_loss"), *curve(client, recorded, "val_loss")]
        found.setdefault(key, []).append((losses, recorded.data.metrics["test_loss"]))
    assert len(found["Projection", "0"]) == 3
    assert all(each == found["Projection", "0"][0] for each in found["Projection", "0"])
    assert found["Projection", "1"][0] != found["Projection", "0"][0]
    # A single run stores its model; a sweep does not.
    kept = {path.parts[-3] for path in tmp_path.glob("mlartifacts/*/artifacts/model.keras")}
    assert len(kept) == 2
    assert len(list(tmp_path.glob("multirun/auxgrad/*/seed=*/output.log"))) == 4


@pytest.mark.process
def test_one_seed_same_weights_and_batches_in_every_mode(in_tmp, small):
    """The first loss does not depend on the mode, so it shows that weights and batch are the same."""
    first, session = {}, Session()
    for mode, seed in (("SingleTask", 0), ("Multitask", 0), ("Orthogonal", 0), ("SingleTask", 1)):
        run([f"mode={mode}", f"seed={seed}", "lam=0.001", *small], in_tmp, session)
        client, [latest, *_] = runs_of(in_tmp)
        first[mode, seed] = curve(client, latest, "train_loss")
    assert len({first[mode, 0][0] for mode in ("SingleTask", "Multitask", "Orthogonal")}) == 1
    assert first["SingleTask", 1][0] != first["SingleTask", 0][0]
    # With such a small weight later losses stay close if later batches are the same too.
    for mode in ("Multitask", "Orthogonal"):
        np.testing.assert_allclose(first[mode, 0], first["SingleTask", 0], rtol=1e-2)


def test_early_stopping_tests_the_best_epoch(in_tmp, small):
    """The learning rate is so high that the best epoch is not the last one."""
    wild = ["problem.learning_rate=0.3", "problem.epochs=30", "seed=1"]
    result = run(["mode=SingleTask", *small, *wild], in_tmp)
    client, [recorded] = runs_of(in_tmp)
    losses = [value for _, value in curve(client, recorded, "val_loss")]
    assert result.epochs == len(losses) < 30
    assert result.best_epoch == losses.index(min(losses)) + 1 == len(losses) - 2
    assert result.best_val_loss == min(losses)


def test_divergence_is_reported(in_tmp, small, capsys):
    result = run(["mode=Multitask", "lam=1e30", *small], in_tmp)
    assert not np.isfinite(result.test_loss)
    assert "diverged  a loss or a weight is NaN or infinite" in capsys.readouterr().out
    _, [recorded] = runs_of(in_tmp)
    assert recorded.info.status == "FINISHED"
    assert not np.isfinite(recorded.data.metrics["test_loss"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lam=-1"], "auxgrad: lam=-1: must be a finite number >= 0"),
        (["alpha=0"], "auxgrad: alpha=0: must be a number in (0, 1]"),
        (["mode=Projektion"], "auxgrad: mode=Projektion: must be one of ... did you mean Projection?"),
        (["sed=3"], "auxgrad: sed=3: unknown key; ... did you mean seed?"),
        (["lam=1,2"], "auxgrad: lam=1,2: several values; add --multirun"),
        (["tracking.uri='sqlite://'"], "auxgrad: tracking.uri=sqlite://: must be sqlite:///FILE, a"),
        (["data=aclimdb", "data.path=/nowhere"], "auxgrad: data.path=/nowhere: no such file or folder"),
        (
            ["hydra.run.dir=/sys/auxgrad"],
            "auxgrad: /sys/auxgrad: cannot be used (Operation not permitted)",
        ),
        (["--multirun", "lam=1,-2"], "auxgrad: lam=-2: must be"),
        (["--multirun", "--cfg", "job"], "auxgrad: --multirun: cannot be combined with --cfg"),
    ],
)
def test_wrong_input_leaves_one_line_and_nothing_else(forked_train, tmp_path, arguments, line):
    done = forked_train(*arguments)
    assert done.returncode == 1
    start, _, near = line.partition(" ... ")
    assert done.stderr.startswith(start)
    assert near in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_data_and_store_errors_leave_no_run(forked_train, tmp_path, small):
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"\x1f\x8b broken")
    done = forked_train("data=aclimdb", f"data.path={broken}", f"data.cache_dir={tmp_path}/cache")
    assert done.returncode == 1
    assert done.stderr.startswith(f"auxgrad: data.path={broken}: not a complete .tar.gz archive")
    assert done.stderr.count("\n") == 1
    assert runs_of(tmp_path)[1] == []
    done = forked_train(*small, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("auxgrad: MLFLOW_TRACKING_URI=http://127.0.0.1:9: no tracking server")
    assert done.stderr.count("\n") == 1


def test_a_failing_run_is_recorded_as_failed(in_tmp, small, monkeypatch, caplog):
    """A Keras callback fails during training, as on a full disk."""

    def fail(self, epoch, logs=None):
        raise RuntimeError("the disk is full: http://me:s3cr3t@h")

    monkeypatch.setattr(keras.callbacks.EarlyStopping, "on_epoch_end", fail)
    with pytest.raises(RuntimeError, match="the disk is full"):
        run(small, in_tmp / "output")
    _, [recorded] = runs_of(in_tmp)
    assert recorded.info.status == "FAILED"
    trace = in_tmp / "mlartifacts" / recorded.info.run_id / "artifacts" / "traceback.txt"
    for text in (trace.read_text(), (in_tmp / "output/traceback.txt").read_text(), caplog.text):
        assert "RuntimeError: the disk is full: http://me:***@h" in text
        assert "s3cr3t" not in text


@pytest.mark.process
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_ends_cleanly(new_store, tmp_path, small, number, status):
    new_store(tmp_path)
    command = [sys.executable, "-m", "auxgrad.train", *small]
    command += ["problem.epochs=100000", "problem.patience=100000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    for line in process.stdout:
        if line.startswith("Epoch 3/"):
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    client, [recorded] = runs_of(tmp_path)
    assert recorded.info.status == "KILLED"
    assert f"the run is marked KILLED in MLflow: run {recorded.info.run_id}" in err
    assert "Traceback" not in err
    assert len(curve(client, recorded, "val_loss")) >= 2  # Values from before the interruption are kept.


@pytest.mark.process
def test_on_a_terminal_there_is_a_progress_bar_with_both_losses(new_store, tmp_path, small):
    new_store(tmp_path)
    text = on_a_terminal([sys.executable, "-m", "auxgrad.train", *small], tmp_path)
    assert re.search(r"4/4.*━.* - loss: 0\.\d+ - val_accuracy: \d\.\d+ - val_loss: 0\.\d+", text)
    assert "result    test loss" in text
    for noise in ("WARNING", "I0000", "oneDNN", "Warning", "HYDRA", "INFO"):
        assert noise not in text


def test_groups_on_the_command_line(train):
    done = train("--cfg", "job", "lam=42.5", "alpha=0.05", "overall=true", "seed=7")
    assert {"lam: 42.5", "alpha: 0.05", "overall: true", "seed: 7"} <= set(done.stdout.splitlines())
    done = train("--help")
    assert done.returncode == 0
    assert f"mode: {', '.join(options('mode'))}" in done.stdout
    by_kind = done.stdout.partition("== Modes ==")[2].partition("==")[0]
    assert sorted(re.findall(r"[\w-]+(?=,|\n)", by_kind)) == options("mode")
    assert done.stdout.count("python -m auxgrad.train") == 6


def test_shell_completion(train):
    line = "auxgrad-train mode=W"
    done = train("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert done.stdout.split() == ["mode=WeightedCosine"]
    assert "complete" in train("-sc", "install=bash").stdout


@pytest.mark.process
def test_the_installed_wheel_carries_its_configs(tmp_path):
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(REPOSITORY)], check=True)
    [wheel] = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    code = (
        "import auxgrad.config.groups as g, hydra_plugins.auxgrad as h; print(g.conf_dir(), h.__file__)"
    )
    env = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    ).stdout.split()
    assert where == [f"{site}/auxgrad/conf", f"{site}/hydra_plugins/auxgrad/__init__.py"]
    shown = subprocess.run(
        [sys.executable, "-m", "auxgrad.train", "--cfg", "job", "lam=7"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "lam: 7" in shown.stdout.splitlines()


@pytest.mark.process
def test_curves_are_stored_during_training(new_store, tmp_path, small):
    """The store has the curve while the run is training, not only at its end."""
    new_store(tmp_path)
    command = [sys.executable, "-m", "auxgrad.train", *small]
    command += ["problem.epochs=100000", "problem.patience=100000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        points = []
        while len(points) < 3:
            assert time.monotonic() < deadline
            time.sleep(1)
            if (tmp_path / "mlartifacts").exists():
                client, runs = runs_of(tmp_path)
                points = curve(client, runs[0], "val_loss") if runs else []
        assert runs[0].info.status == "RUNNING"
    finally:
        process.kill()
        process.wait()
