"""Create the output folders of runs, and find the file system of a file."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs"}
NETWORK |= {"fuse.sshfs", "fuse.glusterfs", "afs", "panfs", "pvfs2", "orangefs"}


def file_name(text: str) -> str:
    """Convert a text to a name that any file system accepts.

    >>> file_name("Projection lam=100 problem.hidden=[8,8]")
    'Projection_lam=100_problem.hidden=[8,8]'

    Args:
        text: any text.
    """
    return re.sub(r"[^\w.,=+\[\]-]", "_", text)[:200]


def claim_folder(wanted: Path) -> Path:
    """Create a folder that did not exist, so that each of several processes gets another one.

    Args:
        wanted: the folder.

    Returns:
        `wanted`, or if it existed, the same with _2, _3, ... at its end.
    """
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
    """Return the type of the network file system that a file is on.

    Args:
        file: the file, which need not exist.
        mounts: the table of mounts; by default that of Linux.

    Returns:
        The type, such as nfs4; None for a local file system.
    """
    if mounts is None:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape") if MOUNTS.exists() else ""
    whole, mount_point, kind = file.resolve(), Path(), ""
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(" ")
        # The table contains spaces, tabs, newlines and backslashes as octal numbers.
        folder = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point))
        # The later one of two mounts with the same mount point hides the earlier one.
        if whole.is_relative_to(folder) and len(folder.parts) >= len(mount_point.parts):
            mount_point, kind = folder, found
    return kind if kind in NETWORK else None
