"""Split the time of a run of `auxgrad.train`: `python -m benchmarks.timeline FILE [OVERRIDES]`.

The program writes a JSON file with the seconds of each part, the number of epochs and the peak memory in
MB.
"""

from __future__ import annotations

import functools
import json
import resource
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

BORN = psutil.Process().create_time()
seconds: dict[str, float] = defaultdict(float)


def clock(owner: Any, name: str, part: str) -> None:
    """Make a function add its time to a part."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[part] += time.perf_counter() - started

    setattr(owner, name, timed)


def main() -> None:
    """Run the command line."""
    file, *overrides = sys.argv[1:]
    seconds["start of Python"] = time.time() - BORN

    def imported(*names: str) -> None:
        started = time.perf_counter()
        for name in names:
            __import__(name)
        seconds[f"import of {names[0]}"] = time.perf_counter() - started

    imported("hydra", "auxgrad.train")
    imported("mlflow", "mlflow.tracking")
    imported("tensorflow")
    imported(
        "keras",
        "auxgrad.problems.reviews.network",
        "auxgrad.execution.session",
        "auxgrad.execution.trainer",
    )

    import keras

    from auxgrad import train
    from auxgrad.execution import session
    from auxgrad.problems.reviews import Reviews
    from auxgrad.record.store import Store
    from auxgrad.record.writing import RunWriter
    from auxgrad.training.model import AuxiliaryModel

    epochs: list[float] = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            epochs.append(time.perf_counter() - self.started)

    fit, ready = AuxiliaryModel.fit, []

    def watched(self: AuxiliaryModel, *args: Any, **kwargs: Any) -> Any:
        ready.append(time.time() - BORN)
        kwargs["callbacks"] = [Watch(), *kwargs["callbacks"]]
        return fit(self, *args, **kwargs)

    clock(session, "open_store", "track")
    for name in ("metric", "flush", "text", "end"):
        clock(RunWriter, name, "track")
    clock(Store, "start_run", "track")
    clock(Reviews, "load", "data")
    clock(Reviews, "build", "network")
    AuxiliaryModel.fit = watched
    clock(AuxiliaryModel, "fit", "fit")
    clock(train, "train", "command")

    sys.argv[1:] = overrides
    train.main()
    # The time of fit includes validation.
    usual = statistics.median(epochs[1:] or epochs)
    seconds["compile"] = epochs[0] - usual
    seconds["train"] = seconds.pop("fit") - seconds["compile"]
    seconds["before the first step"] = ready[0]
    known = sum(
        value for name, value in seconds.items() if name not in ("command", "before the first step")
    )
    seconds.pop("command")
    seconds["rest"] = time.time() - BORN - known
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Path(file).write_text(json.dumps({"seconds": seconds, "epochs": len(epochs), "memory": memory}))


if __name__ == "__main__":
    main()
