"""Run every command and every program of the README and of the site, page by page.

`page_steps` has the conventions of the pages. A page is under the marker docs, unless its front matter
has another one, as in `test: slurm`. The quick start makes its own environment: .ci/run runs it.
tests/record/test_server.py runs the commands of the tracking server.
"""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, auxgrad_ui, mlflow_ui
from forked import run_python
from page_processes import Notebook
from page_steps import (
    BENCH,
    CI,
    IN_PROCESS,
    INSTALL,
    LANGUAGES,
    ONE_WORKER,
    PAGE,
    REPORT,
    SERVER,
    TRAIN,
    UI,
    Page,
    combinations_in,
    is_multirun,
    is_training,
    only_shows,
    pages,
    shrink,
)

PAGES = pages()
TESTED = [page for page in PAGES if page.own_steps]
BENCHMARKS = {
    line for page in PAGES for line in re.findall(r"^(?:\$ )?(python -m benchmarks.*)$", page.text, re.M)
}
EXTRAS = re.search(
    r"\[project\.optional-dependencies\]\n(.*?)\n\[",
    (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"),
    re.DOTALL,
)
# What a page that only looks at runs finds.
SWEEP = f'{TRAIN} --multirun mode=SingleTask,Projection lam=30,100 "seed=range(2)"'


# Of the pages, CI runs those that a new user works through; `pytest -m docs` runs all.
FIRST = re.compile(r"README\.md|docs/get-started\.md|docs/tutorials/.*")


def as_case(page: Page):
    marks = [getattr(pytest.mark, page.marker)]
    if page.marker == "docs" and not FIRST.fullmatch(page.name):
        marks.append(pytest.mark.long)
    return pytest.param(page, id=page.name, marks=marks)


class Walk:
    """A user who works through a page, in a folder of the page's own."""

    def __init__(
        self, page: Page, folder: Path, template: Path, cache: Path, corpus: Path, server: str = ""
    ) -> None:
        self.page, self.folder, self.template, self.server = page, folder, template, server
        self.swept = self.single = 0  # Finished runs.
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(cache),
            "MPLBACKEND": "agg",
        }
        (folder / "docs/images").mkdir(parents=True)
        shutil.copytree(REPOSITORY / "examples", folder / "examples")
        if "aclImdb" in page.text:
            with tarfile.open(folder / "aclImdb.tar.gz", "w:gz") as tar:
                tar.add(corpus, arcname="aclImdb")

    def walk(self) -> None:
        """Take all steps in order."""
        first = next((step.text for step in self.page.own_steps if "auxgrad" in step.text), "")
        if first.startswith((REPORT, UI)):
            self.train(SWEEP)
        with Notebook(self.folder, self.environment, self.template) as notebook:
            for step in self.page.own_steps:
                began = time.monotonic()
                if step.kind == "file":
                    self.write(step.title, step.text)
                elif step.kind == "yaml":
                    assert "--8<--" in step.text or yaml.safe_load(step.text)
                elif step.kind == "python":
                    notebook.run(step.text, f"<{self.page.name}, step {step.number}>")
                else:
                    self.command(step.text)
                print(f"{time.monotonic() - began:6.1f} s  {step.title or step.text.splitlines()[0]}")

    def write(self, title: str, text: str) -> None:
        file = self.folder / title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def command(self, command: str) -> None:
        if is_training(command):
            self.train(command)
        elif command.startswith(UI):
            with auxgrad_ui(*shlex.split(command)[3:], cwd=self.folder) as (_, links):
                assert {"charts", "table"} <= set(links) <= {"charts", "table", "means"}
                assert "means" in links or not self.swept
        elif command.startswith(INSTALL):
            [extras] = re.findall(r'"\.\[([\w,]+)\]"', command) or [""]
            assert all(
                re.search(rf"^{extra} = ", EXTRAS[1], re.M) for extra in extras.split(",") if extra
            )
        elif command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
            assert self.folder.is_dir(), command
        elif match := re.fullmatch(r"export (\w+)=(\S+)", command):
            self.environment[match[1]] = match[2]
        else:
            shown = self.run(shrink(command, self.folder))
            if command.startswith(REPORT):
                reported = re.findall(r"^runs      ([\d,]+) finished run", shown, re.M)
                assert reported, shown
                if command == REPORT and not self.single:
                    assert sum(int(number.replace(",", "")) for number in reported) == self.swept

    def run(self, command: str) -> str:
        """Run a command, and return its output."""
        if self.server:
            command = command.replace("http://login:5000", self.server)
        words = shlex.split(command)
        if words[0] == "python" and not set("|&;<>$`") & set(command):
            if words[1] == "examples/toy/paths.py":
                words.append("problem.epochs=2")
            ended = run_python(words, self.folder, self.environment, self.template)
            assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
            return ended.stdout
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def train(self, command: str) -> None:
        """Run a training command on a small network, and check what it says."""
        command = re.sub(r"^auxgrad-train\b", TRAIN, command)
        launcher = ONE_WORKER if self.page.name == "README.md" else IN_PROCESS
        small = shrink(command, self.folder, launcher)
        shown = self.run(small)
        if not is_multirun(command):
            self.single += not only_shows(command)
            assert shown.count("result    test loss") == (0 if only_shows(command) else 1), shown
            return
        if "hydra/sweeper=" in command:
            assert "result    test loss" in shown
            return
        numbers = r"plan      ([\d,]+) comb\w+, ([\d,]+) distinct: ([\d,]+) finished, ([\d,]+) to run"
        planned = re.search(numbers, shown)
        assert planned, shown
        combinations, distinct, finished, left = (int(n.replace(",", "")) for n in planned.groups())
        assert combinations >= distinct == finished + left
        if (expected := combinations_in(small)) is not None:
            assert combinations == expected
        if "experiment=paper" in command and "seed=" not in command:
            assert distinct == 2750
        if not only_shows(command):
            self.swept += left
            assert not left or f"sweep     {left} done, 0 failed, 0 left" in shown, shown


