"""With another Keras backend, what needs Keras fails with one line, and the rest works."""

from __future__ import annotations

import subprocess
import sys

import pytest

from auxgrad.config import compose
from auxgrad.record.opening import open_store
from auxgrad.record.writing import Dataset


def python(*words: str, cwd, monkeypatch) -> subprocess.CompletedProcess[str]:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "expression",
    ["auxgrad.AuxiliaryModel", "auxgrad.run(['mode=SingleTask'])", "auxgrad.run(['problem=own'], '.')"],
)
def test_what_needs_keras_says_so(tmp_path, monkeypatch, expression):
    (tmp_path / "own.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "problem").mkdir()
    (tmp_path / "problem/own.yaml").write_text("_target_: own.Own\n")
    done = python("-c", f"import auxgrad; {expression}", cwd=tmp_path, monkeypatch=monkeypatch)
    assert done.returncode == 1
    assert done.stderr.endswith("auxgrad.errors.ConfigError: KERAS_BACKEND=jax: must be tensorflow\n")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.process
def test_a_store_is_read_without_keras(in_tmp, monkeypatch):
    store = open_store(compose([]).tracking)
    identity = compose(["mode=SingleTask"]).identity("f")
    writer = store.start_run(identity, {}, Dataset("d", "0" * 64, "{}", "{}"))
    writer.metric("test_loss", 0.5, 1)
    writer.flush()
    writer.end("FINISHED")
    program = "import auxgrad; print(auxgrad.runs().test_loss.item())"
    done = python("-c", program, cwd=in_tmp, monkeypatch=monkeypatch)
    assert (done.returncode, done.stdout) == (0, "0.5\n"), done.stderr
    done = python("-m", "auxgrad.report", cwd=in_tmp, monkeypatch=monkeypatch)
    assert done.returncode == 0, done.stderr
    assert "report    reports/auxgrad/report.md" in done.stdout
