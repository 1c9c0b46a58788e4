"""A user can add a mode in a folder outside the package."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import auxgrad
from auxgrad.config import compose
from auxgrad.config.groups import options
from auxgrad.config.schema import TrackingConfig
from auxgrad.errors import ConfigError
from auxgrad.record.opening import open_store

YAML = """\
# @package _global_
mode: Halfway
mode_rule: rules.halfway
mode_uses: [lam, alpha, overall]
"""
RULES = """\
import tensorflow as tf


def halfway(d, U, V):
    return tf.ones_like(d), -0.5 * tf.minimum(d, 0.0) / V
"""


@pytest.fixture
def study(tmp_path) -> Path:
    (tmp_path / "conf/mode").mkdir(parents=True)
    (tmp_path / "conf/mode/Halfway.yaml").write_text(YAML)
    (tmp_path / "rules.py").write_text(RULES)
    return tmp_path


def auxgrad_train(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the script, which does not add the working directory to the path, unlike `python -m`."""
    script = Path(sys.executable).with_name("auxgrad-train")
    command = [script, "--config-dir", "conf", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_a_pinned_version_outlives_an_edit(study, monkeypatch):
    monkeypatch.chdir(study)
    monkeypatch.syspath_prepend(str(study))
    (study / "pinned.py").write_text("def rule(d, U, V):\n    return 0.5, 0.0\n\n\nrule.version = 1\n")
    text = YAML.replace("rules.halfway", "pinned.rule").replace("Halfway", "Pinned")
    (study / "conf/mode/Pinned.yaml").write_text(text)
    words = ["mode=Pinned", "lam=1", f"hydra.searchpath=['file://{study}/conf']"]
    identity = compose(words).identity("f")
    assert identity.rule == {"target": "pinned.rule", "version": "version 1"}
    assert identity.setting_name == "Pinned lam=1 alpha=0.01 rule=1"
    (study / "pinned.py").write_text("def rule(d, U, V):\n    return 0.25, 0.0\n\n\nrule.version = 1\n")
    assert importlib.reload(sys.modules["pinned"]).rule(0, 0, 0) == (0.25, 0.0)
    assert compose(words).identity("f").key == identity.key


def test_wrong_rules_get_one_line_and_the_users_traceback(study, monkeypatch):
    monkeypatch.chdir(study)
    monkeypatch.syspath_prepend(str(study))
    (study / "broken.py").write_text("import math\n\nwidth = math.sqrt(-1)\n")
    (study / "numbers_only.py").write_text("rule = 3\n")

    def answer(rule: str, name: str) -> str:
        text = YAML.replace("rules.halfway", rule).replace("Halfway", name)
        (study / f"conf/mode/{name}.yaml").write_text(text)
        with pytest.raises(ConfigError) as caught:
            compose([f"mode={name}", f"hydra.searchpath=['file://{study}/conf']"])
        return str(caught.value)

    missing = answer("nowhere.rule", "A")
    assert missing == (
        "mode_rule=nowhere.rule: there is no module nowhere; "
        f"looked for in {study} and on the Python path"
    )
    assert answer("numbers_only.rule", "B") == "mode_rule=numbers_only.rule: is int; must be a function"
    assert answer("numbers_only.law", "C") == (
        f"mode_rule=numbers_only.law: {study}/numbers_only.py has no law"
    )
    first, *rest = answer("broken.rule", "D").splitlines()
    assert first == (
        "mode_rule=broken.rule: module broken cannot be imported (ValueError: math domain error)"
    )
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[1] == f'  File "{study}/broken.py", line 3, in <module>'
    assert not any("auxgrad/config" in line for line in rest)


def test_a_file_without_its_package_line_is_named(study, monkeypatch):
    monkeypatch.chdir(study)
    monkeypatch.syspath_prepend(str(study))
    for group, name, text in (
        ("mode", "Halfway", YAML.partition("\n")[2]),
        ("lam", "few", "lam: 0.25\n"),
        ("experiment", "mine", "hydra: {sweeper: {params: {seed: range(3)}}}\n"),
    ):
        file = study / f"conf/{group}/{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            compose([f"{group}={name}"], config_dir="conf")
        assert str(caught.value) == (
            f"{group}={name}: the first line of {file} must be `# @package _global_`; "
            f"without it, Hydra puts the keys of the file into a section {group}"
        )
        file.write_text(f"# @package _global_\n{text}")
        compose([f"{group}={name}"], config_dir="conf")


def test_a_mode_has_one_function_with_known_parameters(study, monkeypatch):
    monkeypatch.chdir(study)
    monkeypatch.syspath_prepend(str(study))
    (study / "weights.py").write_text("def weigh(G, beta):\n    return G[..., 0]\n")

    def answer(name: str, text: str) -> str:
        (study / f"conf/mode/{name}.yaml").write_text(text.replace("Halfway", name))
        with pytest.raises(ConfigError) as caught:
            auxgrad.run(["problem=toy", f"mode={name}"], config_dir="conf")
        return str(caught.value)

    both = answer("Both", f"{YAML}mode_weigh: weights.weigh\n")
    neither = answer("Neither", YAML.replace("mode_rule: rules.halfway\n", ""))
    for name, line in (("Both", both), ("Neither", neither)):
        assert line == f"mode={name}: its file must set one of mode_rule and mode_weigh, not both"
    weigh = YAML.replace("mode_rule: rules.halfway", "mode_weigh: weights.weigh")
    assert answer("Weighed", weigh) == (
        "mode_weigh=weights.weigh: mode 'Weighed': weigh has a parameter 'beta'; after G it may take "
        "seed, memory, alpha"
    )
    (study / "short.py").write_text("def halfway(d, V):\n    return 1.0, -d / V\n")
    assert answer("Short", YAML.replace("rules.", "short.")) == (
        "mode_rule=short.halfway: mode 'Short': its rule must take (d, U, V)"
    )
    assert auxgrad.runs().empty


def test_a_rule_that_gives_nan_has_no_result(study, monkeypatch, capsys):
    """The loss stays finite, because relu turns NaN into zero."""
    monkeypatch.chdir(study)
    monkeypatch.syspath_prepend(str(study))
    monkeypatch.delitem(sys.modules, "rules", raising=False)
    (study / "rules.py").write_text(RULES.replace("-0.5 * tf.minimum(d, 0.0) / V", "tf.sqrt(d)"))
    small = ["problem=optdigits", "problem.train_size=50", "problem.hidden=4", "problem.epochs=3"]
    result = auxgrad.run([*small, "mode=Halfway", "lam=1", "alpha=1"], config_dir="conf")
    assert np.isnan([result.test_loss, result.best_val_loss, *result.test_metrics.values()]).all()
    assert (result.epochs, result.diverged) == (1, result.steps)
    assert "diverged  a loss or a weight is NaN or infinite at step" in capsys.readouterr().out
    [run] = open_store(TrackingConfig()).runs("FINISHED")
    assert run.tags["auxgrad.diverged"] == str(result.steps)


@pytest.mark.process
def test_own_modes_are_known_by_name(study, new_store):
    done = auxgrad_train("mode=Halfwey", cwd=study)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"auxgrad: mode=Halfwey: must be one of {', '.join(sorted([*options('mode'), 'Halfway']))} "
        "(did you mean Halfway?)"
    )
    assert not (study / "mlflow.db").exists()
    assert "Halfway" in auxgrad_train("--help", cwd=study).stdout
    # Without --config-dir, Hydra would not find the folder.
    command = [sys.executable, "-m", "auxgrad.train"]
    words = [*command, "hydra.searchpath=[file://conf]", "--help"]
    assert "Halfway" in subprocess.run(words, cwd=study, capture_output=True, text=True).stdout
    line = "auxgrad-train --config-dir conf mode=H"
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    words = [*command, "-sc", "query=bash"]
    done = subprocess.run(words, cwd=study, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["mode=Halfway"]
    new_store(study)
    done = auxgrad_train("--multirun", "mode=glob(H*)", "dry_run=true", "problem.hidden=[4]", cwd=study)
    assert "1 combination, 1 distinct" in done.stdout, done.stdout + done.stderr


def test_what_would_be_ignored_is_refused(study):
    done = auxgrad_train("mode=Projection", "mode_rule=rules.halfway", cwd=study)
    assert done.returncode == 1
    assert done.stderr.startswith("auxgrad: mode_rule=rules.halfway: is set by the file of the mode")
    (study / "conf/mode/Projection.yaml").write_text(YAML)
    done = auxgrad_train("mode=Projection", cwd=study)
    assert done.stderr.startswith("auxgrad: conf/mode/Projection.yaml: would be ignored")
    assert not (study / "mlflow.db").exists()
