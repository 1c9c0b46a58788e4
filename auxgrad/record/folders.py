"""Folders for the output of runs, and the file systems that folders are on."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs"}
NETWORK |= {"fuse.sshfs", "fuse.glusterfs", "afs", "panfs", "pvfs2", "orangefs"}


def file_name(text: str) -> str:
    """Return the text as a name that any file system takes.

    >>> file_name("Projection lam=100 problem.hidden=[8,8]")
    'Projection_lam=100_problem.hidden=[8,8]'
    """
    return re.sub(r"[^\w.,=+\[\]-]", "_", text)[:200]


def claim_folder(wanted: Path) -> Path:
    """Make a folder that was not there: `wanted`, or the same with _2, _3, ... at its end."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def network_file_system(file: Path, mounts: str | None = None) -> str | None:
    """Return the kind of file system that a file is on if machines share it, such as nfs4; else None.

    Args:
        file: need not exist.
        mounts: a table of mounts like that of Linux, which is taken if none is given.
    """
    if mounts is None:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape") if MOUNTS.exists() else ""
    whole, place, kind = file.resolve(), Path(), ""
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(" ")
        # Spaces, tabs, newlines and backslashes are written as octal numbers.
        folder = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point))
        # Of two on one place the later hides the earlier.
        if whole.is_relative_to(folder) and len(folder.parts) >= len(place.parts):
            place, kind = folder, found
    return kind if kind in NETWORK else None
