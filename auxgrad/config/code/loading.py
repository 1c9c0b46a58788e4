"""Import the functions and classes that YAML files name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from auxgrad.config.code.tracebacks import user_traceback
from auxgrad.errors import ConfigError
from auxgrad.process.quiet import quiet_stderr


def load(key: str, target: str) -> Any:
    """Import the object that a dotted name refers to.

    Args:
        key: the key of the config that has the name, for the message.
        target: the dotted name, such as rules.halfway. The module is searched for in the working
            directory and on the Python path.

    Returns:
        The object.

    Raises:
        ConfigError: the module or the name does not exist, or the import fails. The message for a failed
            import ends with the traceback from the first line of the user's code on.
    """
    name, _, attribute = target.rpartition(".")
    module = sys.modules.get(name) or _import(key, target, name)
    if not hasattr(module, attribute):
        raise ConfigError(f"{key}={target}: {module.__file__} has no {attribute}")
    return getattr(module, attribute)


def _import(key: str, target: str, name: str) -> ModuleType:
    try:
        is_there = bool(name) and importlib.util.find_spec(name) is not None
    except (ImportError, AttributeError, ValueError):
        is_there = False
    if not is_there:
        raise ConfigError(
            f"{key}={target}: there is no module {name or target}; "
            f"looked for in {Path.cwd()} and on the Python path"
        )
    try:
        with quiet_stderr():
            return importlib.import_module(name)
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"{key}={target}: module {name} cannot be imported ({cause})\n{user_traceback(error)}"
        ) from None


def load_function(key: str, target: str) -> Any:
    """Import the function that a dotted name refers to.

    Args:
        key: as for `load`.
        target: as for `load`.

    Raises:
        ConfigError: see `load`; or the object cannot be called.
    """
    found = load(key, target)
    if not callable(found):
        raise ConfigError(f"{key}={target}: is {type(found).__name__}; must be a function")
    return found


def load_class(key: str, target: str, base: type) -> Any:
    """Import the class that a dotted name refers to.

    Args:
        key: as for `load`.
        target: as for `load`.
        base: the required base class.

    Raises:
        ConfigError: see `load`; or the object is not a class derived from `base`.
    """
    found = load(key, target)
    if not isinstance(found, type) or not issubclass(found, base):
        raise ConfigError(f"{key}={target}: must be a class derived from auxgrad.{base.__name__}")
    return found
