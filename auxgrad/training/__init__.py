"""Train Keras models: the model, auxiliaries, batches and devices, without runs and records."""

from auxgrad.config.code.backend import check_backend

check_backend()
