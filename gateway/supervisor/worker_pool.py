"""Worker pool: restarts each worker that exits, until the pool drains."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field

from gateway.app.application import wait_for_first
from gateway.clock import Clock
from gateway.observability.level_control import LevelControl
from gateway.observability.logger_protocol import Logger
from gateway.observability.metric_types import ExemplarsByBucket
from gateway.observability.metrics import Metrics
from gateway.supervisor.accepting.turns import AcceptCounts
from gateway.supervisor.metrics_merge import (
    GAUGE_MERGES,
    SUPERVISOR_GAUGES,
    MetricFamilies,
    MetricsMerger,
    merge_exemplars,
)
from gateway.supervisor.worker_handle import WorkerHandle

_WORKER_GAUGES = GAUGE_MERGES.keys() - SUPERVISOR_GAUGES
_EXIT_CONFIG_REFUSED = 2  # exit code of a worker for an invalid configuration
_TERMINATION_GRACE = 3.0  # seconds between `terminate_all` and SIGKILL
_HEARTBEAT_INTERVAL = 1.0  # seconds
_CLEAN_EXIT_CODES = (0, -signal.SIGTERM)  # SIGTERM only before its handler is installed

_STABLE_UPTIME = 10.0  # seconds after which an exit is no failure to start
_INITIAL_RESTART_DELAY = 0.1  # seconds
_MAX_RESTART_DELAY = 30.0  # seconds
_MAX_START_FAILURES = 5


class WorkerPoolFailed(Exception):
    """No worker serves, and none can be started. The text is for the operator."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(slots=True)
class RestartBackoff:
    """Exponential backoff for one worker slot. `consecutive_failures` counts exits shortly after the start."""

    consecutive_failures: int = 0

    def next_delay(self, uptime: float) -> float:
        """Return the delay in seconds before the next start, given the uptime in seconds."""
        self.consecutive_failures = 1 if uptime >= _STABLE_UPTIME else self.consecutive_failures + 1
        return min(_MAX_RESTART_DELAY, _INITIAL_RESTART_DELAY * 2.0 ** min(self.consecutive_failures - 1, 10))

    @property
    def exhausted(self) -> bool:
        """True if no further restart should be tried."""
        return self.consecutive_failures >= _MAX_START_FAILURES


