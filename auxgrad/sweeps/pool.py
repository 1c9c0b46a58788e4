"""A pool of worker processes, each pinned to a slot, that execute one job after another."""

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
from auxgrad.sweeps.slots import GPUS, Slot, slots
from auxgrad.sweeps.worker import Job, Worker
from auxgrad.training import devices

# The time that a worker has to end its run cleanly after it is asked to terminate.
GRACE_SECONDS = 30
CHECK_SECONDS = 1.0


class LocalExecutor(Executor):
    """Executes jobs in worker processes on this machine, one for each slot.

    Args:
        workers: The number of workers; None for `jobs_per_gpu` on each GPU, or without GPUs one for
            each core.
        jobs_per_gpu: The number of workers on each GPU if `workers` is None.
    """

    def __init__(self, workers: int | None, jobs_per_gpu: int) -> None:
        self._slots = slots(workers, jobs_per_gpu)

    def describe(self) -> str:
        """Return the number of workers and what each of them uses."""
        kinds = list(dict.fromkeys(slot.description for slot in self._slots))
        count = len(self._slots)
        return f"{count} worker{'s' * (count > 1)} on this machine ({', '.join(kinds)} each)"

    @property
    def spans_machines(self) -> bool:
        """False: all workers are on this machine."""
        return False

    @property
    def device(self) -> str | None:
        """The CPU, or None if the workers have GPUs."""
        return None if any(GPUS in slot.environment for slot in self._slots) else devices.cpu()

    def events(self, jobs: Mapping[int, Job]) -> Generator[Event]:
        """Execute the jobs in worker processes and yield their events."""
        return run_all(jobs, self._slots)


def run_all(
    jobs: Mapping[int, Any],
    places: Sequence[Slot],
    make_worker: Callable[[], Worker] = Worker,
    before_stopping: Callable[[], None] = lambda: None,
) -> Generator[Event]:
    """Execute all jobs in worker processes and yield an event when a job starts or ends.

    Each process makes one worker and calls it with one job after another. If a process dies, its
    job fails and the process is replaced. If the generator is left early (by an exception, Ctrl-C
    or `close()`), the processes are asked to end their runs cleanly; another Ctrl-C kills them at
    once. The processes also end when this process dies.

    Args:
        jobs: The jobs by number.
        places: The slots; at most one process is started for each.
        make_worker: A function that makes the worker of a process. It must be picklable.
        before_stopping: A function that is called before the processes are asked to end early.
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
    """A worker process, started with its first job and again after it has ended."""

    process: multiprocessing.process.BaseProcess | None = None
    connection: Connection
    job: int | None = None

    def __init__(self, slot: Slot, make_worker: Callable[[], Worker]) -> None:
        self._slot, self._make_worker = slot, make_worker

    def _start(self) -> None:
        # Spawned, not forked: a copy of the threads and locks of this process could hang.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, dict(self._slot.environment), self._make_worker)
        self.process = context.Process(target=_work, args=arguments, daemon=False)
        # Ctrl-C reaches every process of the terminal, but a worker must leave it to its parent
        # from the start. The resource tracker is started first, because starting it would unblock
        # the signal.
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
        with contextlib.suppress(OSError):  # The process died while idle; `receive` reports it.
            self.connection.send(job)

    def receive(self) -> Outcome:
        """Return the outcome of the job, or a failure if the process is dead."""
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
        print(f"stopping  {busy} running; press Ctrl-C again to stop at once", flush=True)
    try:
        for each in processes:
            if each.process is not None:
                if each.job is None:
                    each.connection.close()  # The process then ends by itself.
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
    """Execute jobs from the connection, and send their outcomes; the target of a worker process."""
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
            gc.freeze()  # Keeps the garbage collector from searching all objects at exit.
            return
        worker.collect_garbage()  # While the parent handles the outcome.


def _terminate_with_parent() -> None:
    """Wait until the parent process ends, then terminate this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
