"""Determine the version of the user's code, so that runs of an earlier version do not count."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from auxgrad.errors import ConfigError

PACKAGE = "auxgrad"
INSTALLED = tuple(
    Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
# The packages of base classes that are not the user's code.
BASES = (PACKAGE, "pydantic", "abc", "builtins", "typing")


def version_of(key: str, target: Any) -> str:
    """Return the version of a class or a function of the user.

    The hash of a source is computed once in a process, because an edited file is not what runs.

    Args:
        key: the key of the config that names the object, for the message.
        target: the class or the function.

    Returns:
        "" for code of this package; "version X" for an object with an attribute `version`; otherwise the
        SHA-256 of the source of its module, the modules of its base classes, and all modules in the same
        folders that these import.

    Raises:
        ConfigError: there is no source file, as in a notebook.
    """
    origins = target.__mro__ if isinstance(target, type) else [target]
    names = dict.fromkeys(origin.__module__ for origin in origins)
    own = [name for name in names if name.partition(".")[0] not in BASES]
    if not own:
        return ""
    pinned = getattr(target, "version", None)
    if pinned is not None:
        return f"version {pinned}"
    hashes = [_source_hash(key, sys.modules[name]) for name in own]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _source_hash(key: str, module: ModuleType) -> str:
    # The hash is stored together with the module's spec, which a reload replaces.
    spec, known = module.__dict__.get("__auxgrad_source__", (None, ""))
    if spec is None or spec is not module.__spec__:
        if not getattr(module, "__file__", None):
            raise ConfigError(
                f"{key}={module.__name__}: has no source file; "
                "the class or function needs an attribute `version`"
            )
        digest = hashlib.sha256()
        for file in sorted(_own_files(module)):
            digest.update(file.read_bytes())
        known = digest.hexdigest()
        module.__dict__["__auxgrad_source__"] = module.__spec__, known
    return str(known)


def _own_files(module: ModuleType) -> set[Path]:
    """Return the file of a module and of all modules beside it that it imports, also indirectly."""
    name, first = module.__name__, Path(module.__file__ or "")
    is_package = first.name == "__init__.py"
    root = first.parents[name.count(".") + is_package]
    # For an installed module, only its own package: the other packages there have versions.
    prefix = name.partition(".")[0] if root in INSTALLED else ""
    found: set[Path] = set()
    waiting = [(first, name, is_package)]
    while waiting:
        file, name, is_package = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for imported in _imports(file, name, is_package):
            if not prefix or imported.partition(".")[0] == prefix:
                waiting += _files(root, imported)
    return found


def _imports(file: Path, name: str, is_package: bool) -> Iterator[str]:
    """Yield the dotted names that a file imports anywhere, with relative names made absolute."""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:
        return  # The module has not been imported in this state.
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                parts = name.split(".")
                above = parts[: len(parts) - node.level + is_package]
                start = ".".join([*above, start] if start else above)
            yield start
            yield from (f"{start}.{alias.name}" for alias in node.names)


def _files(root: Path, name: str) -> Iterable[tuple[Path, str, bool]]:
    """Yield the files in a folder that the import of a dotted name reads, each with its module."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        folder, dotted = root.joinpath(*parts[:n]), ".".join(parts[:n])
        for file, is_package in ((folder / "__init__.py", True), (folder.with_suffix(".py"), False)):
            if file.is_file():
                yield file, dotted, is_package
