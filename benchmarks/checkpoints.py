"""The cost of checkpoints in one run: `python -m benchmarks.checkpoints FILE [OVERRIDES]`.

Writes a JSON file with the seconds of training, the seconds spent in the callback that writes
checkpoints, the number of checkpoints and the size of the last one in MB.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.timeline import clock, seconds

HOOKS = ("on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end")


def main() -> None:
    """Train as the overrides say, with a clock around every hook of the callback."""
    file, *overrides = sys.argv[1:]
    from auxgrad import train
    from auxgrad.execution.checkpoint import Checkpoint
    from auxgrad.execution.checkpointing import Checkpoints
    from auxgrad.training.model import AuxiliaryModel

    written = {"written": 0, "megabytes": 0.0}
    save = Checkpoint.save

    def counted(self: Checkpoint, path: Path) -> None:
        save(self, path)
        written["written"] += 1
        written["megabytes"] = path.stat().st_size / 1e6

    Checkpoint.save = counted  # type: ignore[method-assign]
    for name in HOOKS:
        clock(Checkpoints, name, "checkpoints")
    clock(AuxiliaryModel, "fit", "training")
    sys.argv[1:] = overrides
    train.main()
    Path(file).write_text(json.dumps({**seconds, **written}), encoding="utf-8")


if __name__ == "__main__":
    main()
