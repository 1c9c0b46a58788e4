"""Shorten tracebacks to the part that concerns the user's code."""

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


def user_traceback(error: BaseException) -> str:
    """Return the traceback of an error from the first line of the user's code on.

    Args:
        error: an exception that was raised.

    Returns:
        The traceback; the full one if no line of it is in the user's code. For a syntax error in the
        module that auxgrad imports, only file, line and text: no line of the module was executed.
    """
    step = error.__traceback__
    while step is not None and not _is_users(step.tb_frame.f_code.co_filename):
        step = step.tb_next
    if step is None and isinstance(error, SyntaxError):
        return "".join(traceback.format_exception_only(error)).rstrip()
    shown = traceback.format_exception(type(error), error, step or error.__traceback__)
    return "".join(shown).rstrip()


def _is_users(file: str) -> bool:
    path = Path(file)
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    is_other = is_installed or any(path.is_relative_to(other) for other in OTHERS)
    # TensorFlow's AutoGraph writes the functions that it has translated to files.
    is_generated = file.startswith("<") or path.name.startswith("__autograph_generated_file")
    return not is_generated and not is_other
