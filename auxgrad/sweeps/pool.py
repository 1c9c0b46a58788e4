"""Worker processes, each pinned to a slot, that take one job after another."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from auxgrad.execution.result import Failure, Outcome
from auxgrad.process import interruption
from auxgrad.sweeps.executor import Event, Executor
from auxgrad.sweeps.slots import Slot, slots
from auxgrad.sweeps.worker import Job, Worker

# How long a worker may take to end its run cleanly once it is asked to.
GRACE_SECONDS = 30
CHECK_SECONDS = 1.0


class LocalExecutor(Executor):
    """Executes jobs in worker processes on this machine, one for each slot."""

    def __init__(self, workers: int | None, jobs_per_gpu: int) -> None:
        self._slots = slots(workers, jobs_per_gpu)

    def describe(self) -> str:
        kinds = list(dict.fromkeys(slot.description for slot in self._slots))
        count = len(self._slots)
        return f"{count} worker{'s' * (count > 1)} on this machine ({', '.join(kinds)} each)"

    @property
    def spans_machines(self) -> bool:
        return False

    def events(self, jobs: Mapping[int, Job]) -> Generator[Event]:
        return run_all(jobs, self._slots)


def run_all(
    jobs: Mapping[int, Any],
    places: Sequence[Slot],
    make_worker: Callable[[], Worker] = Worker,
    before_stopping: Callable[[], None] = lambda: None,
) -> Generator[Event]:
    """Execute all jobs in worker processes and yield what happens, as it happens.

    Each process makes a worker, once, and calls it with one job after another. A process that dies costs
    its job a failure, and is replaced. When the iteration is left early (an exception, Ctrl-C, close())
    `before_stopping` is called and the processes are asked to end their runs cleanly; another Ctrl-C
    kills them at once. They also end when this process dies.
    """
    waiting = deque(jobs)
    processes = [_Process(slot, make_worker) for slot in places[: len(jobs)]]
    try:
        while True:
            for process in processes:
                if process.job is None and waiting:
                    number = waiting.popleft()
                    process.send(number, jobs[number])
                    yield Event(number)
            busy = [process for process in processes if process.job is not None]
            if not busy:
                return
            ready = wait([process.connection for process in busy], CHECK_SECONDS)
            interruption.check()
            for process in busy:
                if process.connection in ready:
                    done = process.job
                    assert done is not None
                    yield Event(done, process.receive())
    except BaseException:
        before_stopping()
        raise
    finally:
        _end(processes)


class _Process:
    process: multiprocessing.process.BaseProcess | None = None
    connection: Connection
    job: int | None = None

    def __init__(self, slot: Slot, make_worker: Callable[[], Worker]) -> None:
        self._slot, self._make_worker = slot, make_worker

    def _start(self) -> None:
        # Not forked: a copy of this process' threads and locks could hang.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, dict(self._slot.environment), self._make_worker)
        self.process = context.Process(target=_work, args=arguments, daemon=False)
        # Ctrl-C reaches every process of the terminal; a worker waits for its parent's word, from its
        # first moment on. The tracker of resources would unblock signals when it is started.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()

    def send(self, number: int, job: Any) -> None:
        if self.process is None:
            self._start()
        self.job = number
        with contextlib.suppress(OSError):  # It has died while idle: `take` will tell.
            self.connection.send(job)

    def receive(self) -> Outcome:
        """Return the outcome of the job; if the process is dead, that."""
        self.job = None
        try:
            outcome, is_last = self.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            return Failure(f"its worker process died ({_cause(self._join())})")
        if is_last:
            self._join()
        return outcome

    def _join(self) -> int | None:
        assert self.process is not None
        self.connection.close()
        self.process.join(GRACE_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        status, self.process = self.process.exitcode, None
        return status


def _cause(status: int | None) -> str:
    if status is None or status >= 0:
        return f"exit status {status}"
    hint = ", perhaps out of memory" if status == -signal.SIGKILL else ""
    return f"{signal.Signals(-status).name}{hint}"


def _end(processes: Iterable[_Process]) -> None:
    alive = [each.process for each in processes if each.process is not None]
    busy = sum(each.job is not None for each in processes)
    if busy:
        print(f"stopping  {busy} running; once more stops at once", flush=True)
    try:
        for each in processes:
            if each.process is not None:
                if each.job is None:
                    each.connection.close()  # It ends by itself.
                else:
                    each.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for process in alive:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in alive:
            if process.is_alive():
                process.kill()
                process.join()


def _work(
    connection: Connection, environment: Mapping[str, str], make_worker: Callable[[], Worker]
) -> None:
    """The worker's side: jobs in, outcomes out."""
    os.environ.update(environment)
    interruption.install(interrupts=False)
    threading.Thread(target=_terminate_with_parent, daemon=True).start()
    worker = make_worker()
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        outcome = worker(job)
        sys.stdout.flush()
        is_last = worker.needs_replacement()
        try:
            connection.send((outcome, is_last))
        except OSError:
            return
        if is_last:
            gc.freeze()  # Or the end of the process would look through all that is alive.
            return
        worker.collect_garbage()  # While the parent takes note.


def _terminate_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
