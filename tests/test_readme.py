"""Every command and every program in the README, run.

The two lines of the quick start make their own environment; .ci/run extracts and runs them. Training
commands run as they stand, with a small network for one epoch and two seeds.
"""

from __future__ import annotations

import csv
import math
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import REPOSITORY, auxgrad_ui, mlflow_ui

README = (REPOSITORY / "README.md").read_text()
QUICK_START, REST = README.split("## Runs", 1)
COMMANDS = [
    line[2:] for block in re.findall(r"```console\n(.*?)```", REST, re.S) for line in block.splitlines()
]
AUXGRAD = [command for command in COMMANDS if command.startswith("python -m auxgrad.train")]
REPORTS = [command for command in COMMANDS if command.startswith("python -m auxgrad.report")]
UI, BENCHMARKS = "python -m auxgrad.ui", "python -m benchmarks"
# These take a cluster, see below.
CLUSTER = [command for command in AUXGRAD if "hydra/launcher=" in command]
TRAINING = [command for command in AUXGRAD if command not in CLUSTER]
SERVER = re.search(r"### A tracking server\n.*?```console\n(.*?)```", REST, re.S)[
    1
]  # In test_server.py.
OTHERS = [command for command in COMMANDS if command not in AUXGRAD and command not in SERVER]


def test_the_quick_start_is_two_lines():
    lines = re.findall(r"^\$ (.*)$", QUICK_START, re.M)
    assert len(lines) == 2
    assert all(line.startswith("python3 -m venv .venv && ") for line in lines)


def test_no_other_commands_than_the_ones_run_here():
    assert set(OTHERS) == {UI, *REPORTS, BENCHMARKS}
    assert len(REPORTS) == 4
    assert len(TRAINING) == 19
    assert [re.findall(r"launcher=(\w+)", command) for command in CLUSTER] == [
        ["slurm"],
        ["slurm"],
        ["ray"],
    ]


def combinations_in(command: str) -> int:
    """How many combinations a command asks for: the product of the numbers of values."""
    sizes = {"range(2)": 2, "glob(*)": 6}
    values = [word.partition("=")[2] for word in shlex.split(command)]
    return math.prod(sizes.get(value, value.count(",") + 1) for value in values)


def write_study(folder: Path) -> None:
    """Write the problem and the mode of the README's examples."""
    problem, mode = REST.split("## Your own problem")[1].split("## Your own mode")
    for text, name in ((problem, "digits.py"), (mode, "rules.py")):
        (folder / name).write_text("\n".join(re.findall(r"```python\n(.*?)```", text, re.S)))
    for group in ("problem", "mode"):
        (folder / "conf" / group).mkdir(parents=True)
    [target] = re.findall(r"`(_target_: \S+)`", problem)
    (folder / "conf/problem/digits.yaml").write_text(target)
    for yaml in re.findall(r"```yaml\n(.*?)```", mode, re.S):
        (folder / f"conf/mode/{re.search(r'^mode: (.*)', yaml, re.M)[1]}.yaml").write_text(yaml)


def check_training(command: str, tmp_path: Path, corpus: Path, cache: Path) -> None:
    """Runs it with a small network, for one epoch and two seeds, of an experiment one."""
    with tarfile.open(tmp_path / "aclImdb.tar.gz", "w:gz") as tar:
        tar.add(corpus, arcname="aclImdb")
    small = [f"data.cache_dir={cache}", "problem.hidden=[4]", "problem.epochs=1"]
    seeds = 1 if "experiment=figure7" in command else 2
    command = re.sub(r"range\(\d+\)", f"range({seeds})", command)
    if "--config-dir" in command:
        write_study(tmp_path)
    if "problem=digits" in command:
        small = ["problem.hidden=4", "problem.epochs=1"]
    if "problem=synthetic" in command or "problem=toy" in command:
        small = ["problem.epochs=1"]
    words = [sys.executable, *shlex.split(command)[1:]]
    if "--multirun" in words and "launcher" not in command:
        words.append("hydra.launcher.workers=1")
    if "--help" not in words:
        words += [word for word in small if word.partition("=")[0] not in command]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    if "experiment=paper dry_run=true" in command:
        assert "2,750 distinct" in done.stdout
    elif "--multirun" in command:
        planned = re.search(
            r"plan      ([\d,]+) comb\w+, (\d+) distinct: 0 finished, (\d+) to run", done.stdout
        )
        assert planned
        expected = 36 if "experiment=figure7" in command else combinations_in(command)
        assert int(planned[1]) == expected
        assert f"sweep     {planned[3]} done, 0 failed, 0 left" in done.stdout
    else:
        only_shows = "--help" in command or "--cfg" in command
        assert done.stdout.count("result    test loss") == (0 if only_shows else 1)


