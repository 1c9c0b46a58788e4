"""What became of a run, in a form that passes through pipes and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from auxgrad.errors import ConfigError, DataError, RunsElsewhere, without_passwords


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        run_id: the run in the tracking store.
        test_loss, best_val_loss: mean losses over the examples, at the best epoch.
        best_epoch: the epoch with the lowest validation loss, counted from 1.
        epochs, steps: how far training went.
        seconds: the time of training, with validation and compilation.
        examples_per_second: training examples in that time.
        folder: where its output is; empty if it was finished before.
        was_finished: whether another process had finished the run before.
        diverged: the first step with a loss that is NaN or infinite, counted from 1; None without any.
        test_metrics, best_val_metrics: the metrics of the problem on the test set, and on the validation
            set at the best epoch.
    """

    run_id: str
    test_loss: float
    best_val_loss: float
    best_epoch: int
    epochs: int
    steps: int
    seconds: float
    examples_per_second: float
    folder: str = ""
    was_finished: bool = False
    diverged: int | None = None
    test_metrics: Mapping[str, float] = field(default_factory=dict)
    best_val_metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """What is recorded once, at the end of the run."""
        return {
            **{name: getattr(self, name) for name in METRICS},
            **{TEST + name: value for name, value in self.test_metrics.items()},
            **{BEST_VAL + name: value for name, value in self.best_val_metrics.items()},
        }

    @staticmethod
    def from_metrics(run_id: str, metrics: Mapping[str, float]) -> Result:
        """Return the result of a run that was finished before, from its metrics in the store."""
        whole = {name: int(metrics[name]) for name in ("best_epoch", "epochs", "steps")}
        values: dict[str, Any] = {**{name: metrics[name] for name in METRICS}, **whole}
        further = {name: value for name, value in metrics.items() if name not in METRICS}
        tested, best = (_of_prefix(start, further) for start in (TEST, BEST_VAL))
        return Result(run_id, **values, was_finished=True, test_metrics=tested, best_val_metrics=best)


def _of_prefix(start: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix(start): value for name, value in metrics.items() if name.startswith(start)}


TEST, BEST_VAL = "test_", "best_val_"
METRICS = (
    "test_loss",
    "best_val_loss",
    "best_epoch",
    "epochs",
    "steps",
    "seconds",
    "examples_per_second",
)


@dataclass(frozen=True)
class Failure:
    """A run that did not finish.

    Attributes:
        error: why, in one line.
        folder: where its output is.
        retry: whether another attempt may succeed: not if its config or its data is wrong.
        is_elsewhere: whether another process is at work on the run.
        was_interrupted: whether its process was asked to end, as by SLURM's preemption or time limit.
    """

    error: str
    folder: str = ""
    retry: bool = True
    is_elsewhere: bool = False
    was_interrupted: bool = False

    @property
    def is_failed_attempt(self) -> bool:
        """Whether it is an attempt that went wrong."""
        return not (self.is_elsewhere or self.was_interrupted)

    @staticmethod
    def of(error: BaseException, folder: str = "") -> Failure:
        """Return the failure of a run that ended in an exception."""
        if isinstance(error, RunsElsewhere):
            return Failure(str(error), folder, is_elsewhere=True)
        is_hopeless = isinstance(error, ConfigError | DataError)
        name = "" if is_hopeless else f"{type(error).__name__}: "
        line = without_passwords(" ".join(f"{name}{error}".split()))
        return Failure(line, folder, retry=not is_hopeless)


Outcome = Result | Failure


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as JSON takes it."""
    return {"kind": type(outcome).__name__, **asdict(outcome)}


def from_dict(fields: Mapping[str, Any]) -> Outcome:
    """Return the outcome that `to_dict` wrote."""
    kinds = {"Result": Result, "Failure": Failure}
    rest = {name: value for name, value in fields.items() if name != "kind"}
    outcome: Outcome = kinds[fields["kind"]](**rest)
    return outcome
