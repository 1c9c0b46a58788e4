"""The cost of checkpoints in one run: `python -m benchmarks.checkpoints FILE [OVERRIDES]`.

Writes a JSON file with the seconds of training, the seconds spent in the callback that writes
checkpoints, the number of checkpoints and the size of the last one in MB.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

HOOKS = ("on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end")


def main() -> None:
    """Train as the overrides say, with a clock around every hook of the callback."""
    file, *overrides = sys.argv[1:]
    from auxgrad import train
    from auxgrad.execution.checkpoint import Checkpoint
    from auxgrad.execution.checkpointing import Checkpoints
    from auxgrad.training.model import AuxiliaryModel

    measured = {"training": 0.0, "checkpoints": 0.0, "written": 0, "megabytes": 0.0}

    def clock(owner: Any, name: str, part: str) -> None:
        function = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                measured[part] += time.perf_counter() - started

        setattr(owner, name, timed)

    save = Checkpoint.save

    def counted(self: Checkpoint, path: Path) -> None:
        save(self, path)
        measured["written"] += 1
        measured["megabytes"] = path.stat().st_size / 1e6

    Checkpoint.save = counted  # type: ignore[method-assign]
    for name in HOOKS:
        clock(Checkpoints, name, "checkpoints")
    clock(AuxiliaryModel, "fit", "training")
    sys.argv[1:] = overrides
    train.main()
    Path(file).write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
