"""Problems and data of the user: options, error messages and identity."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from auxgrad.config import Identity, compose
from auxgrad.config.code.source import version_of
from auxgrad.config.composing import USER_PATHS, compose_with_hydra
from auxgrad.config.entry import prepare
from auxgrad.errors import ConfigError

MODULE = """\
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

import auxgrad


class Source(auxgrad.DataSource):
    rows: int = 10


class Numbers(auxgrad.Problem):
    width: Annotated[int, Field(gt=0)] = 4
    names: tuple[str, ...] = ("a",)
    cache: Annotated[Path | None, Field(exclude=True)] = None

    @field_validator("names")
    @classmethod
    def _no_x(cls, names):
        if "x" in names:
            raise ValueError("x is taken")
        return names

    @model_validator(mode="after")
    def _fits(self):
        if self.width < len(self.names):
            raise ValueError("more names than columns")
        return self

    def load(self):
        raise NotImplementedError

    def build(self, data, seed):
        raise NotImplementedError


class Half(auxgrad.Problem):
    def load(self):
        raise NotImplementedError


class WithData(Numbers):
    data: Source = Source()


class Pinned(Numbers):
    version = 3


class Needy(WithData):
    size: int
    sizes: dict[str, list[float]] = {"a": [1, 0.5]}
    title: str = "it's ${here}"
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Create a folder with problems of the user; remove their modules from sys.modules afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for group in ("problem", "data"):
        (tmp_path / "conf" / group).mkdir(parents=True)
    (tmp_path / "numbers_of_mine.py").write_text(MODULE)
    for name, kind in (("numbers", "Numbers"), ("pinned", "Pinned")):
        (tmp_path / f"conf/problem/{name}.yaml").write_text(f"_target_: numbers_of_mine.{kind}\n")
    (tmp_path / "conf/problem/with_data.yaml").write_text(
        "defaults: [{/data@_global_.data: small}, _self_]\n_target_: numbers_of_mine.WithData\n"
    )
    (tmp_path / "conf/problem/needy.yaml").write_text(
        "defaults: [{/data@_global_.data: small}, _self_]\n_target_: numbers_of_mine.Needy\nwidth: 7\n"
    )
    (tmp_path / "conf/data/small.yaml").write_text("_target_: numbers_of_mine.Source\n")
    (tmp_path / "conf/data/large.yaml").write_text("_target_: numbers_of_mine.Source\nrows: 99\n")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def composed(*words):
    return compose(words, config_dir="conf")


def identity(*words, fingerprint="f") -> Identity:
    return composed(*words).identity(fingerprint)


def test_options_come_from_the_class_the_file_and_the_command_line(study):
    config = composed("problem=numbers", "problem.width=8", "problem.cache=there")
    assert (config.problem.width, config.problem.names, config.names.problem) == (8, ("a",), "numbers")
    assert config.to_dict()["problem"] == {
        "_target_": "numbers_of_mine.Numbers",
        **{"tf32": False, "width": 8, "names": ["a"], "cache": "there"},
    }
    assert "data" not in config.to_dict()
    assert composed("problem=with_data").problem.data.rows == 10
    assert composed("problem=with_data", "data=large").problem.data.rows == 99
    assert composed("problem=with_data", "data=large", "data.rows=3").problem.data.rows == 3


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["problem.width=0"], "problem.width=0: must be greater than 0"),
        (["problem.width=a"], "problem.width=a: must be a valid integer, unable to parse string"),
        (
            ["problem.widht=3"],
            "problem.widht=3: unknown key; must be one of problem.tf32, problem.width, problem.names, "
            "problem.cache (did you mean problem.width?)",
        ),
        (
            ["problem.hidden=3"],
            "problem.hidden=3: unknown key; must be one of problem.tf32, problem.width, problem.names, "
            "problem.cache",
        ),
        (["problem.names=[x]"], "problem.names=[x]: x is taken"),
        (["problem.names=[a,b]", "problem.width=1"], "problem: more names than columns"),
        (["data=imdb"], "data=imdb: the problem takes no data"),
        (["data.path=x"], "data.path=x: problem=numbers takes no data"),
        (["problem._target_=x"], "problem._target_=x: is set by the file of problem"),
    ],
)
def test_wrong_options_get_one_line(study, words, line):
    with pytest.raises(ConfigError) as caught:
        composed("problem=numbers", *words)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert line.endswith("?)") == ("did you mean" in str(caught.value))


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("", "problem: its file must name a class, as in _target_: module.Class"),
        (
            "nowhere.Numbers",
            "problem._target_=nowhere.Numbers: there is no module nowhere; looked for in ",
        ),
        ("numbers_of_mine.Nothing", "problem._target_=numbers_of_mine.Nothing: "),
        (
            "numbers_of_mine.Source",
            "problem._target_=numbers_of_mine.Source: must be a class derived from auxgrad.Problem",
        ),
        ("numbers_of_mine.Half", "problem._target_=numbers_of_mine.Half: has no method build"),
        ("numbers_of_mine.auxgrad", "problem._target_=numbers_of_mine.auxgrad: must be a class derived"),
    ],
)
def test_wrong_classes_get_one_line(study, target, line):
    (study / "conf/problem/wrong.yaml").write_text(f"_target_: {target}\n" if target else "width: 3\n")
    with pytest.raises(ConfigError) as caught:
        composed("problem=wrong")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_data_of_another_problem_gets_one_line(study):
    with pytest.raises(ConfigError) as caught:
        composed("problem=with_data", "data=imdb")
    assert str(caught.value) == "data=imdb: problem=with_data takes data of class Source"


