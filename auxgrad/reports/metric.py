"""The metric that a report is about: its names, its words, and whether higher is better."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from auxgrad.errors import ReportError

TEST = "test_"


@dataclass(frozen=True)
class Metric:
    """A metric of the test set.

    Attributes:
        name: as every run records it once, such as test_accuracy.
        maximize: whether higher is better.
        loss_label: what the loss is, and its unit, for axis labels; empty if it is not known.
    """

    name: str = "test_loss"
    maximize: bool = False
    loss_label: str = ""

    @staticmethod
    def of(name: str, recorded: Collection[bool], asked: bool | None) -> Metric:
        """Return the metric, with the direction that the runs have on record or that a user asks for.

        Args:
            name: of the metric.
            recorded: whether higher is better, as runs say that say so.
            asked: likewise, as the user says, None if not at all.

        Raises:
            ReportError: neither says so, or one contradicts the other.
        """
        known = {False} if name == LOSS.name else set(recorded)
        if len(known) > 1:
            raise ReportError(
                f"--metric={name}: some runs say that higher is better, others that lower is; "
                "report on them apart"
            )
        if asked is None and not known:
            raise ReportError(
                f"--metric={name}: the runs do not say whether higher is better; "
                "add --maximize or --minimize"
            )
        if asked is not None and known and asked not in known:
            flag, better = ("maximize", "lower") if asked else ("minimize", "higher")
            raise ReportError(f"--{flag}: of {name} {better} is better, by what the runs recorded")
        return Metric(name, known.pop() if asked is None else asked)

    @property
    def is_loss(self) -> bool:
        """Whether it is the test loss."""
        return self.name == LOSS.name

    @property
    def short_name(self) -> str:
        """The name without its beginning, such as accuracy."""
        return self.name.removeprefix(TEST)

    @property
    def validation(self) -> str:
        """The metric of the validation set, at the best epoch."""
        return f"best_val_{self.short_name}"

    @property
    def curve(self) -> str:
        """The metric of the validation set, after every epoch."""
        return f"val_{self.short_name}"

    @property
    def title(self) -> str:
        """The name in words, such as test accuracy."""
        return f"test {self.short_name}"

    @property
    def heading(self) -> str:
        """The name at the beginning of a sentence."""
        return f"Test {self.short_name}"

    @property
    def best(self) -> str:
        """What the best value is called."""
        return "highest" if self.maximize else "lowest"

    @property
    def axis(self) -> str:
        """The label of an axis."""
        return f"{self.title} ({self.loss_label})" if self.is_loss and self.loss_label else self.title

    @property
    def loss_axis(self) -> str:
        """The label of an axis of training and validation losses: of the label its last part, the unit.

        >>> Metric(loss_label="cross-entropy, nats").loss_axis
        'loss (nats)'
        """
        unit = self.loss_label.rpartition(", ")[2]
        return f"loss ({unit})" if unit else "loss"

    def cost(self, value: float) -> float:
        """Return a number that is lower for a better value, infinity for NaN."""
        if math.isnan(value):
            return math.inf
        return -value if self.maximize else value


LOSS = Metric()


def check_name(name: str, recorded: Collection[str]) -> None:
    """Raise ReportError for what is no metric of the test set, or is not among those that are recorded.

    Args:
        name: of the metric.
        recorded: all names of metrics in the store; empty if there is no store.
    """
    there = sorted(each for each in recorded if each.startswith(TEST))
    listed = f"; in the store are: {', '.join(there)}" if there else ""
    if not name.startswith(TEST):
        raise ReportError(f"--metric={name}: must begin with {TEST}{listed}")
    if there and name not in there:
        raise ReportError(f"--metric={name}: no run has it{listed}")
