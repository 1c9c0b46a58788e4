"""Worker processes, each pinned to a slot, that take one run after the other."""

from __future__ import annotations

import contextlib
import gc
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import cloudpickle

from auxgrad.devices import GPU_MEMORY
from auxgrad.outcome import Outcome

# How long a worker may take to end its run cleanly once it is asked to.
GRACE_SECONDS = 30
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Event:
    """Run `job` has started (without an outcome) or ended."""

    job: int
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Slot:
    """A place for a worker: what its environment pins it to."""

    environment: Mapping[str, str]
    description: str


@dataclass(frozen=True)
class Gpu:
    """A GPU as CUDA_VISIBLE_DEVICES names it; memory in MiB, if known."""

    name: str
    memory: int | None


def slots(workers: int | None, jobs_per_gpu: int) -> list[Slot]:
    """The slots of this machine: `jobs_per_gpu` on each GPU, without GPUs one for each core.

    `workers` sets their number, over the GPUs in turns. Workers without GPUs share the cores' threads.
    """
    gpus = visible_gpus()
    count = workers or (len(gpus) * jobs_per_gpu if gpus else cores())
    threads = str(max(1, cores() // count))
    shared = dict.fromkeys(THREADS, threads)
    if not gpus:
        return [Slot(shared, f"CPU, {threads} thread{'s' * (threads != '1')}")] * count
    made = []
    for i in range(count):
        gpu, sharing = gpus[i % len(gpus)], -(-count // len(gpus))
        environment = {**shared, "CUDA_VISIBLE_DEVICES": gpu.name}
        if sharing > 1 and gpu.memory:
            # A tenth is left to the CUDA contexts, which no limit covers.
            environment[GPU_MEMORY] = str(int(gpu.memory * 0.9 / sharing))
        made.append(Slot(environment, f"GPU {gpu.name}"))
    return made


def cores() -> int:
    """Cores that this process may use."""
    if own := os.environ.get("SLURM_CPUS_PER_TASK"):
        return int(own)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[Gpu]:
    """The GPUs that this process may use, found without TensorFlow, which would take hold of them."""
    query = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        listing = ""
    known: dict[str, Gpu] = {}
    for line in listing.splitlines():
        index, uuid, memory = (part.strip() for part in line.split(","))
        known[index] = known[uuid] = Gpu(uuid, int(memory) if memory.isdigit() else None)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return list({gpu.name: gpu for gpu in known.values()}.values())
    names = [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    return [Gpu(name, known[name].memory if name in known else None) for name in names]


def run_all(
    execute: Callable[[int, Any], Outcome],
    jobs: Mapping[int, Any],
    places: Sequence[Slot],
    prepare: Callable[[Any], Any] = lambda job: job,
) -> Generator[Event]:
    """Runs `execute(number, prepare(job))` for each job; yields what happens, as it happens.

    `execute` runs in workers, `prepare` in this process, for the next jobs while the workers are busy.
    A worker that dies costs its job a failed outcome, and is replaced. When the iteration is left early
    (an exception, Ctrl-C, close()) the workers are asked to end their runs cleanly; another Ctrl-C kills
    them at once. Workers also end when this process dies.
    """
    pickled = cloudpickle.dumps(execute)
    waiting = deque(jobs)
    prepared: dict[int, Any] = {}
    workers = [_Worker(slot, pickled) for slot in places[: len(jobs)]]
    try:
        while True:
            for worker in workers:
                if worker.job is None and waiting:
                    if worker.process is None:
                        worker.start()
                    job = waiting.popleft()
                    worker.give(job, prepared.pop(job) if job in prepared else prepare(jobs[job]))
                    yield Event(job)
            busy = [worker for worker in workers if worker.job is not None]
            if not busy:
                return
            for job in itertools.islice(waiting, len(workers)):
                if job not in prepared:
                    prepared[job] = prepare(jobs[job])
            ready = wait([worker.connection for worker in busy])
            for worker in busy:
                if worker.connection in ready:
                    done = worker.job
                    assert done is not None
                    yield Event(done, worker.take())
    finally:
        _end(workers)


class _Worker:
    process: multiprocessing.process.BaseProcess | None = None
    connection: Connection
    job: int | None = None

    def __init__(self, slot: Slot, execute: bytes) -> None:
        self._slot, self._execute = slot, execute

    def start(self) -> None:
        # Not forked: a copy of this process' threads and locks could hang.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, dict(self._slot.environment), self._execute)
        self.process = context.Process(target=_work, args=arguments, daemon=False)
        self.process.start()
        theirs.close()

    def give(self, job: int, prepared: Any) -> None:
        self.job = job
        with contextlib.suppress(OSError):  # It has died while idle: `take` will tell.
            self.connection.send((job, prepared))

    def take(self) -> Outcome:
        """The outcome of the job; if the worker is dead, that."""
        self.job = None
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            assert self.process is not None
            self.process.join()
            status, self.process = self.process.exitcode, None
            self.connection.close()
            return Outcome.crash(f"its worker process died ({_cause(status)})")


def _cause(status: int | None) -> str:
    if status is None or status >= 0:
        return f"exit status {status}"
    hint = ", perhaps out of memory" if status == -signal.SIGKILL else ""
    return f"{signal.Signals(-status).name}{hint}"


def _end(workers: Iterable[_Worker]) -> None:
    alive = [worker.process for worker in workers if worker.process is not None]
    busy = sum(worker.job is not None for worker in workers)
    if busy:
        print(f"stopping  {busy} running; once more stops at once", flush=True)
    try:
        for worker in workers:
            if worker.process is not None:
                if worker.job is None:
                    worker.connection.close()  # It ends by itself.
                else:
                    worker.process.terminate()
        for process in alive:
            process.join(GRACE_SECONDS)
    finally:
        for process in alive:
            if process.is_alive():
                process.kill()
                process.join()


def _work(connection: Connection, environment: Mapping[str, str], pickled: bytes) -> None:
    """The worker's side: jobs in, outcomes out."""
    os.environ.update(environment)
    # Ctrl-C reaches every process of the terminal; this one waits for its parent's word.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=_follow_parent, daemon=True).start()
    execute = cloudpickle.loads(pickled)
    frozen = False
    while True:
        try:
            job, prepared = connection.recv()
        except (EOFError, OSError):
            return
        outcome = execute(job, prepared)
        sys.stdout.flush()
        # What a run leaves in reference cycles is a network and its data. What stays for good, the
        # modules above all, is set aside, or looking through it would take longer than all else.
        gc.collect()
        if not frozen:
            gc.freeze()
            frozen = True
        try:
            connection.send(outcome)
        except OSError:
            return


def leave(number: int, frame: Any) -> None:
    """A signal handler: ends the process in order, once, however often it is asked to."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
