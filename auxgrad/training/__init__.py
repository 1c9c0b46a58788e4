"""The Keras side: the model, auxiliaries, batches, devices. Knows nothing of runs and records."""

from auxgrad.config.code.backend import check_backend
from auxgrad.errors import ConfigError

try:
    check_backend()
except ConfigError as error:
    raise ImportError(f"auxgrad: {error}") from None
