"""Commands work in a locale that has only ASCII characters."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def in_ascii(*arguments: str, cwd) -> subprocess.CompletedProcess[bytes]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONIOENCODING"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment | ASCII, capture_output=True, timeout=120
    )


def test_the_locale_of_these_tests_knows_ascii_only(tmp_path):
    done = in_ascii("-c", "print('\\xd7')", cwd=tmp_path)
    assert b"UnicodeEncodeError" in done.stderr


@pytest.mark.process
def test_a_report(tmp_path):
    rows = ["mode,overall,alpha,lam,loss"]
    rows += [
        f"{mode},false,0.01,30,{seed / 100}" for mode in ("Multitask", "Projection") for seed in (30, 31)
    ]
    (tmp_path / "runs.csv").write_text("\n".join(rows) + "\n")
    done = in_ascii("-m", "auxgrad.report", "--runs", "runs.csv", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert b"? standard deviation" in done.stdout


def test_words_that_the_locale_cannot_read(tmp_path):
    done = in_ascii("-m", "auxgrad.train", "data=aclimdb", "data.path=größe", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.decode("ascii").splitlines() == [
        r"auxgrad: data.path=gr\udcc3\udcb6\udcc3\udc9fe: is not text in this locale; "
        "for UTF-8 set LC_ALL=C.UTF-8"
    ]
    assert not list(tmp_path.iterdir())


def test_a_cache_whose_name_the_locale_does_not_have(tmp_path, corpus):
    code = (
        "from auxgrad.problems.reviews import AclImdb\n"
        "from auxgrad.problems.reviews.corpus import load\n"
        f"source = AclImdb(path={str(corpus)!r}, cache_dir={str(tmp_path)!r} + '/gr\\xf6\\xdfe')\n"
        "from auxgrad.config.entry import exit_cleanly\n"
        "with exit_cleanly():\n"
        "    print(load(source).fingerprint)\n"
    )
    done = in_ascii("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    [line] = done.stderr.decode("ascii").splitlines()
    assert line.startswith(rf"data.cache_dir={tmp_path}/gr\xf6\xdfe: cannot be written (")


def test_processes_of_a_command(tmp_path):
    """The output of the workers of a sweep goes to files."""
    code = (
        "import subprocess, sys\n"
        "from auxgrad.config.entry import exit_cleanly\n"
        "with exit_cleanly():\n"
        "    print('8 \\xd7 8', flush=True)\n"
        "    subprocess.run([sys.executable, '-c', 'print(\"0 \\\\xb1 1\")'], check=True)\n"
    )
    done = in_ascii("-c", code, cwd=tmp_path)
    assert done.stdout.splitlines() == [b"8 ? 8", b"0 ? 1"], done.stderr.decode()
