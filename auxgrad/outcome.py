"""What became of one run of a sweep, in a form that passes through pipes and files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hydra.core.utils import JobReturn, JobStatus

from auxgrad.errors import AlreadyFinished, ConfigError, DataError, RunsElsewhere

Kind = Literal["finished", "already", "elsewhere", "failed"]
RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Outcome:
    """`kind` is finished, already (before, by someone else), elsewhere (being run) or failed.

    A failed run is worth another try (`retry`) unless its config or its data are wrong.
    """

    kind: Kind
    folder: str = ""
    error: str = ""
    retry: bool = False
    run_id: str = ""
    value: float | None = None
    test_loss: float | None = None
    seconds: float | None = None

    @staticmethod
    def crash(error: str) -> Outcome:
        """Of a run whose process died."""
        return Outcome("failed", error=error, retry=True)

    @staticmethod
    def of(job: JobReturn) -> Outcome:
        """Of a job that Hydra has run."""
        folder = str(job.hydra_cfg.hydra.runtime.output_dir) if job.hydra_cfg else ""
        # Not return_value: of a failed job that raises, and prints.
        error = job._return_value
        if job.status is JobStatus.COMPLETED:
            result = json.loads(Path(folder, RESULT_FILE).read_text())
            return Outcome(
                "finished",
                folder,
                run_id=result["run_id"],
                value=float(error),
                test_loss=result["test_loss"],
                seconds=result["seconds"],
            )
        if isinstance(error, AlreadyFinished):
            return Outcome("already", folder, run_id=error.run_id)
        if isinstance(error, RunsElsewhere):
            return Outcome("elsewhere", folder, str(error))
        return Outcome.failure(error, folder)

    @staticmethod
    def failure(error: BaseException, folder: str = "") -> Outcome:
        """Of a run that ended in an exception."""
        name = "" if isinstance(error, ConfigError | DataError) else f"{type(error).__name__}: "
        text = " ".join(f"{name}{error}".split())
        return Outcome("failed", folder, text, retry=not isinstance(error, ConfigError | DataError))

    def job_return(self, overrides: list[str]) -> JobReturn:
        """In Hydra's form, for sweepers of others."""
        done = JobReturn(overrides=overrides, working_dir=self.folder)
        if self.kind == "finished":
            done.return_value, done.status = self.value, JobStatus.COMPLETED
        else:
            done.return_value, done.status = RuntimeError(self.error or self.kind), JobStatus.FAILED
        return done

    def to_dict(self) -> dict[str, object]:
        """What `Outcome(**...)` takes."""
        return asdict(self)
