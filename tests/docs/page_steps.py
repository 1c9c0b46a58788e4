"""Parse the pages of the documentation into steps, and shrink their commands to a few seconds.

A step is a fenced block of code, or one command of a ```console block. The conventions:

* ```console: each line that starts with "$ " is a command that a test runs;
* ```python: a program that a test runs; the programs of a page share one namespace;
* ```python title="digits.py", and any other block with a title: a file that the user creates;
* ```bash: a command that no test can run, such as the installation of a driver.
"""

from __future__ import annotations

import itertools
import math
import re
import shlex
import textwrap
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
FENCE = re.compile(
    r"^(?P<indent>[ ]*)```(?P<language>\w+)(?P<rest>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)
LANGUAGES = {"bash", "console", "csv", "json", "mermaid", "python", "text", "yaml"}
TRAIN, REPORT = "python -m auxgrad.train", "python -m auxgrad.report"
UI, BENCHMARKS = "python -m auxgrad.ui", "python -m benchmarks"
QUICK_START, INSTALL = "python3 -m venv .venv && ", "pip install "
CONF = REPOSITORY / "conf"

IN_PROCESS, ONE_WORKER = "hydra/launcher=basic", "hydra.launcher.workers=1"

# Who runs a step.
PAGE, CI, SERVER, BENCH = "this page's test", ".ci/run", "test_server.py", "test_benchmarks"


@dataclass(frozen=True)
class Step:
    """A part of a page that a test runs or writes.

    Attributes:
        kind: "command", "python", "file" or "yaml".
        text: the command, the program or the content.
        title: the path of a file.
        keeper: who runs it.
        number: the position on the page.
    """

    kind: str
    text: str
    title: str = ""
    keeper: str = PAGE
    number: int = 0


@dataclass(frozen=True)
class Page:
    """A Markdown file with steps."""

    path: Path
    text: str = field(repr=False)

    @staticmethod
    def read(path: Path) -> Page:
        return Page(path, path.read_text(encoding="utf-8"))

    @property
    def name(self) -> str:
        """The path in the repository."""
        return self.path.relative_to(REPOSITORY).as_posix()

    @property
    def marker(self) -> str:
        """The marker of the page's test: docs, slurm or ray."""
        found = re.match(r"---\n(.*?)\n---\n", self.text, re.DOTALL)
        told = found and re.search(r"^test: (\w+)$", found[1], re.MULTILINE)
        return told[1] if told else "docs"

    @cached_property
    def blocks(self) -> list[re.Match[str]]:
        """All fenced blocks."""
        return list(FENCE.finditer(self.text))

    @cached_property
    def steps(self) -> list[Step]:
        """What a test runs or writes, in the order of the page."""
        found: list[Step] = []
        consoles = 0
        for block in self.blocks:
            body = textwrap.dedent(block["body"])
            title = re.search(r'title="([^"]+)"', block["rest"])
            if title:
                found.append(Step("file", body, title[1]))
            elif block["language"] in ("python", "yaml"):
                found.append(Step(block["language"], body))
            elif block["language"] == "console":
                is_server = self.name == "docs/how-to/tracking-server.md" and consoles == 0
                consoles += 1
                found += [
                    Step("command", command, "", keeper(command, is_server))
                    for command in commands_in(body)
                ]
        return [Step(*each, number) for number, each in enumerate(map(_fields, found))]

    @property
    def own_steps(self) -> list[Step]:
        """The steps that the page's own test runs."""
        return [step for step in self.steps if step.keeper == PAGE]


def _fields(step: Step) -> tuple[str, str, str, str]:
    return step.kind, step.text, step.title, step.keeper


def commands_in(block: str) -> list[str]:
    """Return the commands of a console block. Raises AssertionError for any other line."""
    lines = block.replace("\\\n", " ").splitlines()
    assert all(line.startswith("$ ") for line in lines if line.strip()), block
    return [line[2:].strip() for line in lines if line.strip()]


def keeper(command: str, is_server: bool) -> str:
    """Return who runs a command."""
    if is_server:
        return SERVER
    if command.startswith(QUICK_START):
        return CI
    return BENCH if command.startswith(BENCHMARKS) else PAGE


def pages() -> list[Page]:
    """Return the README and every page of the site."""
    return [Page.read(path) for path in (REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md")))]


def is_training(command: str) -> bool:
    return command.startswith((TRAIN, "auxgrad-train "))


def only_shows(command: str) -> bool:
    """Return whether a training command trains nothing."""
    words = set(shlex.split(command))
    shows = {"--help", "--cfg", "--info", "--hydra-help", "-c", "-sc", "dry_run=true"}
    return bool(words & shows)


def is_multirun(command: str) -> bool:
    return bool({"--multirun", "-m"} & set(shlex.split(command)[3:]))


def shrink(command: str, folder: Path, launcher: str = IN_PROCESS) -> str:
    """Return a training command or a report for a small network, one epoch and two seeds.

    Two settings are left of an experiment that ships. A command that trains nothing stays as it is. A
    sweep without a launcher of its own gets `launcher`: one worker more would import TensorFlow again.
    """
    if is_training(command) and only_shows(command):
        return command
    command = re.sub(r"range\(\d+\)", "range(2)", command)
    command = re.sub(r"\bproblem\.epochs=\d+", "problem.epochs=1", command)
    if not is_training(command):
        return command
    added = small_options(command, folder)
    if experiment := experiment_of(command, folder):
        added.append('"seed=range(2)"')
        if experiment.is_relative_to(CONF):
            added += ["mode=SingleTask,Multitask", "lam=1"]
    if is_multirun(command) and "launcher" not in command:
        added.append(launcher)
    given = {word.partition("=")[0] for word in shlex.split(command)}
    return " ".join(
        [command, *(word for word in added if word.strip('"').partition("=")[0] not in given)]
    )


def small_options(command: str, folder: Path) -> list[str]:
    """Return the options that make the problem of a command small."""
    text = command
    if experiment := experiment_of(command, folder):
        text += experiment.read_text(encoding="utf-8")
    problems = set(re.findall(r"(?<![\w.])problem(?:=|: )([^\s\"]+)", text))
    for problem in problems:
        if own := next(folder.rglob(f"problem/{problem}.yaml"), None):
            return options_of(own, folder)
    return ["problem.epochs=1", *([] if problems - {"reviews"} else ["problem.hidden=[4]"])]


def experiment_of(command: str, folder: Path) -> Path | None:
    """Return the file of the experiment of a command, one that ships or one of the page's own."""
    named = re.search(r"(?<![\w.])experiment=([^\s\"]+)", command)
    if not named:
        return None
    file = f"experiment/{named[1]}.yaml"
    return next(folder.rglob(file), CONF / file)


def options_of(own: Path, folder: Path) -> list[str]:
    """Return small values for the options of a user's problem."""
    target = re.search(r"^_target_: ([\w.]+)\.\w+$", own.read_text(encoding="utf-8"), re.MULTILINE)
    assert target, own
    source = (folder / f"{target[1].replace('.', '/')}.py").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^ +(epochs|hidden): (\w+)", source, re.MULTILINE))
    values = {"epochs": "1", "hidden": "[4]" if fields.get("hidden") == "tuple" else "4"}
    return [f"problem.{key}={values[key]}" for key in fields]


def combinations_in(command: str) -> int | None:
    """Return how many combinations a shrunk command asks for; None if files decide."""
    if any(word in command for word in ("experiment=", "hydra/sweeper=", "interval(", "choice(")):
        return None
    sizes = []
    for word in shlex.split(command)[3:]:
        key, _, value = word.partition("=")
        if value == "glob(*)":
            sizes.append(len(list((CONF / key).glob("*.yaml"))))
        elif match := re.fullmatch(r"range\((\d+)\)", value):
            sizes.append(int(match[1]))
        else:
            sizes.append(len(split_values(value)))
    return math.prod(sizes)


def split_values(value: str) -> list[str]:
    """Split at the commas outside brackets.

    >>> split_values("[4,8],[16]")
    ['[4,8]', '[16]']
    """
    depths = itertools.accumulate((char in "[{(") - (char in "]})") for char in value)
    marked = (
        ("\n" if char == "," and not depth else char) for char, depth in zip(value, depths, strict=True)
    )
    return "".join(marked).split("\n")
