"""Records of runs that finished while the store was unavailable: kept on disk, delivered later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from auxgrad.errors import RunsElsewhere, TrackingError
from auxgrad.record.claims import AlreadyFinished
from auxgrad.record.remote import stored
from auxgrad.record.store import Store
from auxgrad.record.writing import RunWriter

FILES = "unsent-*.json"  # One for each run, because several runs may share an output folder.
FORMAT = 1


def unsent_file(folder: Path, run_id: str, ending: str = "json") -> Path:
    """Return the path of a file that belongs to the unsent record of a run."""
    return folder / f"unsent-{run_id}.{ending}"


def keep(folder: Path, store: Store, writer: RunWriter, files: Mapping[str, str]) -> Path:
    """Write the unsent values of a finished run to a file in its output folder.

    Args:
        folder: The output folder.
        store: The store that the record belongs to.
        writer: The writer of the run, which holds the unsent values.
        files: The names of files in the folder, by the names that they have as artifacts. They
            are deleted when the record has been delivered.

    Returns:
        The path of the file.
    """
    file = unsent_file(folder, writer.run_id)
    content = {
        "format": FORMAT,
        "experiment": store.name,
        "run_id": writer.run_id,
        "metrics": writer.pending,
        "tags": writer.pending_tags,
        "files": dict(files),
    }
    new = file.with_suffix(".new")
    new.write_text(json.dumps(content), encoding="utf-8")
    new.replace(file)
    return file


def find(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the files of undelivered records below these folders."""
    for folder in folders:
        yield from sorted(folder.rglob(FILES))


def experiment_of(file: Path) -> str:
    """Return the name of the experiment that a record belongs to.

    Raises:
        TrackingError: The file is damaged.
        FileNotFoundError: The record has been delivered in the meantime.
    """
    return str(_read(file)["experiment"])


def deliver(file: Path, store: Store) -> str:
    """Send a record to its store, and delete its files.

    If another run with the same identity has finished in the meantime, the record is dropped, so
    that the store keeps a single finished run of this identity. While another process repeats the
    run, the record stays where it is.

    Args:
        file: The file that `keep` wrote.
        store: The store that the record belongs to.

    Returns:
        A message for the user that says what was done.

    Raises:
        TrackingError: The file is damaged, a file that belongs to it is missing, or the run is not in
            this store.
    """
    try:
        content = _read(file)
    except FileNotFoundError:
        return f"{file} was delivered by another process"
    run_id = content["run_id"]
    try:
        run = store.client.get_run(run_id)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise TrackingError(f"{file}: run {run_id} is not in {store.name} ({reason})") from None
    if run.info.lifecycle_stage == "deleted":
        raise TrackingError(f"{file}: run {run_id} was deleted from {store.name}")
    files = [file.with_name(name) for name in content["files"].values()]
    try:
        with store.claimed(stored(run)):
            if store.client.get_run(run_id).info.status == "FINISHED":
                outcome = "was delivered before"
            elif missing := [each for each in files if not each.exists()]:
                raise TrackingError(f"{file}: {missing[0].name}, which belongs to it, is missing")
            else:
                _send(content, file.parent, RunWriter(store.client, run), run.data.metrics)
                outcome = "delivered"
    except RunsElsewhere as error:
        return f"run {run_id} {error}; {file} stays"
    except AlreadyFinished as error:
        outcome = f"was repeated in the meantime, as run {error.run.run_id}"
    file.unlink(missing_ok=True)
    for each in files:
        each.unlink(missing_ok=True)
    return f"run {run_id} {outcome}"


def _send(content: Mapping[str, Any], folder: Path, writer: RunWriter, recorded: Iterable[str]) -> None:
    writer.skip_stored(recorded)
    writer.restore_pending(content["metrics"])
    for name, value in content["tags"].items():
        writer.tag(name, value)
    for artifact, name in content["files"].items():
        with writer.artifact(artifact) as path:
            shutil.copyfile(folder / name, path)
    writer.flush()
    writer.end("FINISHED")


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, not {FORMAT}")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrackingError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
    return dict(content)
