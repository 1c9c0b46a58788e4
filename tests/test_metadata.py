"""What a release says of itself: one version everywhere, a licence for each dependency."""

from __future__ import annotations

import re
import tomllib

import yaml
from conftest import REPOSITORY

import auxgrad

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FOR_DEVELOPERS = ("bench", "dev", "docs", "test")


def test_the_citation_has_the_version_of_the_package():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == auxgrad.__version__
    assert citation["title"] == PROJECT["name"]
    assert citation["license"] == PROJECT["license"]


def test_the_changelog_begins_with_the_version_of_the_package():
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (.*)$", changelog, re.M)[1]
    assert auxgrad.__version__ in first.split()


def test_types_are_for_users_too():
    assert (REPOSITORY / "auxgrad" / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_every_dependency_has_a_licence_on_the_page():
    page = (REPOSITORY / "docs" / "licences.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| ([\w.-]+) \| [\w, ]*\| \S.* \|$", page, re.M))
    lines = list(PROJECT["dependencies"])
    for extra, needed in PROJECT["optional-dependencies"].items():
        lines += [] if extra in FOR_DEVELOPERS else needed
    assert {re.match(r"[\w.-]+", line)[0] for line in lines} <= listed


def test_the_classifiers_name_supported_versions_of_python():
    minors = re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"]))
    lowest = re.search(r"3\.(\d+)", PROJECT["requires-python"])[1]
    assert minors[0] == lowest
    assert minors == sorted(minors, key=int)
