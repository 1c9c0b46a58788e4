"""The outcome of a run: a result or a failure, which can be sent through pipes and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from auxgrad.errors import ConfigError, DataError, RunsElsewhere, without_passwords


@dataclass(frozen=True)
class Result:
    """The result of a finished run.

    Attributes:
        run_id: The id of the run in the tracking store.
        test_loss: The mean loss over the test examples, with the weights of the best epoch.
        best_val_loss: The mean loss over the validation examples at the best epoch.
        best_epoch: The epoch with the lowest validation loss, counted from 1.
        epochs: The number of epochs that were trained.
        steps: The number of optimisation steps that were made.
        seconds: The wall-clock time of Keras' `fit`, in seconds. It includes compilation,
            validation, tracking and checkpoints, but neither loading the data nor the test. If the
            run was resumed, it adds up the time until the checkpoint and the time since.
        examples_per_second: The number of training examples processed per second of `seconds`.
        folder: The output folder; empty if the run was already finished.
        was_finished: Whether the run was already finished, so that nothing was trained.
        diverged: The first step with a loss that is NaN or infinite, counted from 1, or the last
            step of the first epoch after which a weight is; None if all were finite.
        test_metrics: The metrics of the problem on the test set.
        best_val_metrics: The metrics of the problem on the validation set, at the best epoch.
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
        """The metrics that are recorded once, at the end of the run."""
        return {
            **{name: getattr(self, name) for name in METRICS},
            **{TEST + name: value for name, value in self.test_metrics.items()},
            **{BEST_VAL + name: value for name, value in self.best_val_metrics.items()},
        }

    @staticmethod
    def from_metrics(run_id: str, metrics: Mapping[str, float]) -> Result:
        """Return the result of a run that is already finished, from its metrics in the store."""
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
    """The reason why a run did not finish.

    Attributes:
        error: The error message, in one line.
        folder: The output folder.
        retry: Whether another attempt may succeed. It cannot if the config or the data is wrong.
        is_elsewhere: Whether another process is training the run.
        was_interrupted: Whether the process was asked to end, for example because SLURM preempted
            it or its time limit was reached.
    """

    error: str
    folder: str = ""
    retry: bool = True
    is_elsewhere: bool = False
    was_interrupted: bool = False

    @property
    def is_failed_attempt(self) -> bool:
        """Whether an attempt was made and went wrong."""
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
    """Return the outcome as a dictionary that can be written as JSON."""
    return {"kind": type(outcome).__name__, **asdict(outcome)}


def from_dict(fields: Mapping[str, Any]) -> Outcome:
    """Return the outcome from a dictionary that `to_dict` made."""
    kinds = {"Result": Result, "Failure": Failure}
    rest = {name: value for name, value in fields.items() if name != "kind"}
    outcome: Outcome = kinds[fields["kind"]](**rest)
    return outcome
