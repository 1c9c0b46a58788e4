"""Which backend Keras is to use, told before Keras is imported."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from auxgrad.errors import ConfigError


def check_backend() -> None:
    """Raise ConfigError if Keras is to use another backend than TensorFlow."""
    place, backend = "KERAS_BACKEND", os.environ.get("KERAS_BACKEND")
    if not backend:
        file = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras", "keras.json")
        place = f"backend in {file}"
        with contextlib.suppress(OSError, ValueError, AttributeError):
            backend = json.loads(file.read_text(encoding="utf-8")).get("backend")
    if backend and backend != "tensorflow":
        raise ConfigError(f"{place}={backend}: must be tensorflow")
