"""The Keras side: the model, auxiliaries, batches, devices. Knows nothing of runs and records."""

from auxgrad.config.code.backend import check_backend

check_backend()
