"""Worker pool with stub programs: restarts, giving up, shutdown."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Protocol

import pytest
import structlog
from structlog.testing import capture_logs

from gateway.clock import SystemClock
from gateway.observability.level_control import LevelControl
from gateway.observability.metrics import Metrics
from gateway.supervisor.accepting.turns import AcceptCounts
from gateway.supervisor.worker_handle import WorkerLauncher
from gateway.supervisor.worker_pool import WorkerPool, WorkerPoolFailed
from tests.supervisor.worker_programs import (
    CONFIG_REFUSED,
    CRASHING,
    MALFORMED,
    ONLY_FIRST_STARTS,
    RESPONSIVE,
    UNRESPONSIVE,
)
from tests.support.waiting import WAIT_TIMEOUT, wait_until


class FastClock(SystemClock):
    """Clock with sleeps shortened by a factor of 100; no uptime resets a delay."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    @staticmethod
    def monotonic() -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(seconds / 100)


class PoolOf(Protocol):
    """Type of the fixture `pool_of`."""

    def __call__(self, command: Sequence[str], count: int = 2) -> WorkerPool:
        """Return a pool that is not serving yet."""


@pytest.fixture
def pool_of() -> Iterator[PoolOf]:
    """Factory of pools whose workers run `command`."""
    with ExitStack() as stack:

        def create(command: Sequence[str], count: int = 2) -> WorkerPool:
            counts = stack.enter_context(AcceptCounts.create(count))
            launcher = WorkerLauncher(command, (), counts, ("127.0.0.1", 1), "memory://")
            clock, log = FastClock(), structlog.get_logger()
            level = LevelControl("info", clock, log)
            return WorkerPool(count, launcher.launch, counts, Metrics(), clock, log, level)

        yield create


@asynccontextmanager
async def serving(pool: WorkerPool) -> AsyncIterator[asyncio.Task[None]]:
    """Run the pool until the block ends."""
    task = asyncio.create_task(pool.serve())
    try:
        async with asyncio.timeout(WAIT_TIMEOUT):
            yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def pids(pool: WorkerPool) -> dict[int, int]:
    """Return the process ids by worker index."""
    return {index: worker.process.pid for index, worker in pool.workers.items()}


def counted_requests(families: object) -> float:
    """Return the counters of the stub programs."""
    assert isinstance(families, dict)
    return float(families["runward_requests"]["run", "200"][0])


async def test_all_workers_start_and_all_drain(pool_of: PoolOf) -> None:
    pool = pool_of(RESPONSIVE, 3)
    async with serving(pool) as task:
        await pool.all_ready.wait()
        assert (3, 3) == (pool.ready_count, pool.responsive_count)
        pool.drain()
        await task
    assert (True, {}) == (pool.clean_exit, pool.workers)


async def test_a_killed_worker_is_replaced_and_its_counts_remain(pool_of: PoolOf) -> None:
    """Counts of the ended worker stay in the sums."""
    pool = pool_of(RESPONSIVE)
    with capture_logs() as lines:
        async with serving(pool):
            await pool.all_ready.wait()
            before, first = counted_requests(await pool.collect_metrics()), pids(pool)
            assert before >= 2
            os.kill(first[1], signal.SIGKILL)
            await wait_until(lambda: pool.ready_count == 2 and pids(pool)[1] != first[1])
            assert pids(pool)[0] == first[0]
            assert counted_requests(await pool.collect_metrics()) >= before + 2
            assert 1 == pool.metrics.export()["runward_workers_lost"][()][0]
    [line] = [line for line in lines if line["event"] == "worker_ended"]
    assert (1, -9) == (line["worker"], line["exit_code"])


async def test_a_configuration_that_is_refused_is_refused_once(pool_of: PoolOf) -> None:
    """One worker reports the error, no other is started, and its exit code is returned."""
    pool = pool_of(CONFIG_REFUSED, 5)
    with capture_logs() as lines, pytest.raises(WorkerPoolFailed) as gave_up:
        await pool.serve()
    assert (2, 1) == (gave_up.value.exit_code, len(lines))


async def test_workers_that_only_crash_are_given_up(pool_of: PoolOf) -> None:
    """After five crashes in a row, with doubled delays."""
    pool = pool_of(CRASHING, 2)
    with pytest.raises(WorkerPoolFailed, match=r"worker 0 ended 5 times in a row \(exit code -6\)") as gave_up:
        await pool.serve()
    assert 1 == gave_up.value.exit_code
    assert isinstance(pool.clock, FastClock)
    assert [0.1, 0.2, 0.4, 0.8] == [seconds for seconds in pool.clock.slept if seconds != 1.0]


async def test_the_pool_does_not_give_up_while_a_worker_serves(pool_of: PoolOf) -> None:
    """Otherwise one failing worker would disconnect the clients of all others."""
    pool = pool_of(ONLY_FIRST_STARTS)
    async with serving(pool) as task:
        await wait_until(lambda: pool.metrics.export()["runward_workers_lost"].get((), (0,))[0] > 7)
        assert (False, 1) == (task.done(), pool.ready_count)
        pool.drain()
        await task
    assert pool.clean_exit


async def test_an_unresponsive_worker_is_not_waited_for(pool_of: PoolOf) -> None:
    """Its last values are used; it counts as neither ready nor responsive until it answers."""
    pool = pool_of(RESPONSIVE)
    async with serving(pool):
        await pool.all_ready.wait()
        before, held = counted_requests(await pool.collect_metrics()), pids(pool)[0]
        os.kill(held, signal.SIGSTOP)
        await wait_until(lambda: pool.responsive_count == 1)
        assert counted_requests(await pool.collect_metrics()) >= before
        assert (1, 2) == (pool.ready_count, len(pool.workers))
        os.kill(held, signal.SIGCONT)
        await wait_until(lambda: pool.ready_count == 2)


async def test_concurrent_metric_requests_all_get_an_answer(pool_of: PoolOf) -> None:
    """Each worker has one request in flight, for all callers."""
    pool = pool_of(RESPONSIVE)
    async with serving(pool):
        await pool.all_ready.wait()
        sums = [
            counted_requests(families)
            for families in await asyncio.gather(*(pool.collect_metrics() for _ in range(20)))
        ]
        assert (2, sorted(sums)) == (pool.responsive_count, sums)


async def test_a_reload_reaches_all_workers(pool_of: PoolOf) -> None:
    """Over the channel: a signal would kill a worker without a handler yet."""
    pool = pool_of(RESPONSIVE)
    async with serving(pool):
        await pool.all_ready.wait()
        pool.reload()
        assert 2000 <= counted_requests(await pool.collect_metrics()) < 3000


async def test_a_second_stop_kills_unresponsive_workers(pool_of: PoolOf) -> None:
    """After a grace period; the exit is not clean."""
    pool = pool_of(UNRESPONSIVE)
    async with serving(pool) as task:
        await pool.all_ready.wait()
        pool.drain()
        await asyncio.sleep(0.05)
        assert not task.done()
        await pool.terminate_all()
        await task
    assert not pool.clean_exit


async def test_a_malformed_status_is_not_readiness(pool_of: PoolOf) -> None:
    """The supervisor continues."""
    pool = pool_of(MALFORMED, 1)
    async with serving(pool) as task:
        await wait_until(lambda: pool.workers)
        await asyncio.sleep(0.2)
        assert (0, 0, False) == (pool.ready_count, pool.responsive_count, task.done())


async def test_no_process_is_left_when_the_pool_is_cancelled(pool_of: PoolOf) -> None:
    """For every kind of exit of `serve`."""
    pool = pool_of(UNRESPONSIVE)
    async with serving(pool):
        await pool.all_ready.wait()
        left = list(pool.workers.values())
    assert [-9, -9] == [worker.process.returncode for worker in left]


async def test_a_drain_before_readiness_ends_the_pool(pool_of: PoolOf) -> None:
    """Workers that wait for the first one are not started."""
    pool = pool_of(RESPONSIVE, 3)
    async with serving(pool) as task:
        await wait_until(lambda: pool.workers)
        pool.drain()
        await task
    assert (True, {}) == (pool.clean_exit, pool.workers)
