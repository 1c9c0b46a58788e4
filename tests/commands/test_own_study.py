"""The example study adds a problem and a mode in a folder outside the package."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import script

from auxgrad.config.schema import TrackingConfig
from auxgrad.record.opening import open_store


def train(study: Path, *words: str) -> str:
    done = script("train", "--config-dir", "conf", *words, cwd=study)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def edit(file: Path, *changes: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


@pytest.mark.long  # CI runs the tutorial on a problem of one's own.
@pytest.mark.process
def test_a_study_from_sweep_to_report(study, small):
    words = ["--multirun", "problem=digits", "mode=SingleTask,Projection,Halfway", "lam=1"]
    words += ["seed=range(2)", "problem.epochs=3"]
    shown = train(study, *words, "hydra.launcher.workers=1")
    assert "6 combinations, 6 distinct: 0 finished, 6 to run" in shown
    assert "6 done, 0 failed" in shown
    assert "6 distinct: 6 finished, 0 to run" in train(study, *words, "dry_run=true")
    # The baseline has no rule, so only the runs with the edited rule are repeated.
    edit(study / "rules.py", ("-0.5", "-0.25"))
    here = "hydra/launcher=basic"  # Also where no worker imports the rule anew.
    assert "6 distinct: 4 finished, 2 to run" in train(study, *words, here)

    # Another problem in the same experiment.
    train(study, "mode=SingleTask", *small)
    done = script("report", "--metric", "test_accuracy", cwd=study)
    assert done.returncode == 0, done.stderr
    [digits] = (study / "reports/auxgrad").glob("problem=digits*")
    [reviews] = (study / "reports/auxgrad").glob("problem=reviews*")
    assert "6 finished runs in 3 settings, 2 seeds" in done.stdout
    assert (
        "2 finished, because the newest ones have other data or another method or rule"
        in (digits / "report.md").read_text()
    )
    assert len((reviews / "runs.csv").read_text().splitlines()) == 2

    # The stored runs differ between the two versions of the rule, in names and in results.
    store = open_store(TrackingConfig(uri=f"sqlite:///{study}/mlflow.db"))
    runs = [run for run in store.runs("FINISHED") if run.params["mode"] == "Halfway"]
    losses = {(run.params["config"], run.params["seed"]): run.metrics["test_loss"] for run in runs}
    assert len(losses) == 4
    assert len(set(losses.values())) == 4
    [dataset] = store.client.get_run(runs[0].run_id).inputs.dataset_inputs
    assert (dataset.dataset.name, runs[0].params["problem"]) == ("digits", "digits")

    # An edited problem counts as another problem, even with the same results.
    edit(study / "digits.py", ("from typing", "# Edited.\nfrom typing"))
    assert "6 distinct: 0 finished, 6 to run" in train(study, *words, "dry_run=true")


@pytest.mark.process
def test_the_traceback_of_an_error_in_user_code_starts_there(study):
    edit(study / "digits.py", ("load_digits(return_X_y=True)", "load_digits(return_X_y=True)[2]"))
    done = script("train", "--config-dir", "conf", "problem=digits", cwd=study)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert lines[1] == "Traceback (most recent call last):"  # Hydra prints the first line.
    assert lines[2].startswith(f'  File "{study}/digits.py", line ')
    assert lines[-1] == "IndexError: tuple index out of range"
    assert not any("auxgrad/" in line for line in lines)


PRIMARY = "loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
ODD = (
    "return keras.losses.binary_crossentropy(y[:, None] % 2, keras.ops.sum(odd, axis=1, keepdims=True))"
)


@pytest.mark.process
@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            PRIMARY,
            'loss={"digit": "mse"}',
            "Digits.build: loss names 'digit'; the network has one output without a name: name outputs "
            "by a dict, as in keras.Model(inputs, {'first': first})",
        ),
        (
            "(x_val, y_val)",
            '(x_val, {"digit": y_val})',
            "Digits.load: validation has targets 'digit'; the network has one output without a name: "
            "name outputs by a dict, as in keras.Model(inputs, {'first': first})",
        ),
        (
            ODD,
            "return (y % 2 - keras.ops.sum(odd, axis=1, keepdims=True)) ** 2",
            "auxiliary loss 'odd': returns shape (n, n), where n is the batch size; must be a loss for "
            "each example, shape (n,), or their mean; (n,) and (n, 1) broadcast to (n, n)",
        ),
        (
            "auxgrad.AuxiliaryLoss(odd_loss)",
            'auxgrad.AuxiliaryLoss({"even": "mse"})',
            "auxiliary loss 'even', output 'even': the network has one output without a name",
        ),
    ],
)
def test_mistakes_in_user_code_get_one_line(study, old, new, line):
    edit(study / "digits.py", (old, new))
    done = script("train", "--config-dir", "conf", "problem=digits", cwd=study)
    assert done.returncode == 1
    *others, last = done.stderr.strip().splitlines()
    assert last == f"auxgrad: {line}"
    # A wrong shape is found when the first step is compiled, after the run has been recorded.
    assert len(others) == (0 if line.startswith("Digits.") else 1)
    assert all(other.startswith("the run is marked FAILED in MLflow: ") for other in others)
    assert "loss:" not in done.stdout


def test_a_syntax_error_in_user_code_is_shown_alone(study):
    edit(study / "digits.py", ("class Digits(auxgrad.Problem):", "class Digits(auxgrad.Problem)"))
    done = script("train", "--config-dir", "conf", "problem=digits", cwd=study)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines == [
        "auxgrad: problem._target_=digits.Digits: module digits cannot be imported "
        "(SyntaxError: expected ':' (digits.py, line 19))",
        f'  File "{study}/digits.py", line 19',
        "    class Digits(auxgrad.Problem)",
        f"{' ' * 33}^",
        "SyntaxError: expected ':'",
    ]
