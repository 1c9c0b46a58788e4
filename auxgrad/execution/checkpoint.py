"""The state of a run on disk, from which it goes on after whatever has ended its process."""

from __future__ import annotations

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
        epoch: epochs that are finished.
        steps: optimisation steps that are finished.
        is_last: whether training has ended.
        seconds: the time of training.
        history: what Keras has logged of every epoch, by name.
        stopping: the state of early stopping.
        waiting: values of metrics that are not in the store yet: (name, value, timestamp, step).
        chance: state of Python's `random`, and of NumPy's but for its key.
        variables: values of `AuxiliaryModel.training_variables`.
        best: weights of the best epoch.
        key: of NumPy's random numbers.
    """

    epoch: int
    steps: int
    is_last: bool
    seconds: float
    history: Mapping[str, list[float]]
    stopping: Mapping[str, Any]
    waiting: list[list[Any]]
    chance: Mapping[str, Any]
    variables: list[np.ndarray]
    best: list[np.ndarray]
    key: np.ndarray
    format: int = FORMAT

    def save(self, file: Path) -> None:
        """Write the file in one piece: whoever is killed meanwhile leaves the one before."""
        numbers = {name: value for name, value in vars(self).items() if name not in ARRAYS}
        arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(numbers).encode(), np.uint8)}
        arrays |= {"key": self.key}
        arrays |= {f"v{i}": each for i, each in enumerate(self.variables)}
        arrays |= {f"b{i}": each for i, each in enumerate(self.best)}
        new = file.with_name(f"{file.name}.new")
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
        self._tags, self._file = tags, folder / FILE
        self._found: tuple[str, Path, Checkpoint] | None = None

    def fetch(self, run: StoredRun) -> bool:
        """Return whether the run can be gone on with; its checkpoint is then here, too."""
        file = Path(run.tags.get(FOLDER, ""), FILE)
        same = [name for name in self._tags if name.startswith("version.") or name == "device"]
        if not file.is_file() or any(run.tags.get(name) != self._tags[name] for name in same):
            return False
        try:
            self._found = run.run_id, file, Checkpoint.load(file)
        except CheckpointError as error:
            print(f"note      {error}; the run starts anew")
            return False
        if not self._file.exists():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new = self._file.with_name(f"{FILE}.new")
            shutil.copyfile(file, new)
            new.replace(self._file)
        return True

    def take_checkpoint(self, run_id: str) -> Checkpoint | None:
        """Return the checkpoint if this is the run that was found; tidy up after the search."""
        if self._found is None:
            return None
        found, old, checkpoint = self._found
        is_it = found == run_id
        superfluous = old if is_it else self._file
        if old != self._file:
            superfluous.unlink(missing_ok=True)
        return checkpoint if is_it else None
