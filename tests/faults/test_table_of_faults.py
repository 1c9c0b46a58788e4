"""docs/reliability.md names a test for every fault, and the test exists."""

from __future__ import annotations

import re

from conftest import REPOSITORY

TABLE = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_row_names_a_test_that_is_there():
    rows = [line for line in TABLE.splitlines() if line.startswith("|") and "| Test |" not in line]
    rows = [row for row in rows if set(row) - set("|- ")]
    named = [re.findall(r"`(test_\w+)` \|$", row) for row in rows]
    assert len(rows) > 20
    assert all(len(names) == 1 for names in named), rows
    sources = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py")]
    there = set(re.findall(r"^def (test_\w+)\(", "\n".join(sources), re.M))
    assert {name for [name] in named} <= there
