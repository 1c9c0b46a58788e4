"""Read files of an untrusted .tar.gz into memory, without extracting anything."""

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
    """Largest allowed number of members, bytes of a file, and bytes of the whole archive.

    aclImdb has 100,000 members; its longest review has 14 KB, and the whole has half a GiB.
    """

    members: int = 200_000
    file: int = 2**20
    total: int = 2**31


LIMITS = Limits()


def files(
    path: Path, is_wanted: Callable[[str], object], limits: Limits = LIMITS
) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the wanted files of a .tar.gz or .tar, in its order.

    Args:
        path: The archive.
        is_wanted: Function that tells from a name whether the file is wanted.
        limits: Largest allowed numbers of members and bytes.

    Raises:
        DataError: The file is truncated, altered or not an archive; a member points outside the archive,
            is neither a file nor a folder, or is too large; or there are too many members or bytes.
    """
    try:
        with path.open("rb") as packed:
            is_gzip = packed.peek(len(GZIP)).startswith(GZIP)
            content = gzip.GzipFile(fileobj=packed) if is_gzip else packed
            yield from _files(_Content(content, path, limits), is_wanted)
    except DataError:
        raise
    except Exception as error:  # tarfile does not document which errors malformed content causes.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"data.path={path}: not a complete .tar.gz archive ({reason})") from None


class _Content:
    """The unpacked bytes; reading more than the limits allow, at once or in total, is an error."""

    def __init__(self, stream: Any, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self.last = b""  # The bytes of the last read.
        self._stream = stream

    def tell(self) -> int:
        return int(self._stream.tell())

    def read(self, size: int) -> bytes:
        # tarfile reads long names and attributes at once, with any size that their header declares.
        if not 0 <= size <= max(self.limits.file, CHUNK):
            raise tarfile.ReadError(f"a header of {size:,} bytes; the limit is {self.limits.file:,}")
        self.last = bytes(self._stream.read(size))
        self._check(self.tell())
        return self.last

    def seek(self, place: int) -> int:
        self._check(place)
        return int(self._stream.seek(place))

    def _check(self, place: int) -> None:
        if place > self.limits.total:
            raise DataError(
                f"data.path={self.path}: has more than {self.limits.total:,} bytes when it is unpacked, "
                "which is not allowed"
            )


def _files(content: _Content, is_wanted: Callable[[str], object]) -> Iterator[tuple[str, bytes]]:
    stream: Any = content
    archive = tarfile.TarFile(fileobj=stream, encoding="utf-8")
    count = 0
    while (member := archive.next()) is not None:
        count += 1
        if count > content.limits.members:
            raise DataError(
                f"data.path={content.path}: has more than {content.limits.members:,} members, "
                "which is not allowed"
            )
        fault = _fault(member, bool(is_wanted(member.name)), content.limits)
        if fault:
            raise DataError(f"data.path={content.path}: member {member.name[:200]!r} {fault}")
        if member.isfile() and is_wanted(member.name):
            file = archive.extractfile(member)
            assert file is not None
            yield member.name, file.read()
    # A complete archive ends with a block of zeros; tarfile also stops at a truncated or altered header.
    if content.last != bytes(BLOCK):
        raise tarfile.ReadError("no end-of-archive marker")
    while content.read(CHUNK):
        pass  # Read on, because the checksum of gzip comes last.


def _fault(member: tarfile.TarInfo, is_wanted: bool, limits: Limits) -> str:
    """Return what is wrong with a member, or an empty text."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return "points outside the archive"
    if member.issparse() or not (member.isfile() or member.isdir()):
        kind = KINDS.get(member.type, "is of an unusual kind")
        return f"{kind}; only files and folders are allowed"
    most = limits.file if is_wanted else limits.total - member.offset_data
    if not 0 <= member.size <= most:
        return f"has {member.size:,} bytes; the limit is {max(most, 0):,}"
    return ""
