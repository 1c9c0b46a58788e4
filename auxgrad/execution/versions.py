"""Tags that describe the environment of a run: package versions, device, state of the checkout."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import auxgrad
from auxgrad.training import devices


@functools.cache
def packages() -> dict[str, str]:
    """Return the tags with the versions of Python and of the packages that results depend on."""
    names = ("tensorflow", "keras", "numpy", "mlflow")
    return {
        "version.auxgrad": auxgrad.__version__,
        "version.python": platform.python_version(),
        **{f"version.{name}": importlib.metadata.version(name) for name in names},
    }


@functools.cache
def tags() -> dict[str, str]:
    """Return the tags that all runs of this process share."""
    return {**packages(), "device": devices.describe(), **_git_state()}


def _git_state() -> dict[str, str]:
    """Return a tag that says whether the checkout differs from its commit, which MLflow records."""
    command = ["git", "status", "--porcelain", "--untracked-files=no"]
    try:
        status = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}  # Installed from a wheel, or no git.
    return {"git_changed": str(status.stdout != "").lower()}
