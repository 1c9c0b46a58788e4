"""Every mode has a page with its measured results, a picture and an entry in the navigation."""

from __future__ import annotations

import re
import runpy
import sys
import types

import pytest
from conftest import REPOSITORY

from auxgrad.censoring import MODES

DOCS = REPOSITORY / "docs"
INDEX = (DOCS / "methods/index.md").read_text(encoding="utf-8")
# Modes that the comparison has under another name.
MEASURED_AS = {"Bloop": "Orthogonal"}
LOSSES, RATIOS = "| mode | synthetic, same |", "| mode | test loss / SingleTask"


def page_of(mode: str) -> str:
    return (DOCS / f"methods/{mode.lower()}.md").read_text(encoding="utf-8")


def rows(text: str, head: str) -> dict[str, str]:
    """Return the head and the rows of a table by their first cells."""
    [table] = re.findall(rf"^{re.escape(head)}.*(?:\n\|.*)*", text, re.MULTILINE)
    lines = table.splitlines()
    assert re.fullmatch(r"[|-]+", lines[1])
    return {line.split("|")[1].strip(): line for line in (lines[0], *lines[2:])}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The folder with what the script adds to a site."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "methods").mkdir()
    plugin = types.ModuleType("mkdocs_gen_files")
    plugin.open = lambda name, mode: (folder / name).open(mode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mkdocs_gen_files", plugin)
        runpy.run_path(str(DOCS / "generate/method_pictures.py"))  # As the plugin runs it.
    return folder / "methods"


def test_there_is_a_page_for_every_mode_and_no_other():
    pages = {page.stem for page in (DOCS / "methods").glob("*.md")}
    assert pages == {"index", *(mode.lower() for mode in MODES)}


def test_there_is_a_picture_for_every_mode_and_no_other(pictures):
    drawn = {picture.name: picture.read_bytes() for picture in pictures.iterdir()}
    assert drawn.keys() == {f"{mode.lower()}.svg" for mode in MODES}
    assert all(b"<svg" in content for content in drawn.values())


@pytest.mark.parametrize("mode", MODES)
def test_the_page_opens_with_its_picture(mode):
    page = page_of(mode)
    assert page.startswith(f"# {mode}\n")
    assert re.findall(r"!\[[^]]+\]\(([^)]+)\)", page) == [f"{mode.lower()}.svg"]


@pytest.mark.parametrize("mode", MODES)
def test_the_navigation_and_the_index_lead_to_the_page(mode):
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.findall(rf"^ *- {mode}: (\S+)$", navigation, re.MULTILINE) == [
        f"methods/{mode.lower()}.md"
    ]
    assert f"\n| [{mode}]({mode.lower()}.md) | " in INDEX


@pytest.mark.parametrize("mode", MODES)
def test_the_page_has_the_results_of_the_index(mode):
    measured = MEASURED_AS.get(mode, mode)
    losses, ratios = rows(INDEX, LOSSES), rows(INDEX, RATIOS)
    page = page_of(mode)
    assert rows(page, LOSSES) == {"mode": losses["mode"], measured: losses[measured]}
    ratio, better = (cell.strip() for cell in ratios[measured].split("|")[2:4])
    ratio_stated = f"the test loss is {ratio} times that of SingleTask"
    stated = f"{ratio_stated}, and a run is better with probability {better}."
    assert (stated in " ".join(page.split())) == (mode != "SingleTask")


def test_every_mode_was_measured():
    measured = {MEASURED_AS.get(mode, mode) for mode in MODES}
    assert rows(INDEX, LOSSES).keys() == rows(INDEX, RATIOS).keys() == {"mode", *measured}
