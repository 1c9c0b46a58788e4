"""Imports go downwards, modules are small, and folders have few entries."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import REPOSITORY

CHART = (REPOSITORY / "docs" / "design.md").read_text(encoding="utf-8").partition("## Packages")[2]
# From the bottom up. Packages in one line must not import each other.
LEVELS = [
    re.split(r"\s\s+", line.strip())
    for line in re.search(r"```text\n(.*?)```", CHART, re.S)[1].splitlines()
    if line.strip() != "|"
][::-1]
COMMANDS = ("train", "report", "ui", "sync")
LEVEL = {
    name: number
    for number, words in enumerate(LEVELS)
    for name in (COMMANDS if words[0] == "train" else words[:1])
}
MODULES = sorted(
    path for folder in ("auxgrad", "hydra_plugins") for path in (REPOSITORY / folder).rglob("*.py")
)


def package_of(module: str) -> str:
    """Return the package of a module, as the chart names it."""
    first, *rest = module.split(".")
    return first if first == "hydra_plugins" or not rest else rest[0]


def name_of(path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path) -> set[str]:
    """Return the modules of the project that a module imports anywhere in its code."""
    found = set()
    names = {name_of(each) for each in MODULES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & names) or {node.module}
    return {name for name in found if name.split(".")[0] in ("auxgrad", "hydra_plugins")}


def test_the_chart_names_every_package():
    packages = {package_of(name_of(path)) for path in MODULES} - {"auxgrad"}
    assert set(LEVEL) == packages


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downwards(path):
    own = package_of(name_of(path))
    if own == "auxgrad":
        return  # auxgrad/__init__.py loads the public names on first use.
    for name in imports_of(path):
        other = package_of(name)
        # `import auxgrad` is allowed, for its version.
        assert name == "auxgrad" or other == own or LEVEL[other] < LEVEL[own], name


def test_no_circles_between_modules():
    arrows = {name_of(path): imports_of(path) - {name_of(path), "auxgrad"} for path in MODULES}
    left = dict(arrows)
    while left:
        free = [name for name, targets in left.items() if not targets & left.keys()]
        assert free, sorted(left)
        for name in free:
            del left[name]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_small(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_text_files_have_an_encoding(path):
    """Without one, Python would use the encoding of the locale."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        given = {word.arg: word.value for word in node.keywords}
        modes = [each.value for each in node.args if isinstance(each, ast.Constant)]
        is_text = name in ("read_text", "write_text") or (
            name == "open" and any(set(str(mode)) <= set("rwaxt+") for mode in modes)
        )
        assert not is_text or "encoding" in given, f"{path}:{node.lineno}"


def test_no_level_is_crowded():
    for folder in {path.parent for path in MODULES} | {REPOSITORY / "auxgrad"}:
        entries = {each.name for each in folder.iterdir()} - {
            "__pycache__",
            "conf",
            "__init__.py",
            "py.typed",
            *(f"{command}.py" for command in COMMANDS[1:]),  # The commands are one line of the chart.
        }
        assert len(entries) <= 12, (folder, sorted(entries))


def test_tests_mirror_the_package():
    packages = {path.parent.name for path in MODULES if path.parent.parent.name == "auxgrad"}
    folders = {path.name for path in (REPOSITORY / "tests").iterdir() if path.is_dir()}
    assert packages <= folders
