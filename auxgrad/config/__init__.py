"""Compose the typed config of a run from YAML files and the command line, and identify the run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auxgrad.config.composing import compose
    from auxgrad.config.identity import Identity
    from auxgrad.config.schema import Config
    from auxgrad.config.setting import Setting

__all__ = ["Config", "Identity", "Setting", "compose"]

_MODULES = {"Config": "schema", "Identity": "identity", "Setting": "setting", "compose": "composing"}


def __getattr__(name: str) -> Any:
    # Imported on first use, because a caller that needs one module must not wait for Hydra.
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