@pytest.mark.parametrize("command", TRAINING)
def test_training_commands(command, tmp_path, corpus, cache):
    check_training(command, tmp_path, corpus, cache)
    [digits] = [report for report in REPORTS if "problem=digits" in report]
    if "--multirun problem=digits" in command:
        words = [sys.executable, *shlex.split(digits)[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "runs      6 finished runs in 3 settings, 2 seeds" in done.stdout


def test_a_problem_takes_forty_lines():
    section = REST.split("## Your own problem\n")[1].partition("[examples/digits]")[0]
    lines = [line for line in section.splitlines() if line and not line.startswith("```")]
    assert len(lines) <= 40


@pytest.mark.slurm
def test_slurm_command(tmp_path, corpus, cache):
    """With a server on this machine, which is the only node."""
    folder = tmp_path / "server"
    folder.mkdir()
    with mlflow_ui(["server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"], folder) as url:
        command = CLUSTER[0].replace("http://login:5000", url)
        assert url in command
        check_training(command, tmp_path, corpus, cache)
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.ray
def test_ray_command(tmp_path, corpus, cache):
    check_training(CLUSTER[2], tmp_path, corpus, cache)


def test_ui_and_reports(tmp_path, small, sweep):
    """On a sweep with the values that the reports ask for."""
    knobs = ["mode=SingleTask,Projection", "lam=30,100", "seed=range(2)", "hydra.launcher.workers=1"]
    assert sweep(*knobs, *small).returncode == 0
    with auxgrad_ui(*shlex.split(UI)[3:], cwd=tmp_path) as (_, links):
        assert set(links) == {"charts", "table", "means"}
    for command in [command for command in REPORTS if "problem=digits" not in command]:
        words = [sys.executable, *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "runs      6 finished runs in 3 settings, 2 seeds" in done.stdout


@pytest.mark.long
def test_benchmarks(tmp_path):
    """All parts of it, each once."""
    command = [sys.executable, *shlex.split(BENCHMARKS)[1:], "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.count("|---|") == 10
    with (tmp_path / "figures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(
        float(row["value"]) > 0 for row in rows if row["who"] not in ("start of Python", "written")
    )
    steps = {(row["setting"], row["who"]) for row in rows if row["what"] == "step"}
    assert len(steps) == 5 * len({"auxgrad", "eager dense", "PyTorch by hand", "fit", "memory limit"})
    synthetic = [row["who"] for row in rows if row["what"] == "synthetic step"]
    assert synthetic == ["auxgrad", "Keras fit, plain two losses", "PyTorch by hand"]
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("program", re.findall(r"```python\n(.*?)```", README, re.S))
def test_programs(program, tmp_path):
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", README):
        assert Path(REPOSITORY, target).exists(), target


def test_the_bash_completion_line():
    assert 'eval "$(auxgrad-train -sc install=bash)"' in README
    script = Path(sys.executable).with_name("auxgrad-train")
    done = subprocess.run([script, "-sc", "install=bash"], capture_output=True, text=True, check=True)
    line = "auxgrad-train mode=Pro"
    shell = (
        f"{done.stdout}\nCOMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD=1 hydra_bash_completion\n"
    )
    shell += 'echo "${COMPREPLY[@]}"'
    env = {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=env, check=True)
    assert "mode=Projection" in done.stdout
