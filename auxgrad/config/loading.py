"""Code of the user's that a YAML file names: imported, and known by its source."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from auxgrad.config.quiet import quiet_stderr
from auxgrad.errors import ConfigError

OWN = "auxgrad."


def load(key: str, target: str) -> Any:
    """Return what a dotted name stands for, such as rules.halfway.

    Args:
        key: the key of the config that has the name.
        target: module and name in it. Modules are looked for in the working directory and wherever else
            Python finds them.

    Raises:
        ConfigError: there is no such module or name; or the import fails, and then the message ends with
            the traceback from the first line of the module on.
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
        trace = _from_module_on(error.__traceback__)
        shown = "".join(traceback.format_exception(type(error), error, trace)).rstrip()
        raise ConfigError(
            f"{key}={target}: module {name} cannot be imported ({cause})\n{shown}"
        ) from None


def load_function(key: str, target: str) -> Any:
    """Return the function that a dotted name stands for. Raises ConfigError like `load`."""
    found = load(key, target)
    if not callable(found):
        raise ConfigError(f"{key}={target}: is {type(found).__name__}; must be a function")
    return found


def version_of(key: str, target: str) -> str:
    """Return what tells one version of the named code from another.

    "" for code of this package; "version X" where the object has an attribute `version`; else the
    SHA-256 of the source of its module, as it was when this process first asked.
    """
    if target.startswith(OWN):
        return ""
    found = load(key, target)
    pinned = getattr(found, "version", None)
    if pinned is not None:
        return f"version {pinned}"
    return _source_hash(sys.modules[target.rpartition(".")[0]])


def _source_hash(module: ModuleType) -> str:
    # Kept with the module's spec, which a reload replaces: an edited file is not what runs.
    spec, known = module.__dict__.get("__auxgrad_source__", (None, ""))
    if spec is None or spec is not module.__spec__:
        known = hashlib.sha256(Path(module.__file__ or "").read_bytes()).hexdigest()
        module.__dict__["__auxgrad_source__"] = module.__spec__, known
    return str(known)


def _from_module_on(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without the frames of the import machinery and of this package."""
    step = trace
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        is_ours = Path(file).parent == Path(__file__).parent
        if not (is_ours or file.startswith("<frozen importlib") or "importlib" in Path(file).parts):
            return step
        step = step.tb_next
    return trace
