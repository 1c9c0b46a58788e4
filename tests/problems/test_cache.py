"""The cache of encoded reviews: damage, full and read-only disks, many processes at once."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import together

from auxgrad.problems.reviews import AclImdb, Reviews
from auxgrad.problems.reviews.corpus import load

ANEW = "the next run has to encode the reviews again"


@pytest.fixture
def source(corpus, tmp_path):
    return AclImdb(path=corpus, cache_dir=tmp_path / "cache", num_words=60)


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that mounts a file system of a size in KiB; unmount it afterwards."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size: int, *options: str) -> Path:
        words = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}k", *options]), "none", folder]
        try:
            done = subprocess.run(words, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no command mount")
        if done.returncode:
            pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


def with_digest(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def as_npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def of_version_0_1(content: bytes) -> bytes:
    """Return a file with the arrays and their fingerprint, as the first version wrote it."""
    with np.load(io.BytesIO(content)) as stored:
        kept = {name: stored[name] for name in stored.files if name != "key"}
    return as_npz(fingerprint=np.array("464e1ee1"), **kept)


class Trap:
    def __reduce__(self):
        return (print, ("TRAP",))


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "without the checksum": lambda content: content[:-32],
    "without its last byte": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "emptied": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "no arrays": lambda content: with_digest(b"no arrays"),
    "other arrays": lambda content: with_digest(as_npz(indptr=np.arange(3))),
    "pickled": lambda content: with_digest(as_npz(indptr=np.array([Trap()], object))),
    "version 0.1": of_version_0_1,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_made_anew(source, damage, capsys):
    first = load(source)
    [file] = source.cache_dir.glob("*.npz")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    capsys.readouterr()
    assert load(source).fingerprint == first.fingerprint
    shown = capsys.readouterr()
    assert shown.out.count("encoding") == 1
    assert "TRAP" not in shown.out
    assert shown.err == ""
    assert file.read_bytes() == whole
    load(source)
    assert capsys.readouterr().out == ""


def test_any_flipped_bit_is_seen(source, capsys):
    first = load(source)
    [file] = source.cache_dir.glob("*.npz")
    whole = file.read_bytes()
    for place in np.linspace(0, len(whole) - 1, 40, dtype=int):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        capsys.readouterr()
        assert load(source).fingerprint == first.fingerprint
        assert capsys.readouterr().out.count("encoding") == 1, place


def test_the_file_of_another_data_set_is_not_taken_for_it(source, capsys):
    other = source.model_copy(update={"num_words": 50})
    expected = load(other).fingerprint
    [file] = source.cache_dir.glob("*.npz")
    load(source)
    [of_source] = set(source.cache_dir.glob("*.npz")) - {file}
    shutil.copy(of_source, file)
    capsys.readouterr()
    assert load(other).fingerprint == expected
    assert capsys.readouterr().out.count("encoding") == 1


@pytest.mark.parametrize("suffix", [".npz", ".tmp", ".npz.lock"])
def test_a_folder_where_a_file_should_be(source, suffix, capsys):
    first = load(source)
    [file] = source.cache_dir.glob("*.npz")
    file.unlink()
    place = file.with_suffix(suffix)
    place.unlink(missing_ok=True)
    (place / "inner").mkdir(parents=True)
    capsys.readouterr()
    assert load(source).fingerprint == first.fingerprint
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"data.cache_dir={source.cache_dir}: cannot be written (Is a directory); {ANEW}"
    assert (place / "inner").is_dir()


def test_a_pipe_where_the_file_should_be(source):
    first = load(source)
    [file] = source.cache_dir.glob("*.npz")
    file.unlink()
    os.mkfifo(file)
    assert load(source).fingerprint == first.fingerprint
    assert file.is_file()


def test_a_full_disk_costs_one_line(source, small_disk, capsys):
    disk = small_disk(4)
    full = source.model_copy(update={"cache_dir": disk / "cache"})
    assert load(full).fingerprint == load(source).fingerprint
    [line] = capsys.readouterr().err.splitlines()
    assert line == (f"data.cache_dir={disk}/cache: cannot be written (No space left on device); {ANEW}")
    assert [file for file in disk.rglob("*") if file.suffix != ".lock"] == [disk / "cache"]


def test_a_full_disk_leaves_what_was_there(source, small_disk, capsys):
    disk = small_disk(64)
    full = source.model_copy(update={"cache_dir": disk})
    first = load(full)
    [file] = disk.glob("*.npz")
    whole = file.read_bytes()
    with pytest.raises(OSError, match="No space left on device"):
        (disk / "filler").write_bytes(bytes(65536))
    load(full.model_copy(update={"num_words": 50}))
    assert "No space left on device" in capsys.readouterr().err
    assert [*disk.glob("*.npz")] == [file]
    assert not [*disk.glob("*.tmp")]
    assert file.read_bytes() == whole
    assert load(full).fingerprint == first.fingerprint


def test_a_read_only_folder_is_read_and_costs_one_line(source, small_disk, capsys):
    disk = small_disk(64)
    config = source.model_copy(update={"cache_dir": disk})
    first = load(config)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    capsys.readouterr()
    assert load(config).fingerprint == first.fingerprint
    assert capsys.readouterr() == ("", "")
    load(config.model_copy(update={"num_words": 50}))
    [line] = capsys.readouterr().err.splitlines()
    assert line == f"data.cache_dir={disk}: cannot be written (Read-only file system); {ANEW}"


@pytest.mark.parametrize("inner", [".", "inner"])
def test_a_file_where_the_folder_should_be(source, tmp_path, inner, capsys):
    (tmp_path / "file").write_text("mine")
    config = source.model_copy(update={"cache_dir": tmp_path / "file" / inner})
    assert Reviews(data=config).load().sizes["train"] == 64
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"data.cache_dir={config.cache_dir}: cannot be written (")
    assert (tmp_path / "file").read_text() == "mine"


def test_the_folder_may_have_any_name(corpus, tmp_path, capsys):
    folder = shutil.copytree(corpus, tmp_path / "größte Sammlung; 100% 'echt'" / "aclImdb")
    source = AclImdb(path=folder, cache_dir=tmp_path / "der Zwischenspeicher – 映画", num_words=60)
    first = load(source)
    assert load(source).fingerprint == first.fingerprint
    shown = capsys.readouterr()
    assert shown.out.count("encoding") == 1
    assert shown.err == ""


def test_many_processes_at_once_encode_once(source, tmp_path):
    code = (
        "import multiprocessing as m\n"
        "from auxgrad.problems.reviews import AclImdb\n"
        "from auxgrad.problems.reviews.corpus import load\n"
        f"path, cache = {str(source.path)!r}, {str(source.cache_dir)!r}\n"
        "source = AclImdb(path=path, cache_dir=cache, num_words=60)\n"
        "fork = m.get_context('fork')\n"
        "start = fork.Barrier(16)\n"
        "def main(number):\n"
        "    start.wait()\n"
        "    return load(source).fingerprint\n"
        "with fork.Pool(16) as pool:\n"
        "    print(*pool.map(main, range(16), chunksize=1))\n"
    )
    [process] = together([[sys.executable, "-c", code]], tmp_path)
    assert process.returncode == 0, process.stderr
    encoding, fingerprints = process.stdout.splitlines()
    assert encoding.startswith("encoding the reviews of aclimdb into ")
    assert fingerprints.split() == [load(source).fingerprint] * 16
    assert process.stderr == ""