@pytest.mark.parametrize("page", map(as_case, TESTED))
def test_page(page, tmp_path, template, cache, corpus):
    """Work through the page; on a cluster with a tracking server on this machine, its only node."""
    folder = tmp_path / "work"
    folder.mkdir()
    if page.marker != "slurm":
        Walk(page, folder, template, cache, corpus).walk()
        return
    home = tmp_path / "server"
    home.mkdir()
    with mlflow_ui(["server", "--backend-store-uri", f"sqlite:///{home}/mlflow.db"], home) as url:
        Walk(page, folder, template, cache, corpus, url).walk()


def test_every_block_is_run_once():
    """No page is left out, no block has a language of which nobody knows whether it runs."""
    assert len(PAGES) > 1
    for page in PAGES:
        opened = re.findall(r"^ *```(\w+)", page.text, re.MULTILINE)
        assert len(opened) * 2 == len(re.findall(r"^ *```", page.text, re.MULTILINE)), page.name
        assert [block["language"] for block in page.blocks] == opened, page.name
        assert set(opened) <= LANGUAGES, page.name
        consoles = [block["body"] for block in page.blocks if block["language"] == "console"]
        lines = [
            line for body in consoles for line in body.splitlines() if line.lstrip().startswith("$ ")
        ]
        assert len([step for step in page.steps if step.kind == "command"]) == len(lines), page.name
        programs = [block for block in page.blocks if block["language"] == "python"]
        taken = [step for step in page.steps if step.kind == "python" or step.title.endswith(".py")]
        assert len(taken) == len(programs), page.name
        assert {step.keeper for step in page.steps} <= {PAGE, CI, SERVER, BENCH}
        assert page.marker in ("docs", "slurm", "ray"), page.name
        assert bool(page.own_steps) == (page in TESTED)
        assert {step.text for step in page.steps if step.keeper == BENCH} <= BENCHMARKS
        if page.marker == "docs":
            assert not any("hydra/launcher=slurm" in step.text for step in page.own_steps), page.name
    assert all(page.name == "README.md" for page in PAGES for step in page.steps if step.keeper == CI)


def test_the_quick_start_is_two_lines():
    """Of the README, in the section that .ci/run reads."""
    [readme] = [page for page in PAGES if page.name == "README.md"]
    section = re.search(r"^## Quick start\n(.*?)^## ", readme.text, re.DOTALL | re.MULTILINE)[1]
    lines = re.findall(r"^\$ (.*)$", section, re.MULTILINE)
    assert lines == [step.text for step in readme.steps if step.keeper == CI]
    assert len(lines) == 2
    assert len(readme.text.splitlines()) <= 150


def test_a_problem_takes_forty_lines():
    """The example of a study: data, network and losses."""
    lines = (REPOSITORY / "examples/digits/digits.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line]) <= 40


def test_the_server_commands_are_there():
    """For tests/record/test_server.py."""
    [page] = [page for page in PAGES if page.name == "docs/how-to/tracking-server.md"]
    assert len([step for step in page.steps if step.keeper == SERVER]) == 5


@pytest.mark.long
@pytest.mark.parametrize("command", sorted(BENCHMARKS))
def test_benchmarks(command, tmp_path):
    """All parts of it, each once."""
    words = [sys.executable, *shlex.split(command)[1:], "--quick", "--output", str(tmp_path)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    with (tmp_path / "figures.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows
    may_be_zero = ("start of Python", "written")
    assert all(float(row["value"]) > 0 for row in rows if row["who"] not in may_be_zero)
    if "--only" in command:
        return
    assert done.stdout.count("|---|") == 10
    steps = {(row["setting"], row["who"]) for row in rows if row["what"] == "step"}
    assert len(steps) == 5 * len({"auxgrad", "eager dense", "PyTorch by hand", "fit", "memory limit"})
    synthetic = [row["who"] for row in rows if row["what"] == "synthetic step"]
    assert synthetic == ["auxgrad", "Keras fit, plain two losses", "PyTorch by hand"]
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_the_bash_completion_line():
    line = 'eval "$(auxgrad-train -sc install=bash)"'
    [page] = [page for page in PAGES if page.name == "docs/reference/command-line.md"]
    assert line in [step.text for step in page.own_steps]
    script = Path(sys.executable).with_name("auxgrad-train")
    done = subprocess.run([script, "-sc", "install=bash"], capture_output=True, text=True, check=True)
    typed = "auxgrad-train mode=Pro"
    given = f"COMP_LINE='{typed}' COMP_POINT={len(typed)} COMP_CWORD=1"
    shell = f'{done.stdout}\n{given} hydra_bash_completion\necho "${{COMPREPLY[@]}}"'
    env = {**os.environ, "PATH": f"{script.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=env, check=True)
    assert "mode=Projection" in done.stdout
