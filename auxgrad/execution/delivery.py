"""The record of a finished run that its store was away for: kept beside its output, delivered later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from auxgrad.errors import TrackingError
from auxgrad.record.remote import stored
from auxgrad.record.store import Store
from auxgrad.record.stored import RUN_KEY
from auxgrad.record.writing import RunWriter

FILE = "unsent.json"
FORMAT = 1


def keep(folder: Path, store: Store, writer: RunWriter, files: Iterable[str]) -> Path:
    """Write all that a finished run has not sent into its output folder; return the file.

    Args:
        folder: the output folder.
        store: where the record belongs.
        writer: of the run.
        files: names of files in the folder that are artifacts.
    """
    file = folder / FILE
    content = {
        "format": FORMAT,
        "experiment": store.name,
        "run_id": writer.run_id,
        "metrics": writer.pending,
        "tags": writer.pending_tags,
        "files": list(files),
    }
    new = file.with_name(f"{FILE}.new")
    new.write_text(json.dumps(content), encoding="utf-8")
    new.replace(file)
    return file


def find(folders: Iterable[Path]) -> Iterator[Path]:
    """Return the records below these folders that wait for delivery."""
    for folder in folders:
        yield from sorted(folder.rglob(FILE))


def experiment_of(file: Path) -> str:
    """Return the experiment that a record belongs to.

    Raises TrackingError for a damaged file, and FileNotFoundError if the record has been delivered.
    """
    return str(_read(file)["experiment"])


def deliver(file: Path, store: Store) -> str:
    """Bring a record into its store, and return what became of it, in a few words.

    A run that has been made again meanwhile keeps one finished run in the store: the other one. While
    it is being made again, its record stays where it is.

    Raises:
        TrackingError: the file is damaged, or the run is not in this store.
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
    key = stored(run).tags.get(RUN_KEY, "")
    for rival in store.mark_dead(store.runs("RUNNING", key)):
        if rival.status == "RUNNING" and rival.run_id != run_id:
            return f"run {run_id} is being made again, in {rival.process_name}; {file} stays"
    others = store.runs("FINISHED", key)
    if any(other.run_id == run_id for other in others):
        told = "was delivered before"
    elif others:
        told = f"was made again meanwhile, as run {others[0].run_id}"
    else:
        writer = RunWriter(store.client, run)
        writer.skip_stored(run.data.metrics)
        writer.restore_pending(content["metrics"])
        for name, value in content["tags"].items():
            writer.tag(name, value)
        for name in content["files"]:
            with writer.artifact(name) as path:
                shutil.copyfile(file.with_name(name), path)
        writer.flush()
        writer.end("FINISHED")
        told = "delivered"
    file.unlink(missing_ok=True)
    return f"run {run_id} {told}"


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
