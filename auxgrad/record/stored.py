"""A run as the store has it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from auxgrad.config.identity import Identity
from auxgrad.errors import TrackingError

# Tags of every run.
IDENTITY = "auxgrad.identity"  # The identity as JSON.
RUN_KEY, SETTING_KEY = "run_key", "setting_key"  # Its `key` and `setting_key`.
# Of finished runs, JSON such as {"loss": {"label": "nats"}, "accuracy": {"maximize": true}}.
METRICS = "auxgrad.metrics"


@dataclass(frozen=True)
class StoredRun:
    """A run in the store; of each metric the last value."""

    run_id: str
    status: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @cached_property
    def identity(self) -> Identity | None:
        """What determined the result; None for runs of auxgrad 0.1.0 and for derived ones.

        Raises TrackingError if the tag was changed by hand or by a later version of auxgrad.
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
        """Return whether of this metric higher is better; None if the run does not say."""
        value = self._about(metric).get("maximize")
        return value if isinstance(value, bool) else None

    @property
    def loss_label(self) -> str:
        """What the loss is, and its unit; empty if the run does not say."""
        return str(self._about("loss").get("label", ""))

    def _about(self, metric: str) -> dict[str, Any]:
        """What the run says of a metric: nothing, if the tag was cut off or changed by hand."""
        with contextlib.suppress(ValueError):
            about = json.loads(self.tags.get(METRICS, "{}"))
            if isinstance(about, dict) and isinstance(found := about.get(metric), dict):
                return found
        return {}

    @property
    def where(self) -> str:
        """The process that the run belongs to, for a person."""
        return f"process {self.tags.get('worker.pid')} on {self.tags.get('worker.host')}"

    @property
    def is_outdated(self) -> bool:
        """Whether auxgrad 0.1.0 made the run: it stored no identity."""
        return RUN_KEY in self.tags and IDENTITY not in self.tags
