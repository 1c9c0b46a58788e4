"""Ensure that one process executes a run, although several may start it at the same moment.

Processes that share an SQLite file hold a lock while they read the store and open a run. A server, or
another database, has no such lock. There, each process opens its run with the claim ASKING, reads which
other runs of the same identity exist, and then either keeps its run (HELD) or withdraws it.

At most one process keeps its run. Proof: suppose that two keep theirs, A with the smaller and B with the
larger run id. B has not seen A, because it would have withdrawn. So A was opened after B had read the
store. But then A has seen B, and has waited until B withdrew or has withdrawn itself: a contradiction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from auxgrad.errors import AuxgradError, RunsElsewhere
from auxgrad.record.stored import StoredRun

CLAIM = "auxgrad.claim"  # The tag of a run that may have rivals: other runs of the same identity.
ASKING, HELD = "asking", "held"
POLL_SECONDS = 0.5


class AlreadyFinished(AuxgradError):
    """The run is already finished in the store.

    Attributes:
        run: the finished run.
    """

    def __init__(self, run: StoredRun) -> None:
        super().__init__(run)
        self.run = run

    def __str__(self) -> str:
        return f"finished already: run {self.run.run_id}"


def refuse_second(runs: Iterable[StoredRun]) -> None:
    """Refuse to start a run of which another one exists.

    Args:
        runs: the runs of the same identity, after those of dead processes were marked.

    Raises:
        AlreadyFinished: one of the runs is finished.
        RunsElsewhere: another process executes one of the runs.
    """
    for run in runs:
        if run.status == "FINISHED":
            raise AlreadyFinished(run)
        if run.status == "RUNNING":
            raise RunsElsewhere(f"is running elsewhere, in {run.process_name}")


def ask(own: str, existing: Callable[[], Iterable[StoredRun]], once: bool) -> bool:
    """Return whether the process that has opened a run as ASKING may set it to HELD.

    Args:
        own: the id of the run.
        existing: a function that returns the runs of the identity, after those of dead processes were
            marked.
        once: whether to refuse a second run of the identity.

    Raises:
        AlreadyFinished, RunsElsewhere: with `once`, another run is finished, or a rival holds its run.
    """
    seen: list[StoredRun] = []

    def rivals() -> list[StoredRun]:
        seen[:] = [run for run in existing() if run.run_id != own]
        return [run for run in seen if run.status == "RUNNING"]

    keeps = may_keep(own, rivals)
    if once:
        refuse_second(seen)
        if not keeps:
            raise RunsElsewhere("is being started elsewhere")
    return keeps


def may_keep(own: str, rivals: Callable[[], Iterable[StoredRun]]) -> bool:
    """Return whether the process that has opened a run as ASKING may set it to HELD.

    The function waits while a rival with a larger run id is ASKING, until that rival has withdrawn or
    holds its run.

    Args:
        own: the id of the run.
        rivals: a function that returns the other runs of the identity whose processes are alive.
    """
    while True:
        others = list(rivals())
        asking = [run.run_id for run in others if run.tags.get(CLAIM) == ASKING]
        if len(asking) < len(others) or any(run_id < own for run_id in asking):
            return False
        if not asking:
            return True
        time.sleep(POLL_SECONDS)