@dataclass(slots=True)
class WorkerPool:
    """`count` slots, each with a worker from `launch`. `metrics` are those of the supervisor itself.

    `accept_counts`: what the workers have accepted; one that has ended is removed. `log_level`: its override is that of
    all workers.
    """

    count: int
    launch: Callable[[int], Awaitable[WorkerHandle]]
    accept_counts: AcceptCounts
    metrics: Metrics
    clock: Clock
    log: Logger
    log_level: LevelControl
    workers: dict[int, WorkerHandle] = field(default_factory=dict)
    merger: MetricsMerger = field(default_factory=MetricsMerger)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    all_ready: asyncio.Event = field(default_factory=asyncio.Event)
    clean_exit: bool = True
    _first_ready: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ready_count(self) -> int:
        """The number of workers that accept new requests."""
        return sum(worker.ready for worker in self.workers.values())

    @property
    def responsive_count(self) -> int:
        """The number of workers that respond."""
        return sum(not worker.unresponsive for worker in self.workers.values())

    @property
    def store_fails(self) -> bool:
        """True if the store fails in a responsive worker."""
        return any(worker.last_status.store_fails and not worker.unresponsive for worker in self.workers.values())

    def reload(self) -> None:
        """Reload the configuration of all workers (hot reload); a starting worker reloads once it is ready."""
        for worker in self.workers.values():
            worker.send("reload")

    def send_log_level(self) -> None:
        """Pass the override of the log level on to all workers, or that there is none."""
        for worker in self.workers.values():
            self._send_log_level(worker)

    def _send_log_level(self, worker: WorkerHandle) -> None:
        worker.send(f"log-level {self.log_level.encode_override()}")

    async def serve(self) -> None:
        """Run every slot until all workers have drained. Raises WorkerPoolFailed after all workers were stopped."""
        slot_tasks = [asyncio.create_task(self._keep_slot_filled(place)) for place in range(self.count)]
        heartbeat_task = asyncio.create_task(self._heartbeat_loop())
        try:
            await asyncio.gather(*slot_tasks)
        finally:
            self.draining.set()
            for task in (heartbeat_task, *slot_tasks):
                task.cancel()
            await asyncio.gather(heartbeat_task, *slot_tasks, return_exceptions=True)
            for worker in self.workers.values():
                worker.send_signal(signal.SIGKILL)
                await worker.process.wait()

    def drain(self) -> None:
        """Start the graceful shutdown of all workers."""
        self.draining.set()
        self._first_ready.set()
        for worker in self.workers.values():
            worker.send("drain")

    async def terminate_all(self) -> None:
        """End all workers at once; SIGKILL after a grace period."""
        for worker in self.workers.values():
            worker.send("hurry")
        await self.clock.sleep(_TERMINATION_GRACE)
        for worker in self.workers.values():
            worker.send_signal(signal.SIGKILL)

    async def collect_metrics(self) -> MetricFamilies:
        """Return the merged metrics of running and ended workers; an unresponsive worker counts with its last one."""
        await asyncio.gather(*(worker.refresh_status() for worker in self.workers.values()))
        own = {name: values for name, values in self.metrics.export().items() if name not in _WORKER_GAUGES}
        return self.merger.merge([own, *(worker.last_status.metrics for worker in self.workers.values())])

    @property
    def exemplars(self) -> ExemplarsByBucket:
        """The latest exemplars of all workers, as of their last status."""
        return merge_exemplars(worker.last_status.exemplars for worker in self.workers.values())

    def latest_metrics(self, names: Collection[str]) -> MetricFamilies:
        """Return the merged values of some families, as of the last heartbeat: at most a second old."""
        own = {name: values for name, values in self.metrics.read(names).items() if name not in _WORKER_GAUGES}
        return self.merger.latest([own, *(worker.last_status.metrics for worker in self.workers.values())], names)

    async def _heartbeat_loop(self) -> None:
        """Request the status of all workers periodically; a killed worker loses the counts since its last status."""
        while True:
            await self.clock.sleep(_HEARTBEAT_INTERVAL)
            await asyncio.gather(*(worker.refresh_status() for worker in self.workers.values()))

    async def _keep_slot_filled(self, index: int) -> None:
        backoff = RestartBackoff()
        if index:  # if the first cannot start, no other can: one error message is enough
            await self._first_ready.wait()
        while not self.draining.is_set():
            started_at = self.clock.monotonic()
            exit_code = await self._run_worker(index)
            if self.draining.is_set():
                self.clean_exit &= exit_code in _CLEAN_EXIT_CODES
                return
            delay = backoff.next_delay(self.clock.monotonic() - started_at)
            self.metrics.worker_lost()
            self.log.error("worker_ended", worker=index, exit_code=exit_code, again_in=delay)
            self._give_up_if_hopeless(index, exit_code, backoff)
            await wait_for_first(self.clock.sleep(delay), self.draining.wait())

    async def _run_worker(self, index: int) -> int | None:
        """Run one worker; returns its exit code, None if it could not be started."""
        try:
            worker = await self.launch(index)
        except OSError:
            return None
        self.workers[index] = worker
        if self.log_level.override is not None:
            self._send_log_level(worker)
        if self.draining.is_set():
            worker.send("drain")
        try:
            return await worker.wait_until_exit(self._update_readiness)
        finally:
            if worker.process.returncode is not None:
                del self.workers[index]
                self.accept_counts.remove(index)
                self.merger.retire(worker.last_status.metrics)

    def _update_readiness(self) -> None:
        if self.ready_count:
            self._first_ready.set()
        if self.ready_count == self.count:
            self.all_ready.set()

    def _give_up_if_hopeless(self, index: int, exit_code: int | None, backoff: RestartBackoff) -> None:
        if exit_code == _EXIT_CONFIG_REFUSED and not self._first_ready.is_set():
            raise WorkerPoolFailed("the first worker could not start", _EXIT_CONFIG_REFUSED)
        # While other workers serve, giving up would disconnect their clients.
        if backoff.exhausted and not self.ready_count:
            raise WorkerPoolFailed(
                f"worker {index} ended {backoff.consecutive_failures} times in a row (exit code {exit_code}), "
                "and no other serves",
                1,
            )
