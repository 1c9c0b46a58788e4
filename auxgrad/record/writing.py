"""Write a run to the store while it is executed."""

from __future__ import annotations

import contextlib
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

from auxgrad.errors import TrackingError
from auxgrad.process.liveness import HEARTBEAT, HEARTBEAT_SECONDS, heartbeat
from auxgrad.record.environment import few_retries, is_outage, short_reason

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH = 1000  # The largest number of metrics and tags in one call of the MLflow API.
PATIENCE_SECONDS = 120  # How long to wait for a store that does not answer at the end of a run.
MAX_PAUSE_SECONDS = 30.0
METRIC_SECONDS = 5  # The interval between writes during a run; each write takes 10 ms.


@dataclass(frozen=True)
class Dataset:
    """The description of the data of a run for MLflow.

    Attributes:
        name: the name of the data.
        fingerprint: the SHA-256 of the content.
        source: the origin of the data, as JSON.
        profile: the sizes of its parts and other details, as JSON.
    """

    name: str
    fingerprint: str
    source: str
    profile: str


class StoreUnavailable(TrackingError):
    """The store has not answered for minutes."""


class RunWriter:
    """Writes one run to the store.

    Metrics and tags are kept in memory until `flush` or `flush_if_due` is called. A thread sends a
    heartbeat every minute until `end` is called.

    Attributes:
        client: MLflow's client of the store.
        run_id: the id of the run.
    """

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client = client
        self.run_id: str = run.info.run_id
        self._folder = _local_folder(run.info.artifact_uri)
        self._pending: list[Any] = []
        self._tags: list[Any] = []
        self._last_steps: dict[str, int] = {}
        self._next = time.monotonic() + METRIC_SECONDS
        self._pause = 0.0  # The seconds before the next attempt; 0 while the store answers.
        self._has_ended = threading.Event()
        threading.Thread(target=self._send_heartbeats, daemon=True).start()

    def _send_heartbeats(self) -> None:
        """Send heartbeats, however long a step, a validation or a compilation takes."""
        while not self._has_ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(Exception):  # The next heartbeat may arrive.
                self.client.set_tag(self.run_id, HEARTBEAT, heartbeat())

    def params(self, params: Mapping[str, str]) -> None:
        """Write the parameters in one call."""
        from mlflow.entities import Param

        self.client.log_batch(self.run_id, params=[Param(key, value) for key, value in params.items()])

    def dataset(self, dataset: Dataset) -> None:
        """Write the description of the data."""
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
            # If several runs add the same new data set at once, MLflow fails for all but one. Now the
            # data set exists.
            self.client.log_inputs(self.run_id, datasets=inputs)

    def skip_stored(self, metrics: Iterable[str]) -> None:
        """Ignore values of a resumed run that the store already has.

        Args:
            metrics: the metrics to look up; values up to the last step of each will not be written.
        """
        for name in metrics:
            history = self.client.get_metric_history(self.run_id, name)
            self._last_steps[name] = max(each.step for each in history)

    def metric(self, name: str, value: float, step: int) -> None:
        """Add a value of a metric, to be written by the next `flush`.

        Args:
            name: the metric.
            value: its value.
            step: the step or the epoch of the value.
        """
        from mlflow.entities import Metric

        if step <= self._last_steps.get(name, -1):
            return
        self._pending.append(Metric(name, value, int(time.time() * 1000), step))

    @property
    def pending(self) -> list[list[Any]]:
        """The values that are not yet written: name, value, timestamp and step of each."""
        return [[each.key, each.value, each.timestamp, each.step] for each in self._pending]

    @property
    def pending_tags(self) -> dict[str, str]:
        """The tags that are not yet written."""
        return {each.key: each.value for each in self._tags}

    def restore_pending(self, pending: Iterable[Sequence[Any]]) -> None:
        """Add the values that another process has not written for this run.

        Args:
            pending: the values, in the form of `pending`.
        """
        from mlflow.entities import Metric

        for name, value, timestamp, step in pending:
            if step > self._last_steps.get(name, -1):
                self._pending.append(Metric(name, value, timestamp, step))

    def tag(self, name: str, value: str) -> None:
        """Add a tag, to be written by the next `flush`."""
        from mlflow.entities import RunTag

        self._tags.append(RunTag(name, value))

    def flush_if_due(self) -> None:
        """Write the pending values if the last write was some seconds ago.

        If the store does not answer, the values are kept for a later attempt.
        """
        if time.monotonic() > self._next:
            try:
                with few_retries():
                    self._write()
            except Exception as error:
                self._postpone(error)

    def flush(self, patience: float = PATIENCE_SECONDS) -> None:
        """Write the pending metrics and tags.

        Args:
            patience: the seconds to wait for a store that does not answer.

        Raises:
            StoreUnavailable: the store has not answered for that time.
        """
        self._retry(self._write, patience)

    def _write(self) -> None:
        while self._pending or self._tags:
            size = BATCH - len(self._tags)
            self.client.log_batch(self.run_id, metrics=self._pending[:size], tags=self._tags)
            del self._pending[:size]
            self._tags = []
        self._next = time.monotonic() + METRIC_SECONDS
        if self._pause:
            self._pause = 0.0
            print("tracking  the store answers again", file=sys.stderr, flush=True)

    def _retry(self, call: Callable[[], Any], patience: float) -> Any:
        deadline = time.monotonic() + patience
        while True:
            try:
                with few_retries():
                    return call()
            except Exception as error:
                self._postpone(error)
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(self._unavailable(error)) from None
                time.sleep(self._pause)

    def _postpone(self, error: Exception) -> None:
        """Double the pause before the next attempt; raise an error that a retry cannot resolve."""
        if not is_outage(error):
            raise error
        if not self._pause:
            print(
                f"tracking  the store does not answer ({short_reason(error)}); retrying",
                file=sys.stderr,
                flush=True,
            )
        self._pause = min(MAX_PAUSE_SECONDS, 2 * self._pause or 1.0)
        self._next = time.monotonic() + self._pause

    def text(self, content: str, file: str, patience: float = PATIENCE_SECONDS) -> None:
        """Store a text as an artifact.

        Args:
            content: the text.
            file: the path of the artifact.
            patience: as for `flush`.

        Raises:
            StoreUnavailable: as for `flush`.
        """
        if self._folder is None:
            self._retry(lambda: self.client.log_text(self.run_id, content, file), patience)
            return
        # MLflow would copy the file to the same path, but take 6 ms to query the database for it.
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    @contextlib.contextmanager
    def artifact(self, name: str) -> Iterator[Path]:
        """Store the file that is written inside the context as an artifact.

        Args:
            name: the name of the artifact.

        Yields:
            The path to write to.

        Raises:
            StoreUnavailable: the store does not answer, however often MLflow retries.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            yield path
            try:
                self.client.log_artifact(self.run_id, str(path))
            except Exception as error:
                if is_outage(error):
                    raise StoreUnavailable(self._unavailable(error)) from None
                raise

    def _unavailable(self, error: Exception) -> str:
        return f"run {self.run_id}: the store does not answer ({short_reason(error)})"

    def folder(self, path: Path) -> None:
        """Store all files in a folder as artifacts."""
        self.client.log_artifacts(self.run_id, str(path))

    def end(self, status: str, patience: float = PATIENCE_SECONDS) -> None:
        """End the run. Call `flush` before.

        Args:
            status: FINISHED, FAILED or KILLED.
            patience: as for `flush`.

        Raises:
            StoreUnavailable: as for `flush`.
        """
        self._has_ended.set()
        self._retry(lambda: self.client.set_terminated(self.run_id, status), patience)

    def status(self, patience: float = PATIENCE_SECONDS) -> str:
        """Return the status of the run in the store.

        Args:
            patience: as for `flush`.

        Raises:
            StoreUnavailable: as for `flush`.
        """
        return str(self._retry(lambda: self.client.get_run(self.run_id).info.status, patience))


def _local_folder(artifact_uri: str) -> Path | None:
    """Return the folder of a file: URI; None for artifacts that are stored elsewhere."""
    address = urlsplit(artifact_uri)
    return Path(url2pathname(address.path)) if address.scheme == "file" and not address.netloc else None
