"""Folders for the output of runs."""

from __future__ import annotations

import re
from pathlib import Path


def file_name(text: str) -> str:
    """Return the text as a name that any file system takes.

    >>> file_name("Projection lam=100 problem.hidden=[8,8]")
    'Projection_lam=100_problem.hidden=[8,8]'
    """
    return re.sub(r"[^\w.,=+\[\]-]", "_", text)[:200]


def claim_folder(wanted: Path) -> Path:
    """Make a folder that was not there: `wanted`, or the same with _2, _3, ... at its end."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder
