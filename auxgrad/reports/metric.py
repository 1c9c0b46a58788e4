"""The metric of a report: its names, its labels, and whether a higher value is better."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from auxgrad.errors import ReportError, suggestion

TEST = "test_"


@dataclass(frozen=True)
class Metric:
    """A metric of the test set.

    Attributes:
        name: The name under which each run records it once, such as test_accuracy.
        maximize: Whether a higher value is better.
        loss_label: The name of the loss and its unit, for axis labels; empty if not known.
    """

    name: str = "test_loss"
    maximize: bool = False
    loss_label: str = ""

    @staticmethod
    def of(name: str, recorded: Collection[bool], asked: bool | None) -> Metric:
        """Return the metric, with the direction that the runs recorded or that the user gave.

        Args:
            name: The name of the metric.
            recorded: The distinct values that runs recorded for `maximize`.
            asked: The value of `maximize` that the user gave; None if the user gave none.

        Raises:
            ReportError: The direction is not known, or two sources contradict each other.
        """
        known = {False} if name == LOSS.name else set(recorded)
        if len(known) > 1:
            raise ReportError(
                f"--metric={name}: some runs recorded that higher is better, others that lower is; "
                "report on them separately"
            )
        if asked is None and not known:
            raise ReportError(
                f"--metric={name}: the runs did not record whether higher is better; "
                "add --maximize or --minimize"
            )
        if asked is not None and known and asked not in known:
            flag, better = ("maximize", "lower") if asked else ("minimize", "higher")
            raise ReportError(f"--{flag}: the runs recorded that a {better} {name} is better")
        return Metric(name, known.pop() if asked is None else asked)

    @property
    def is_loss(self) -> bool:
        """Whether the metric is the test loss."""
        return self.name == LOSS.name

    @property
    def short_name(self) -> str:
        """The name without the prefix test_, such as accuracy."""
        return self.name.removeprefix(TEST)

    @property
    def validation(self) -> str:
        """The name of the metric on the validation set at the best epoch."""
        return f"best_val_{self.short_name}"

    @property
    def curve(self) -> str:
        """The name of the metric on the validation set after each epoch."""
        return f"val_{self.short_name}"

    @property
    def title(self) -> str:
        """The name for a text, such as test accuracy."""
        return f"test {self.short_name}"

    @property
    def heading(self) -> str:
        """The name for the beginning of a sentence, such as Test accuracy."""
        return f"Test {self.short_name}"

    @property
    def best(self) -> str:
        """The word for the best value: highest or lowest."""
        return "highest" if self.maximize else "lowest"

    @property
    def axis(self) -> str:
        """The label of an axis of the metric."""
        return f"{self.title} ({self.loss_label})" if self.is_loss and self.loss_label else self.title

    @property
    def loss_axis(self) -> str:
        """The label of an axis of training and validation losses, with the unit of the loss.

        >>> Metric(loss_label="cross-entropy, nats").loss_axis
        'loss (nats)'
        """
        unit = self.loss_label.rpartition(", ")[2]
        return f"loss ({unit})" if unit else "loss"

    def cost(self, value: float) -> float:
        """Return a number that is lower for a better value, and infinity for NaN."""
        if math.isnan(value):
            return math.inf
        return -value if self.maximize else value


LOSS = Metric()


def full_name(name: str) -> str:
    """Return the name of a metric of the test set, which the user may give without test_.

    >>> full_name("accuracy"), full_name("test_accuracy")
    ('test_accuracy', 'test_accuracy')

    Args:
        name: The name as the user gave it.
    """
    return name if name.startswith(TEST) else f"{TEST}{name}"


def check_name(name: str, recorded: Collection[str]) -> None:
    """Check that a metric of the test set is recorded.

    Args:
        name: The name of the metric.
        recorded: The names of all metrics in the store.

    Raises:
        ReportError: The metric is not recorded.
    """
    there = sorted(each for each in recorded if each.startswith(TEST))
    if there and name not in there:
        near = suggestion(name.removeprefix(TEST), [each.removeprefix(TEST) for each in there])
        listed = ", ".join(there)
        raise ReportError(f"--metric={name}: no run has it; the store has: {listed}{near}")
