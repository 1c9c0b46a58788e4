"""Without a lock, exactly one of several processes that start the same run executes it."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from auxgrad.record import claims
from auxgrad.record.stored import StoredRun


@pytest.mark.parametrize("seed", range(40))
def test_exactly_one_keeps_its_run(monkeypatch, seed):
    """Every call to the store takes some time, so that the calls of the threads interleave."""
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.001)
    chance, lock = random.Random(seed), threading.Lock()
    there: dict[str, StoredRun] = {}
    names = [f"{chance.random():.6f}" for _ in range(6)]
    delays = {name: [chance.random() * 0.004 for _ in range(4)] for name in names}

    def ask(name):
        time.sleep(delays[name][0])
        with lock:
            there[name] = StoredRun(name, "RUNNING", {}, {}, {claims.CLAIM: claims.ASKING})
        time.sleep(delays[name][1])

        def rivals():
            with lock:
                found = [run for run in there.values() if run.run_id != name]
            time.sleep(delays[name][2])
            return found

        keeps = claims.may_keep(name, rivals)
        time.sleep(delays[name][3])
        with lock:
            if keeps:
                there[name] = StoredRun(name, "RUNNING", {}, {}, {claims.CLAIM: claims.HELD})
            else:
                del there[name]
        return keeps

    with ThreadPoolExecutor(len(names)) as pool:
        assert sum(pool.map(ask, names)) == 1


def test_a_run_that_is_held_or_was_opened_under_a_lock_is_respected():
    for tags in ({claims.CLAIM: claims.HELD}, {}):
        assert not claims.may_keep("a", lambda tags=tags: [StoredRun("b", "RUNNING", {}, {}, tags)])
    assert claims.may_keep("a", list)
