"""One run for each identity, though many processes ask at the same moment.

Where processes share an SQLite file, its lock stands between a look into the store and a new run. A
server, or another database, has no such lock. There every process opens its run as ASKING, looks who
else is there, and then either keeps it (HELD) or withdraws it. At most one keeps it: of two that keep it
the later one by run id has not seen the earlier one, so the earlier one was opened after the later one
had looked; but then it has seen the later one, and has waited until that one withdrew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from auxgrad.record.stored import StoredRun

CLAIM = "auxgrad.claim"  # The tag of a run that may have rivals.
ASKING, HELD = "asking", "held"
POLL_SECONDS = 0.5


def may_keep(own: str, rivals: Callable[[], Iterable[StoredRun]]) -> bool:
    """Return whether the process that has opened a run as ASKING may set it to HELD.

    Waits while a later rival is ASKING: it withdraws, or holds its run already.

    Args:
        own: id of the run.
        rivals: returns the other runs of its identity whose processes are alive.
    """
    while True:
        others = list(rivals())
        asking = [run.run_id for run in others if run.tags.get(CLAIM) == ASKING]
        if len(asking) < len(others) or any(run_id < own for run_id in asking):
            return False
        if not asking:
            return True
        time.sleep(POLL_SECONDS)
