"""A world of limits that a real server counts, on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import redis
import structlog
import structlog.testing

from gateway.limits.redis.limiter import RedisLimiter
from gateway.redis.pipeline import ScriptPipeline
from gateway.store import factory
from tests.limits.harness import LimiterHarness
from tests.support.virtual_clock import VirtualClock, run_ready_tasks


@dataclass
class RedisVirtualClock(VirtualClock):
    """Time stands still until every word to the server has been answered."""

    pipelines: list[ScriptPipeline] = field(default_factory=list)
    seed: int = 1

    def __post_init__(self) -> None:
        super().__init__(seed=self.seed)

    async def run_ready_tasks(self) -> None:
        """See `VirtualClock.settle`."""
        await run_ready_tasks()
        while not await self._is_idle():
            await asyncio.sleep(0.0002)

    async def _is_idle(self) -> bool:
        """Whether nobody speaks, nor begins to after the last answer was taken in."""
        for _ in range(2):
            if any(not pipeline.idle for pipeline in self.pipelines):
                return False
            await run_ready_tasks()
        return True


class RedisLimiterHarness(LimiterHarness):
    """One replica; `url` is its server's. On the server's time where it has no virtual one."""

    url: str
    clock: RedisVirtualClock
    limiter: RedisLimiter  # type: ignore[assignment] # both are `Limits`

    async def open(self, url: str, *, command_timeout: float = 5.0) -> RedisLimiterHarness:
        """Begin."""
        self.clock = RedisVirtualClock()
        self.shared_changes: list[int] = []
        self.limiter = RedisLimiter(
            factory.create_redis_connection(url, None, timeout=command_timeout, connections=2),
            self.clock,
            structlog.wrap_logger(structlog.testing.CapturingLogger()),
            clients=self.clients,
            workflows=self.workflows,
            providers=self.providers,
            on_decision=lambda scope, decision: self.decisions.append((scope, decision)),
            on_shared_change=self.shared_changes.append,
            server_time=False,
        )
        self.clock.pipelines.append(self.limiter._counters._pipeline)
        await self.limiter.open()
        return self


def flush_server(url: str) -> None:
    """Empty a server."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
