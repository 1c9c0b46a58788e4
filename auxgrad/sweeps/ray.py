"""Execute jobs in the actors of a Ray cluster, each of which executes one job after another."""

from __future__ import annotations

import contextlib
import os
import platform
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from typing import Any

from auxgrad.config.addresses import TRACKING_URI
from auxgrad.errors import AuxgradError
from auxgrad.execution.result import Failure, Outcome
from auxgrad.process import interruption
from auxgrad.sweeps.executor import Event, Executor
from auxgrad.sweeps.worker import Job, Worker

CHECK_SECONDS = 1.0


class _Actor(Worker):
    """A worker that uses the tracking store of the sweep instead of the one of its environment.

    The address is not passed in Ray's runtime_env, because Ray logs it and it may hold a password.
    """

    def __init__(self, address: str | None) -> None:
        super().__init__()
        if address:
            os.environ[TRACKING_URI] = address
        else:
            os.environ.pop(TRACKING_URI, None)


class RayExecutor(Executor):
    """Executes jobs in Ray actors, as many as the cluster has resources for.

    Args:
        init: The arguments of `ray.init`.
        remote: The resources that each actor needs, as arguments of `ray.remote`, such as num_cpus
            and num_gpus.
    """

    def __init__(self, init: Mapping[str, Any], remote: Mapping[str, Any]) -> None:
        self._init, self._remote = dict(init), dict(remote)

    def describe(self) -> str:
        """Return the address of the cluster and the resources of each actor."""
        needs = ", ".join(f"{name}={value}" for name, value in self._remote.items())
        return f"Ray at {self._init.get('address')} ({needs} each)"

    @property
    def spans_machines(self) -> bool:
        """Whether the cluster has nodes other than this machine.

        Raises:
            AuxgradError: Ray does not start.
        """
        if self._init.get("address") == "local":
            return False
        import ray

        with self._cluster():
            nodes = [node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]]
        return bool(set(nodes) - {platform.node()})

    def events(self, jobs: Mapping[int, Job]) -> Generator[Event]:
        """Execute the jobs and yield their events; if closed early, end the actors and their runs.

        Args:
            jobs: The jobs by number.

        Raises:
            AuxgradError: Ray does not start, or the cluster lacks the resources for a single actor.
        """
        with self._cluster():
            yield from self._follow(jobs)

    @contextlib.contextmanager
    def _cluster(self) -> Iterator[None]:
        import ray

        try:
            ray.init(**self._init)
        except Exception as error:  # Ray raises exceptions of many types.
            reason = " ".join(str(error).split())[:300]
            raise AuxgradError(f"hydra/launcher=ray: Ray does not start ({reason})") from None
        try:
            yield
        finally:
            ray.shutdown()

    def _follow(self, jobs: Mapping[int, Job]) -> Generator[Event]:
        import ray

        actor = ray.remote(**self._remote)(_Actor)
        address = os.environ.get(TRACKING_URI)
        waiting = deque(jobs)
        idle = [actor.remote(address) for _ in range(min(len(jobs), self._capacity()))]
        running: dict[Any, tuple[int, Any]] = {}
        while waiting or running:
            while waiting and idle:
                number, worker = waiting.popleft(), idle.pop()
                running[worker.__call__.remote(jobs[number])] = number, worker
                yield Event(number)
            ended, _ = ray.wait(list(running), timeout=CHECK_SECONDS)
            interruption.check()
            if not ended:
                continue
            [done] = ended
            number, worker = running.pop(done)
            outcome: Outcome
            try:
                outcome = ray.get(done)
            except ray.exceptions.RayError as error:
                outcome = Failure(f"its Ray actor died ({' '.join(str(error).split())[:200]})")
            yield Event(number, outcome)
            idle.append(worker if self._prepare_next(worker) else actor.remote(address))

    @staticmethod
    def _prepare_next(worker: Any) -> bool:
        """Prepare an actor for another job; return False if it has ended or was killed."""
        import ray

        try:
            if ray.get(worker.needs_replacement.remote()):
                ray.kill(worker)
                return False
            worker.collect_garbage.remote()
            return True
        except ray.exceptions.RayError:
            return False

    def _capacity(self) -> int:
        """Return the number of actors that the cluster has resources for."""
        import ray

        available = ray.cluster_resources()
        needs = {"CPU": self._remote.get("num_cpus", 1), "GPU": self._remote.get("num_gpus", 0)}
        needs |= self._remote.get("resources") or {}
        rooms = [int(available.get(name, 0) / need) for name, need in needs.items() if need]
        if not all(rooms):
            raise AuxgradError(
                f"hydra.launcher.ray.remote: not enough resources for {needs}; the cluster has CPU="
                f"{available.get('CPU', 0):g}, GPU={available.get('GPU', 0):g}"
            )
        return min(rooms, default=1)
