"""From the command line and YAML to the typed config of a run, and to what identifies it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auxgrad.config.composing import compose
    from auxgrad.config.identity import Identity
    from auxgrad.config.schema import Config
    from auxgrad.config.setting import Setting

__all__ = ["Config", "Identity", "Setting", "compose"]

_HOME = {"Config": "schema", "Identity": "identity", "Setting": "setting", "compose": "composing"}


def __getattr__(name: str) -> Any:
    # On first use: whoever needs one module of this package need not wait for Hydra.
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