def test_what_determines_a_result_is_the_identity(study):
    base = identity("problem=numbers")
    for words in (["problem.width=8"], ["problem.names=[b]"], ["problem.tf32=true"], ["seed=1"]):
        assert identity("problem=numbers", *words).key != base.key
    assert identity("problem=numbers", "problem.cache=elsewhere").key == base.key
    assert identity("problem=numbers", fingerprint="g").key != base.key
    assert identity("problem=with_data").key != base.key
    # The name does not matter: the same class with the same options is the same problem.
    (study / "conf/problem/other.yaml").write_text("_target_: numbers_of_mine.Numbers\n")
    other = identity("problem=other")
    assert (other.key, other.study_key) == (base.key, base.study_key)
    assert other.study_name == "problem=other"
    assert Identity.from_json(base.to_json()) == base


def test_names_tell_problem_data_options_and_source(study):
    name = identity("problem=with_data", "data=large", "problem.width=8").setting_name
    assert name.startswith(
        "Projection lam=100 alpha=0.01 problem=with_data data.rows=99 problem.width=8 "
    )
    # Other data of the same name must be another group in the MLflow UI.
    assert (
        name.rpartition("source=")[2]
        != (
            identity("problem=with_data", "data=large", "problem.width=8", fingerprint="g").setting_name
        ).rpartition("source=")[2]
    )
    assert identity("problem=with_data").params["data"] == "small"
    assert "data" not in identity("problem=numbers").params


def test_an_edited_problem_is_another_one_unless_it_is_pinned(study):
    before = {name: identity(f"problem={name}") for name in ("numbers", "pinned")}
    assert before["pinned"].problem["version"] == "version 3"
    file = study / "numbers_of_mine.py"
    file.write_text(MODULE.replace("NotImplementedError", "RuntimeError"))
    # The imported code is what runs, even if the file was edited since.
    assert identity("problem=numbers") == before["numbers"]
    importlib.reload(sys.modules["numbers_of_mine"])
    after = {name: identity(f"problem={name}") for name in ("numbers", "pinned")}
    assert after["numbers"].key != before["numbers"].key
    assert after["pinned"].key == before["pinned"].key


def test_the_version_holds_all_modules_beside_the_users(study):
    package = study / "pack_of_mine"
    (package / "inner").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "problem.py": "from .inner import layers\n\n\nclass P:\n    def build(self):\n"
        "        import late_of_mine\n",
        "inner/__init__.py": "from . import layers\n",
        "inner/layers.py": "import json\n",
        "unused.py": "",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    (study / "late_of_mine.py").write_text("x = 1\n")

    def version():
        for name in [name for name in sys.modules if name.startswith("pack_of_mine")]:
            del sys.modules[name]
        return version_of("problem", importlib.import_module("pack_of_mine.problem").P)

    first = version()
    assert len(first) == 64
    (package / "unused.py").write_text("y = 1\n")
    assert version() == first
    seen = {first}
    for file in ("pack_of_mine/inner/layers.py", "late_of_mine.py", "pack_of_mine/__init__.py"):
        with (study / file).open("a") as out:
            out.write("# Edited.\n")
        seen.add(version())
    assert len(seen) == 4
    assert version_of("problem", Identity) == ""


def test_the_help_lists_all_options_of_the_class_with_their_defaults(study, monkeypatch, capsys):
    monkeypatch.setenv(USER_PATHS, "")
    words = prepare(["problem=needy", "problem.title=mine", "--config-dir", "conf", "--help"])
    assert words[:2] == ["--help", "--config-dir=conf"]
    shown = OmegaConf.to_container(compose_with_hydra(words[2:]), resolve=False)
    assert shown["problem"] == {
        **{"_target_": "numbers_of_mine.Needy", "tf32": False, "width": 7, "names": ["a"]},
        **{"cache": None, "size": "???", "sizes": {"a": [1, 0.5]}, "title": "mine"},
    }
    assert shown["data"] == {"_target_": "numbers_of_mine.Source", "rows": 10}
    assert capsys.readouterr().err == ""

    (study / "numbers_of_mine.py").write_text("oops")
    del sys.modules["numbers_of_mine"]
    assert not any("tf32" in word for word in prepare(["problem=needy", "-cd", "conf", "-h"]))
    note = capsys.readouterr().err
    line = (
        "note      only the options in files are listed; problem._target_=numbers_of_mine.Needy: module"
    )
    assert note.startswith(line)


@pytest.mark.process
def test_the_help_of_the_command(study):
    command = [sys.executable, "-m", "auxgrad.train", "--config-dir", "conf", "problem=needy", "--help"]
    done = subprocess.run(command, cwd=study, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    section = done.stdout.partition("\nproblem:\n")[2]
    assert "  width: 7\n  tf32: false\n  names:\n  - a\n" in section
    assert "  size: ???\n" in section
    assert "  title: it's ${here}\n" in section


def test_a_sweep_over_problems_and_their_options(study):
    from auxgrad.config.composing import typed_config

    values = composed("problem=numbers").to_dict()
    wrong = {**values, "problem": {**values["problem"], "width": -1}, "lam": -1.0}
    with pytest.raises(ConfigError) as caught:
        typed_config(wrong, {"problem": "numbers", "data": None})
    assert str(caught.value).splitlines() == [
        "problem.width=-1: must be greater than 0",
        "lam=-1: must be a finite number >= 0",
    ]
