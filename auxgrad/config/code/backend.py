"""Check the backend of Keras before Keras is imported."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from auxgrad.errors import ConfigError


def check_backend() -> None:
    """Check that Keras is configured to use TensorFlow.

    Raises:
        ConfigError: the environment or Keras' config file chooses another backend.
    """
    origin, backend = "KERAS_BACKEND", os.environ.get("KERAS_BACKEND")
    if not backend:
        file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "keras.json")
        origin = f"backend in {file}"
        with contextlib.suppress(OSError, ValueError, AttributeError):
            backend = json.loads(file.read_text(encoding="utf-8")).get("backend")
    if backend and backend != "tensorflow":
        raise ConfigError(f"{origin}={backend}: must be tensorflow")
