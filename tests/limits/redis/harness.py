"""Harness of limits that a real server counts, on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import redis
import structlog
import structlog.testing

from gateway.limits.limiter import Limiter
from gateway.limits.redis.counters import RedisCounters
from gateway.store import factory
from tests.limits.harness import LimiterHarness
from tests.support.virtual_clock import VirtualClock, run_ready_tasks


@dataclass
class RedisVirtualClock(VirtualClock):
    """Virtual clock that stands still until every script of `counters` has its reply."""

    counters: list[RedisCounters] = field(default_factory=list)
    seed: int = 1

    def __post_init__(self) -> None:
        super().__init__(seed=self.seed)

    async def run_ready_tasks(self) -> None:
        """Run tasks until none is ready and no script is in flight."""
        await run_ready_tasks()
        while not await self._is_idle():
            await asyncio.sleep(0.0002)

    async def _is_idle(self) -> bool:
        """Return True if no script is in flight, nor submitted after the last reply."""
        for _ in range(2):
            if not all(counters.idle for counters in self.counters):
                return False
            await run_ready_tasks()
        return True


class RedisLimiterHarness(LimiterHarness):
    """Harness of one replica."""

    clock: RedisVirtualClock

    async def open(self, url: str, *, command_timeout: float = 5.0) -> RedisLimiterHarness:
        """Connect to the server at `url`."""
        self.clock = RedisVirtualClock()
        self.shared_changes: list[int] = []
        counters = RedisCounters(
            factory.create_redis_connection(url, timeout=command_timeout, connections=2),
            self.clock,
            structlog.wrap_logger(structlog.testing.CapturingLogger()),
            on_shared_change=self.shared_changes.append,
            server_time=False,
        )
        self.clock.counters.append(counters)
        self.limiter = Limiter(
            self.clock,
            self.config,
            counters=counters,
            on_decision=lambda scope, decision: self.decisions.append((scope, decision)),
        )
        await self.limiter.open()
        return self


def flush_server(url: str) -> None:
    """Delete all keys of a server."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
