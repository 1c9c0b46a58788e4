"""How every command ends: wrong input in one line, Ctrl-C without a traceback."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from auxgrad.config import explain_hydra
from auxgrad.errors import AuxgradError


@contextlib.contextmanager
def plain_ending() -> Iterator[None]:
    """Errors that explain themselves end in one line and exit status 1, Ctrl-C in 130, SIGTERM in 143.

    With HYDRA_FULL_ERROR=1 in the environment errors keep their traceback.
    """
    signal.signal(signal.SIGTERM, _terminate)
    show_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        yield
    except KeyboardInterrupt:
        print("auxgrad: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except (AuxgradError, HydraException, OmegaConfBaseException, OSError) as error:
        if show_traceback:
            raise
        raise SystemExit(f"auxgrad: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    if isinstance(error.__cause__, AuxgradError):  # Of a plugin that Hydra could not make.
        return str(error.__cause__)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain_hydra(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: cannot be used ({error.strerror})"
    return str(error)


def _terminate(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)
