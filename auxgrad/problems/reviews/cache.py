"""Cache arrays in a file; a file that is damaged or has other content counts as missing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from filelock import FileLock

from auxgrad.process.locks import holding

Arrays = dict[str, np.ndarray]

KEY = "key"
DIGEST_SIZE = hashlib.sha256().digest_size


def fetch(
    file: Path, key: str, names: Iterable[str], make: Callable[[], Arrays]
) -> tuple[Arrays, Exception | None]:
    """Return the arrays of a file; make and write them if it does not have them.

    If several processes need the arrays at the same time, one makes them and the others wait.

    Args:
        file: The cache file. It is replaced if it is damaged or has other arrays.
        key: Text that identifies the content.
        names: Names of the arrays.
        make: Function that returns the arrays by name.

    Returns:
        The arrays, and the error that prevented writing the file, or None.
    """
    wanted = {KEY, *names}
    if (found := _read(file, key, wanted)) is not None:
        return found, None
    with contextlib.ExitStack() as held:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(holding(FileLock(f"{file}.lock")))
        except (OSError, ValueError) as error:  # ValueError: the locale cannot encode the name.
            return make(), error
        if (found := _read(file, key, wanted)) is not None:
            return found, None
        made = make()
        try:
            _write(file, key, made)
        except OSError as error:
            return made, error
        return made, None


def _read(file: Path, key: str, names: set[str]) -> Arrays | None:
    try:
        content = file.read_bytes() if file.is_file() else b""
    except OSError:
        return None
    body, digest = content[:-DIGEST_SIZE], content[-DIGEST_SIZE:]
    if hashlib.sha256(body).digest() != digest:
        return None
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as stored:
            arrays = dict(stored)
    except (ValueError, zipfile.BadZipFile):  # The digest is right, but this is not an .npz file.
        return None
    if arrays.keys() != names or str(arrays.pop(KEY)) != key:
        return None
    return arrays


def _write(file: Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz followed by its SHA-256, completely or not at all; the caller holds the lock."""
    body = io.BytesIO()
    np.savez(body, allow_pickle=False, **{KEY: np.array(key)}, **arrays)
    temporary = file.with_suffix(".tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(body.getbuffer())
            stream.write(hashlib.sha256(body.getbuffer()).digest())
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
