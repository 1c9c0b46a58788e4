"""Output folders, of which each run gets its own, and network file systems."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from auxgrad.record.folders import claim_folder, file_name, network_file_system

MOUNTS = r"""proc /proc proc rw,nosuid 0 0
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
tmpfs /home/me/fast tmpfs rw 0 0
systemd-1 /data autofs rw,direct 0 0
server:/data /data nfs rw 0 0
//server/our\040runs /mnt/our\040runs cifs rw 0 0
me@server: /mnt/remote fuse.sshfs rw 0 0
server:/old /srv nfs rw 0 0
/dev/sdb1 /srv xfs rw 0 0
"""


def test_a_folder_is_claimed_once(tmp_path):
    wanted = tmp_path / "sweep" / "Projection_lam=1"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(claim_folder, [wanted] * 20))
    assert sorted(folder.name for folder in found) == sorted(
        ["Projection_lam=1", *(f"Projection_lam=1_{number}" for number in range(2, 21))]
    )


def test_any_text_is_a_file_name():
    assert file_name("data.path=/a b/c:d") == "data.path=_a_b_c_d"
    assert len(file_name("x" * 500)) == 200


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/mlflow.db", None),
        ("/home/me/mlflow.db", "nfs4"),
        ("/home/me/fast/mlflow.db", None),
        ("/homes/me/mlflow.db", None),
        ("/data/mlflow.db", "nfs"),
        ("/mnt/our runs/mlflow.db", "cifs"),
        ("/mnt/remote/a/b/mlflow.db", "fuse.sshfs"),
        ("/srv/mlflow.db", None),
    ],
)
def test_the_file_system_of_the_longest_mount_point(file, kind):
    assert network_file_system(Path(file), MOUNTS) == kind


def test_symbolic_links_are_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there")
    mounts = f"/dev/sda1 / ext4 rw 0 0\nserver:/there {tmp_path}/there nfs4 rw 0 0\n"
    assert network_file_system(tmp_path / "here/mlflow.db", mounts) == "nfs4"
    assert network_file_system(tmp_path / "mlflow.db", mounts) is None
    # The mounts of this machine.
    assert network_file_system(tmp_path / "mlflow.db") in (None, "nfs", "nfs4")
