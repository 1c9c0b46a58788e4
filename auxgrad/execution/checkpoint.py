"""Checkpoints: the state of a run on disk, from which an interrupted run is resumed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auxgrad.errors import AuxgradError
from auxgrad.record.stored import StoredRun

FILE = "checkpoint.npz"
FOLDER = "auxgrad.folder"  # The tag of a run that holds the path of its output folder.
FORMAT = 1
ARRAYS = ("variables", "best", "key")


class CheckpointError(AuxgradError):
    """A checkpoint is damaged, or was written by another network."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run between two epochs.

    Attributes:
        run_id: The run in the tracking store.
        epoch: The number of finished epochs.
        steps: The number of finished optimisation steps.
        is_last: Whether training has ended.
        seconds: The training time so far, as `Result.seconds` counts it.
        diverged: The first step with a loss or weight that is NaN or infinite.
        history: The values that Keras logged at the end of each epoch, by name.
        stopping: The state of the early stopping callback.
        waiting: Metric values that are not in the store yet: (name, value, timestamp, step).
        chance: The states of Python's `random` and of NumPy's global generator, without its key.
        variables: The values of `AuxiliaryModel.training_variables`.
        best: The weights of the best epoch.
        key: The key of NumPy's global generator.
        format: The version of the file format.
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
        """Write the checkpoint to a file atomically.

        If the process is killed while it writes, the previous checkpoint stays intact.

        Args:
            file: The path of the checkpoint.

        Raises:
            OSError: The file cannot be written, for example because the disk is full.
        """
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
        """Return the checkpoint in a file.

        Raises:
            CheckpointError: The file is missing, damaged, or in another format.
        """
        with _opened(file) as (numbers, content):
            count = len(content.files)
            variables, best = (
                [content[name] for name in (f"{start}{i}" for i in range(count)) if name in content]
                for start in "vb"
            )
            return Checkpoint(**numbers, variables=variables, best=best, key=content["key"])


def has_checkpoint(run: StoredRun, tags: Mapping[str, str]) -> bool:
    """Return whether a run with these tags would be resumed from the checkpoint of an interrupted run.

    Only the beginning of the file is read, so that a checkpoint whose arrays are damaged counts too.

    Args:
        run: The interrupted run.
        tags: The tags of the new run, as far as they are known.
    """
    file = Path(run.tags.get(FOLDER, ""), FILE)
    try:
        if not file.is_file() or not _has_same(run, tags):
            return False
        with _opened(file) as (numbers, _):
            return bool(numbers["run_id"] == run.run_id)
    except (CheckpointError, OSError):
        return False


class Resumption:
    """Finds an interrupted run that can be resumed, and copies its checkpoint.

    Args:
        tags: The tags of the new run. A run is resumed only if its package versions and its device
            are the same, because the numbers could differ otherwise.
        folder: The output folder of the new run.
    """

    def __init__(self, tags: Mapping[str, str], folder: Path) -> None:
        self._tags, self._file = tags, folder.absolute() / FILE
        self._found: tuple[str, Path, Checkpoint] | None = None

    def fetch(self, run: StoredRun) -> bool:
        """Copy the checkpoint of an interrupted run to the new folder.

        Args:
            run: The interrupted run.

        Returns:
            Whether the run can be resumed. If not, nothing is copied.
        """
        file = Path(run.tags.get(FOLDER, ""), FILE)
        try:
            if not file.is_file() or not _has_same(run, self._tags):
                return False
            checkpoint = Checkpoint.load(file)
            if checkpoint.run_id != run.run_id:  # With a fixed hydra.run.dir, runs share a folder.
                return False
            if file != self._file:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                new = _unfinished(self._file)
                shutil.copyfile(file, new)
                new.replace(self._file)
        except (CheckpointError, OSError) as error:  # The folder may belong to another user.
            print(f"note      {error}; the run starts from the beginning")
            return False
        self._found = run.run_id, file, checkpoint
        return True

    def discard(self) -> None:
        """Delete the copy of the checkpoint, because another process makes or has made the run."""
        if self._found is not None and self._found[1] != self._file:
            Checkpoint.remove(self._file)

    def take_checkpoint(self, run_id: str) -> Checkpoint | None:
        """Return the checkpoint for the opened run, and delete the copy that is not needed.

        Args:
            run_id: The id of the run that was opened.

        Returns:
            The checkpoint, or None if the run is not the one that `fetch` found.
        """
        if self._found is None:
            return None
        found, old, checkpoint = self._found
        is_it = found == run_id
        superfluous = old if is_it else self._file
        if old != self._file:
            with contextlib.suppress(OSError):  # Another user's, which may be read only.
                Checkpoint.remove(superfluous)
        return checkpoint if is_it else None


def _has_same(run: StoredRun, tags: Mapping[str, str]) -> bool:
    """Return whether a run has the same package versions and device as these tags."""
    names = (name for name in tags if name.startswith("version.") or name == "device")
    return all(run.tags.get(name) == tags[name] for name in names)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Open a checkpoint inside the context, and yield its fields that are no arrays, and its arrays."""
    try:
        with np.load(file, allow_pickle=False) as content:  # Checks the CRC of every array it reads.
            numbers = json.loads(content["about"].tobytes())
            if numbers["format"] != FORMAT:
                raise ValueError(f"format {numbers['format']}, not {FORMAT}")
            yield numbers, content
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None


def _unfinished(file: Path) -> Path:
    """Return the file that a checkpoint is written to before it gets its name."""
    return file.with_name(f"{file.name}.new")
