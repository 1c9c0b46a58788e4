"""Tracebacks from the first line of the user's code on."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

PACKAGE = Path(__file__).parents[2]
OTHERS = (
    PACKAGE,
    PACKAGE.parent / "hydra_plugins",
    *(Path(path) for path in sysconfig.get_paths().values()),
)


def users_traceback(error: BaseException) -> str:
    """Return the traceback of an error without what lies above the user's code.

    The whole traceback if none of the user's code is in it.
    """
    step = error.__traceback__
    while step is not None and not _is_users(step.tb_frame.f_code.co_filename):
        step = step.tb_next
    shown = traceback.format_exception(type(error), error, step or error.__traceback__)
    return "".join(shown).rstrip()


def _is_users(file: str) -> bool:
    path = Path(file)
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    is_other = is_installed or any(path.is_relative_to(other) for other in OTHERS)
    # TensorFlow writes what it has translated of a function into files of its own.
    is_generated = file.startswith("<") or path.name.startswith("__autograph_generated_file")
    return not is_generated and not is_other
