"""A run in the store while it is being written."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from auxgrad.errors import TrackingError, without_passwords
from auxgrad.process.liveness import HEARTBEAT, HEARTBEAT_SECONDS, heartbeat
from auxgrad.record.environment import few_retries

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH = 1000  # Most metrics and tags that one call of the MLflow API takes.
PATIENCE_SECONDS = 120  # How long a store may be away at the end of a run.
LONGEST_PAUSE = 30.0
METRIC_SECONDS = 5  # Longest that metrics wait while a run goes on: each writing takes 10 ms.


@dataclass(frozen=True)
class Dataset:
    """What a run was trained on: name, SHA-256 of its content, and JSON texts for MLflow."""

    name: str
    fingerprint: str
    source: str
    profile: str


class StoreAway(TrackingError):
    """A store that does not answer for minutes."""


class RunWriter:
    """One run; metrics and tags wait in memory until `flush`, or `flush_now_and_then`."""

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client = client
        self.run_id: str = run.info.run_id
        self._folder = _local_folder(run.info.artifact_uri)
        self._waiting: list[Any] = []
        self._tags: list[Any] = []
        self._last_steps: dict[str, int] = {}
        self._next = time.monotonic() + METRIC_SECONDS
        self._pause = 0.0  # Before the store is asked again; 0 while it answers.
        self._is_over = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        """Give signs of life, however long a step, a validation or a compilation takes."""
        while not self._is_over.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(Exception):  # The next one may arrive.
                self.client.set_tag(self.run_id, HEARTBEAT, heartbeat())

    def params(self, params: Mapping[str, str]) -> None:
        """Write the parameters, in one call."""
        from mlflow.entities import Param

        self.client.log_batch(self.run_id, params=[Param(key, value) for key, value in params.items()])

    def dataset(self, dataset: Dataset) -> None:
        """Write what the run is trained on."""
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        entity = MlflowDataset(
            name=dataset.name,
            digest=dataset.fingerprint[:32],
            source_type="local",
            source=dataset.source,
            profile=dataset.profile,
        )
        inputs = [DatasetInput(entity, tags=[InputTag("mlflow.data.context", "training")])]
        try:
            self.client.log_inputs(self.run_id, datasets=inputs)
        except MlflowException:
            # Runs that bring the same new data set at once fail in MLflow, all but one; now it is there.
            self.client.log_inputs(self.run_id, datasets=inputs)

    def skip_what_is_stored(self, metrics: Iterable[str]) -> None:
        """Of these metrics write only what comes after their last step in the store."""
        for name in metrics:
            history = self.client.get_metric_history(self.run_id, name)
            self._last_steps[name] = max(each.step for each in history)

    def metric(self, name: str, value: float, step: int) -> None:
        """Keep a value until the next `flush`."""
        from mlflow.entities import Metric

        if step <= self._last_steps.get(name, -1):
            return
        self._waiting.append(Metric(name, value, int(time.time() * 1000), step))

    @property
    def waiting(self) -> list[list[Any]]:
        """The values that wait: name, value, timestamp and step of each."""
        return [[each.key, each.value, each.timestamp, each.step] for each in self._waiting]

    @property
    def waiting_tags(self) -> dict[str, str]:
        """The tags that wait."""
        return {each.key: each.value for each in self._tags}

    def resume(self, waiting: Iterable[Sequence[Any]]) -> None:
        """Take over the values that another process has kept for this run."""
        from mlflow.entities import Metric

        for name, value, timestamp, step in waiting:
            if step > self._last_steps.get(name, -1):
                self._waiting.append(Metric(name, value, timestamp, step))

    def tag(self, name: str, value: str) -> None:
        """Keep a tag until the next `flush`."""
        from mlflow.entities import RunTag

        self._tags.append(RunTag(name, value))

    def flush_now_and_then(self) -> None:
        """Write what waits if the last writing was seconds ago; a store that is away can wait."""
        if time.monotonic() > self._next:
            try:
                with few_retries():
                    self._write()
            except Exception as error:
                self._put_off(error)

    def flush(self, patience: float = PATIENCE_SECONDS) -> None:
        """Write the metrics and tags that wait. Raises StoreAway if the store is away for longer."""
        self._patiently(self._write, patience)

    def _write(self) -> None:
        while self._waiting or self._tags:
            size = BATCH - len(self._tags)
            self.client.log_batch(self.run_id, metrics=self._waiting[:size], tags=self._tags)
            del self._waiting[:size]
            self._tags = []
        self._next = time.monotonic() + METRIC_SECONDS
        if self._pause:
            self._pause = 0.0
            print("tracking  the store answers again", file=sys.stderr, flush=True)

    def _patiently(self, call: Callable[[], None], patience: float) -> None:
        deadline = time.monotonic() + patience
        while True:
            try:
                with few_retries():
                    return call()
            except Exception as error:
                self._put_off(error)
                if time.monotonic() >= deadline:
                    raise StoreAway(self._away(error)) from None
                time.sleep(self._pause)

    def _put_off(self, error: Exception) -> None:
        """Wait longer each time; raises an error that waiting does not mend."""
        if not _is_outage(error):
            raise error
        if not self._pause:
            print(
                f"tracking  the store does not answer ({_reason(error)}); the record waits",
                file=sys.stderr,
                flush=True,
            )
        self._pause = min(LONGEST_PAUSE, 2 * self._pause or 1.0)
        self._next = time.monotonic() + self._pause

    def text(self, content: str, file: str, patience: float = PATIENCE_SECONDS) -> None:
        """Store a text artifact. Raises StoreAway if a server is away for longer."""
        if self._folder is None:
            self._patiently(lambda: self.client.log_text(self.run_id, content, file), patience)
            return
        # Where MLflow would copy it to, after 6 ms of asking the database for that place.
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    @contextlib.contextmanager
    def artifact(self, name: str) -> Iterator[Path]:
        """Give a path to write to; what is there at the end becomes an artifact of that name.

        Raises StoreAway if the store is away for longer than MLflow itself tries again.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            yield path
            try:
                self.client.log_artifact(self.run_id, str(path))
            except Exception as error:
                if _is_outage(error):
                    raise StoreAway(self._away(error)) from None
                raise

    def _away(self, error: Exception) -> str:
        return f"run {self.run_id}: the store is away ({_reason(error)})"

    def folder(self, path: Path) -> None:
        """Store all files of a folder as artifacts."""
        self.client.log_artifacts(self.run_id, str(path))

    def end(self, status: str, patience: float = PATIENCE_SECONDS) -> None:
        """Close the run with status FINISHED, FAILED or KILLED; metrics must be flushed before."""
        self._is_over.set()
        self._patiently(lambda: self.client.set_terminated(self.run_id, status), patience)

    def is_finished(self) -> bool:
        """Return whether the store has the run as FINISHED."""
        with few_retries():
            return bool(self.client.get_run(self.run_id).info.status == "FINISHED")


def _is_outage(error: Exception) -> bool:
    """Whether the same call may succeed later: no server, a locked database, a full disk."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
    return isinstance(error, OSError)


def _reason(error: Exception) -> str:
    return without_passwords(" ".join(str(error).split()))[:120]


@functools.cache
def context_tags() -> Mapping[str, str]:
    """Return user, source file and git commit, as mlflow.start_run would add them."""
    from mlflow.tracking.context.registry import resolve_tags

    # Git's address of the origin may have a token for a user.
    return {name: re.sub(r"://[^/\s]*@", "://", value) for name, value in resolve_tags().items()}


def _local_folder(artifact_uri: str) -> Path | None:
    """The folder that a file: URI names; None for artifacts that lie elsewhere."""
    address = urlsplit(artifact_uri)
    return Path(url2pathname(address.path)) if address.scheme == "file" and not address.netloc else None
