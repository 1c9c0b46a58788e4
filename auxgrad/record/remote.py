"""Reads runs from a tracking server, in MLflow's search language."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from auxgrad.record.stored import IDENTITY, RUN_KEY, StoredRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000  # Most runs that one call returns.
REQUESTS = 8  # At once.


@dataclass(frozen=True)
class Server:
    """The runs of an experiment that are not in MLflow's trash; as `database.Database`."""

    client: MlflowClient
    experiment_id: str

    def runs(self, status: str | None = None, key: str | None = None) -> list[StoredRun]:
        """Return the runs with this status and this run key, newest first."""
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
        """Return curves of a metric, as values by step, of all these runs that have one."""
        with ThreadPoolExecutor(REQUESTS) as pool:
            found = pool.map(lambda run_id: self.client.get_metric_history(run_id, metric), run_ids)
            curves = [{point.step: point.value for point in points} for points in found]
        return {run_id: curve for run_id, curve in zip(run_ids, curves, strict=True) if curve}


def stored(run: Run) -> StoredRun:
    """Return a run of MLflow's client as a StoredRun."""
    data = run.data
    return StoredRun(run.info.run_id, run.info.status, data.params, data.metrics, data.tags)
