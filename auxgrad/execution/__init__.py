"""Execute one run: session, trainer, checkpoints, result."""
