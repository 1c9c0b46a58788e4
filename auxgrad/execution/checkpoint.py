"""The state of a run on disk, from which it goes on after whatever has ended its process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auxgrad.errors import AuxgradError
from auxgrad.record.stored import StoredRun

FILE = "checkpoint.npz"
FOLDER = "auxgrad.folder"  # The tag of a run with the place of its files.
FORMAT = 1
ARRAYS = ("variables", "best", "key")


class CheckpointError(AuxgradError):
    """A checkpoint that is damaged, or that another network has written."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two epochs.

    Attributes:
        run_id: the run in the tracking store.
        epoch: epochs that are finished.
        steps: optimisation steps that are finished.
        is_last: whether training has ended.
        seconds: the time of training.
        diverged: the first step with a loss that is NaN or infinite.
        history: what Keras has logged of every epoch, by name.
        stopping: the state of early stopping.
        waiting: values of metrics that are not in the store yet: (name, value, timestamp, step).
        chance: state of Python's `random`, and of NumPy's but for its key.
        variables: values of `AuxiliaryModel.training_variables`.
        best: weights of the best epoch.
        key: of NumPy's random numbers.
    """

    run_id: str
    epoch: int
    steps: int
    is_last: bool
    seconds: float
    diverged: int | None
    history: Mapping[str, list[float]]
    stopping: Mapping[str, Any]
    waiting: list[list[Any]]
    chance: Mapping[str, Any]
    variables: list[np.ndarray]
    best: list[np.ndarray]
    key: np.ndarray
    format: int = FORMAT

    @staticmethod
    def remove(file: Path) -> None:
        """Remove a checkpoint, and what a process that was killed while it wrote one has left."""
        for each in (file, _unfinished(file)):
            each.unlink(missing_ok=True)

    def save(self, file: Path) -> None:
        """Write the file in one piece: whoever is killed meanwhile leaves the one before."""
        numbers = {name: value for name, value in vars(self).items() if name not in ARRAYS}
        arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(numbers).encode(), np.uint8)}
        arrays |= {"key": self.key}
        arrays |= {f"v{i}": each for i, each in enumerate(self.variables)}
        arrays |= {f"b{i}": each for i, each in enumerate(self.best)}
        new = _unfinished(file)
        try:
            with new.open("wb") as stream:
                np.savez(stream, **arrays)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(file)
        except OSError:
            new.unlink(missing_ok=True)
            raise

    @staticmethod
    def load(file: Path) -> Checkpoint:
        """Return the checkpoint in a file. Raises CheckpointError if it is damaged."""
        try:
            with np.load(file, allow_pickle=False) as content:  # It checks the CRC of every array.
                numbers = json.loads(content["about"].tobytes())
                if numbers["format"] != FORMAT:
                    raise ValueError(f"format {numbers['format']}, not {FORMAT}")
                count = len(content.files)
                variables, best = (
                    [content[name] for name in (f"{start}{i}" for i in range(count)) if name in content]
                    for start in "vb"
                )
                return Checkpoint(**numbers, variables=variables, best=best, key=content["key"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None


class Resumption:
    """Finds a run that was interrupted and can be gone on with, and brings its checkpoint here.

    Args:
        tags: of the run that is to start. Versions and device must be the same for the same numbers.
        folder: of the run that is to start.
    """

    def __init__(self, tags: Mapping[str, str], folder: Path) -> None:
        self._tags, self._file = tags, folder.absolute() / FILE
        self._found: tuple[str, Path, Checkpoint] | None = None

    def takes(self, run: StoredRun) -> bool:
        """Return whether the run can be gone on with; its checkpoint is then here, too."""
        file = Path(run.tags.get(FOLDER, ""), FILE)
        same = [name for name in self._tags if name.startswith("version.") or name == "device"]
        try:
            if not file.is_file() or any(run.tags.get(name) != self._tags[name] for name in same):
                return False
            checkpoint = Checkpoint.load(file)
            if checkpoint.run_id != run.run_id:  # With a fixed hydra.run.dir runs share a folder.
                return False
            if file != self._file:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                new = _unfinished(self._file)
                shutil.copyfile(file, new)
                new.replace(self._file)
        except (CheckpointError, OSError) as error:  # Perhaps the folder of another user.
            print(f"note      {error}; the run starts anew")
            return False
        self._found = run.run_id, file, checkpoint
        return True

    def give_up(self) -> None:
        """Remove the copy of the checkpoint: another process makes the run, or has finished it."""
        if self._found is not None and self._found[1] != self._file:
            Checkpoint.remove(self._file)

    def checkpoint(self, run_id: str) -> Checkpoint | None:
        """Return the checkpoint if this is the run that was found; tidy up after the search."""
        if self._found is None:
            return None
        found, old, checkpoint = self._found
        is_it = found == run_id
        superfluous = old if is_it else self._file
        if old != self._file:
            with contextlib.suppress(OSError):  # Another user's, which may be read only.
                Checkpoint.remove(superfluous)
        return checkpoint if is_it else None


def _unfinished(file: Path) -> Path:
    """Return the file that a checkpoint is written to before it gets its name."""
    return file.with_name(f"{file.name}.new")
