"""The files of a .tar.gz that nobody vouches for, read into memory; nothing is ever extracted."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from auxgrad.errors import DataError

BLOCK, CHUNK = tarfile.BLOCKSIZE, 2**16
GZIP = b"\x1f\x8b"
KINDS = {
    tarfile.SYMTYPE: "is a symbolic link",
    tarfile.LNKTYPE: "is a hard link",
    tarfile.CHRTYPE: "is a device",
    tarfile.BLKTYPE: "is a device",
    tarfile.FIFOTYPE: "is a named pipe",
}


@dataclass(frozen=True)
class Limits:
    """How much an archive may have, in members and bytes.

    aclImdb has 100,000 members, the longest review 14 KB, and all of it half a GiB.
    """

    members: int = 200_000
    file: int = 2**20
    total: int = 2**31


LIMITS = Limits()


def files(
    path: Path, is_wanted: Callable[[str], object], limits: Limits = LIMITS
) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the wanted files of a .tar.gz or .tar, in its order.

    Raises DataError: it is truncated, altered or no archive; a member leads out of it, is neither a file
    nor a folder, or is larger than the limits; there are more members or bytes than they allow.
    """
    try:
        with path.open("rb") as packed:
            is_gzip = packed.peek(len(GZIP)).startswith(GZIP)
            content = gzip.GzipFile(fileobj=packed) if is_gzip else packed
            yield from _files(_Content(content, path, limits), is_wanted)
    except DataError:
        raise
    except Exception as error:  # tarfile does not tell what it raises for bytes of any kind.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"data.path={path}: not a whole .tar.gz archive ({reason})") from None


class _Content:
    """The unpacked bytes, of which no more are read at once or in all than the limits allow."""

    def __init__(self, stream: Any, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self.last = b""  # What was read last.
        self._stream = stream

    def tell(self) -> int:
        return int(self._stream.tell())

    def read(self, size: int) -> bytes:
        # tarfile reads long names and attributes in one piece, whatever size their header declares.
        if not 0 <= size <= max(self.limits.file, CHUNK):
            raise tarfile.ReadError(f"a header of {size:,} bytes; allowed are {self.limits.file:,}")
        self.last = bytes(self._stream.read(size))
        self._check(self.tell())
        return self.last

    def seek(self, place: int) -> int:
        self._check(place)
        return int(self._stream.seek(place))

    def _check(self, place: int) -> None:
        if place > self.limits.total:
            raise DataError(
                f"data.path={self.path}: has more than {self.limits.total:,} bytes when it is unpacked; "
                "no more are allowed"
            )


def _files(content: _Content, is_wanted: Callable[[str], object]) -> Iterator[tuple[str, bytes]]:
    stream: Any = content
    archive = tarfile.TarFile(fileobj=stream, encoding="utf-8")
    count = 0
    while (member := archive.next()) is not None:
        count += 1
        if count > content.limits.members:
            raise DataError(
                f"data.path={content.path}: has more than {content.limits.members:,} members; "
                "no more are allowed"
            )
        fault = _fault(member, bool(is_wanted(member.name)), content.limits)
        if fault:
            raise DataError(f"data.path={content.path}: member {member.name[:200]!r} {fault}")
        if member.isfile() and is_wanted(member.name):
            file = archive.extractfile(member)
            assert file is not None
            yield member.name, file.read()
    # The end is a block of zeros; tarfile takes a header that is cut or altered for it too.
    if content.last != bytes(BLOCK):
        raise tarfile.ReadError("it has no end")
    while content.read(CHUNK):
        pass  # gzip's checksum comes last.


def _fault(member: tarfile.TarInfo, is_wanted: bool, limits: Limits) -> str:
    """What is wrong with a member; empty: nothing."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "leads out of the archive; not allowed"
    if member.issparse() or not (member.isfile() or member.isdir()):
        kind = KINDS.get(member.type, "is of an unusual kind")
        return f"{kind}; only files and folders are allowed"
    most = limits.file if is_wanted else limits.total - member.offset_data
    if not 0 <= member.size <= most:
        return f"has {member.size:,} bytes; allowed are at most {max(most, 0):,}"
    return ""
