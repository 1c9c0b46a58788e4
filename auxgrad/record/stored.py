"""A run that was read from the store, and the names of its tags."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from auxgrad.config.identity import Identity
from auxgrad.errors import TrackingError

# The tags of every run.
IDENTITY = "auxgrad.identity"  # The identity as JSON.
# The properties `key` and `setting_key` of the identity.
RUN_KEY, SETTING_KEY = "run_key", "setting_key"
# A tag of finished runs: JSON such as {"loss": {"label": "nats"}, "accuracy": {"maximize": true}}.
METRICS = "auxgrad.metrics"


@dataclass(frozen=True)
class StoredRun:
    """A run in the store.

    Attributes:
        run_id: the id of the run in MLflow.
        status: RUNNING, FINISHED, FAILED or KILLED.
        params: the parameters.
        metrics: the last value of each metric.
        tags: the tags.
    """

    run_id: str
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @cached_property
    def identity(self) -> Identity | None:
        """What determines the result; None for runs of auxgrad 0.1.0 and for derived runs.

        Raises:
            TrackingError: the tag was changed by hand, or written by a later version of auxgrad.
        """
        text = self.tags.get(IDENTITY)
        if text is None:
            return None
        try:
            return Identity.from_json(text)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise TrackingError(f"run {self.run_id}: tag {IDENTITY} cannot be read ({reason})") from None

    def maximize(self, metric: str) -> bool | None:
        """Return whether higher values of a metric are better; None if the run does not record it.

        Args:
            metric: such as accuracy.
        """
        value = self._about(metric).get("maximize")
        return value if isinstance(value, bool) else None

    @property
    def loss_label(self) -> str:
        """The name of the loss and its unit; empty if the run does not record them."""
        return str(self._about("loss").get("label", ""))

    def _about(self, metric: str) -> dict[str, Any]:
        """Return what the run records about a metric; empty if the tag is truncated or malformed."""
        with contextlib.suppress(ValueError):
            about = json.loads(self.tags.get(METRICS, "{}"))
            if isinstance(about, dict) and isinstance(found := about.get(metric), dict):
                return found
        return {}

    @property
    def process_name(self) -> str:
        """The process of the run, for the user."""
        return f"process {self.tags.get('worker.pid')} on {self.tags.get('worker.host')}"

    @property
    def is_outdated(self) -> bool:
        """Whether auxgrad 0.1.0, which stored no identity, made the run."""
        return RUN_KEY in self.tags and IDENTITY not in self.tags
