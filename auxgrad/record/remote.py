"""Read runs from a tracking server, with MLflow's search language."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auxgrad.record.stored import IDENTITY, RUN_KEY, StoredRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000  # The largest number of runs in one response.
REQUESTS = 8  # The number of simultaneous requests.


@dataclass(frozen=True)
class Server:
    """Reads the runs of an experiment from a server, like `database.Database`.

    Attributes:
        client: MLflow's client of the server.
        experiment_id: the experiment.
    """

    client: MlflowClient
    experiment_id: str

    def runs(self, status: str | None = None, key: str | None = None) -> list[StoredRun]:
        """Return runs of the experiment, newest first.

        Args:
            status: the status of the runs; None for all.
            key: the run key of the runs; None for all.
        """
        conditions = []
        if status is not None:
            conditions.append(f"attributes.status = '{status}'")
        if key is not None:
            conditions.append(f"tags.{RUN_KEY} = '{key}'")
        found: list[StoredRun] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], " and ".join(conditions), max_results=PAGE, page_token=token
            )
            found += map(stored, page)
            token = page.token
            if not token:
                return found

    def finished_keys(self) -> set[str]:
        """Return the keys of the FINISHED runs that have an identity."""
        return {run.tags[RUN_KEY] for run in self.runs("FINISHED") if IDENTITY in run.tags}

    def count_outdated(self) -> int:
        """Return how many FINISHED runs have a key but no identity."""
        return sum(run.is_outdated for run in self.runs("FINISHED"))

    def histories(self, run_ids: Sequence[str], metric: str) -> dict[str, dict[int, float]]:
        """Return the curves of a metric.

        Args:
            run_ids: the runs.
            metric: the name of the metric.

        Returns:
            The values by step, for each run that has the metric.
        """
        with ThreadPoolExecutor(REQUESTS) as pool:
            found = pool.map(lambda run_id: self.client.get_metric_history(run_id, metric), run_ids)
            curves = [{point.step: point.value for point in points} for points in found]
        return {run_id: curve for run_id, curve in zip(run_ids, curves, strict=True) if curve}


def stored(run: Run) -> StoredRun:
    """Convert a run of MLflow's client to a StoredRun."""
    data = run.data
    return StoredRun(run.info.run_id, run.info.status, data.params, data.metrics, data.tags)
