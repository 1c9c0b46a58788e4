"""Links of the README and of the pages lead somewhere, and every picture has a page that makes it.

`mkdocs build --strict` checks the links of the site once more, as they are in HTML.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from conftest import REPOSITORY
from page_steps import DOCS, FENCE, Page, pages

PAGES = pages()
PICTURES = sorted((DOCS / "images").glob("*"))


def links_of(page: Page) -> list[str]:
    """The targets of Markdown links and pictures outside code."""
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.text))
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors_of(text: str) -> set[str]:
    """The anchors of headings, as MkDocs and GitHub make them."""
    found = set(re.findall(r"\{ ?#([\w.-]+)", text))
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", re.sub(r"\{.*\}$|[`*]", "", heading))
        ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
        words = re.sub(r"[^\w\s-]", "", ascii_only).strip().lower()
        found |= {re.sub(r"[-\s]+", "-", words), re.sub(r"\s", "-", words)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in links_of(page):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        assert target.is_relative_to(REPOSITORY), link
        if page.name != "README.md":
            assert target.is_relative_to(DOCS), f"{link}: is not on the site"
        # docs/generate/method_pictures.py draws the pictures of the methods while the site is built.
        is_drawn = target.parent == DOCS / "methods" and target.suffix == ".svg"
        assert is_drawn or target.exists(), link
        # mkdocstrings makes the anchors of names.
        if anchor and target.suffix == ".md" and not anchor.startswith("auxgrad"):
            assert anchor in anchors_of(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_stands_beside_a_command(picture: Path):
    showing = [page for page in PAGES if f"images/{picture.name})" in page.text]
    assert any(block["language"] in ("console", "bash") for page in showing for block in page.blocks)
