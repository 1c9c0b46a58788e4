"""A run in the store while it is being written."""

from __future__ import annotations

import contextlib
import functools
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from auxgrad.record.liveness import HEARTBEAT, heartbeat

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH = 1000  # Most metrics and tags that one call of the MLflow API takes.
HEARTBEAT_SECONDS = 60
METRIC_SECONDS = 5  # Longest that metrics wait while a run goes on: each writing takes 10 ms.


@dataclass(frozen=True)
class Dataset:
    """What a run was trained on: name, SHA-256 of its content, and JSON texts for MLflow."""

    name: str
    fingerprint: str
    source: str
    profile: str


class RunWriter:
    """One run; metrics and tags wait in memory until `flush`, or `flush_now_and_then`."""

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client = client
        self.run_id: str = run.info.run_id
        self._folder = _local_folder(run.info.artifact_uri)
        self._waiting: list[Any] = []
        self._tags: list[Any] = []
        self._flushed = self._beaten = time.monotonic()

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

    def metric(self, name: str, value: float, step: int) -> None:
        """Keep a value until the next `flush`."""
        from mlflow.entities import Metric

        self._waiting.append(Metric(name, value, int(time.time() * 1000), step))

    def tag(self, name: str, value: str) -> None:
        """Keep a tag until the next `flush`."""
        from mlflow.entities import RunTag

        self._tags.append(RunTag(name, value))

    def flush_now_and_then(self) -> None:
        """Write what waits if the last writing was seconds ago."""
        if time.monotonic() - self._flushed > METRIC_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the metrics and tags that wait, and the heartbeat if it is due."""
        self._flushed = time.monotonic()
        while self._waiting or self._tags:
            size = BATCH - len(self._tags)
            self.client.log_batch(self.run_id, metrics=self._waiting[:size], tags=self._tags)
            del self._waiting[:size]
            self._tags = []
        if time.monotonic() - self._beaten > HEARTBEAT_SECONDS:
            self._beaten = time.monotonic()
            self.client.set_tag(self.run_id, HEARTBEAT, heartbeat())

    def text(self, content: str, file: str) -> None:
        """Store a text artifact."""
        if self._folder is None:
            self.client.log_text(self.run_id, content, file)
            return
        # Where MLflow would copy it to, after 6 ms of asking the database for that place.
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    @contextlib.contextmanager
    def artifact(self, name: str) -> Iterator[Path]:
        """Give a path to write to; what is there at the end becomes an artifact of that name."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            yield path
            self.client.log_artifact(self.run_id, str(path))

    def folder(self, path: Path) -> None:
        """Store all files of a folder as artifacts."""
        self.client.log_artifacts(self.run_id, str(path))

    def end(self, status: str) -> None:
        """Close the run with status FINISHED, FAILED or KILLED; metrics must be flushed before."""
        self.client.set_terminated(self.run_id, status)


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
