"""Make a whole eager, dense run, recorded by MLflow: `benchmarks.original EPOCHS [OVERRIDES]`."""

from __future__ import annotations

import resource
import sys

import mlflow

from auxgrad.config import compose
from benchmarks.contestants import EagerDense


def main() -> None:
    """Run the command line."""
    epochs, *overrides = sys.argv[1:]
    config = compose(overrides)
    mlflow.set_tracking_uri("sqlite:///original.db")
    with mlflow.start_run():
        mlflow.log_params({"mode": config.mode, "lam": config.lam, "seed": config.seed})
        contestant = EagerDense(config)
        reviews, step = contestant.reviews, 0
        for _ in range(int(epochs)):
            for batch in contestant.batches():
                step += 1
                mlflow.log_metric("train_loss", contestant.step(batch), step)
            mlflow.log_metric("val_loss", contestant.loss(reviews.validation), step)
        mlflow.log_metric("test_loss", contestant.loss(reviews.test), step)
    print("peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
