"""A world of limits that a real server counts, on virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import redis
import structlog
import structlog.testing

from gateway.access.redis_limits import RedisLimits
from gateway.access.redis_server import Speaker
from gateway.store import by_url
from tests.access.virtual_clock import VirtualClock, settle
from tests.access.worlds import World


@dataclass
class HearingClock(VirtualClock):
    """Time stands still until every word to the server has been answered."""

    speakers: list[Speaker] = field(default_factory=list)
    seed: int = 1

    def __post_init__(self) -> None:
        super().__init__(seed=self.seed)

    async def settle(self) -> None:
        """See `VirtualClock.settle`."""
        await settle()
        while not await self._quiet():
            await asyncio.sleep(0.0002)

    async def _quiet(self) -> bool:
        """Whether nobody speaks, nor begins to after the last answer was taken in."""
        for _ in range(2):
            if any(speaker._speaking is not None for speaker in self.speakers):
                return False
            await settle()
        return True


class SharedWorld(World):
    """One replica; `url` is its server's. On the server's time where it has no virtual one."""

    url: str
    clock: HearingClock
    limits: RedisLimits  # type: ignore[assignment] # both are `Limits`

    async def open(self, url: str, *, patience: float = 5.0) -> SharedWorld:
        """Begin."""
        self.clock = HearingClock()
        self.told: list[int] = []
        self.limits = RedisLimits(
            by_url.link(url, None, patience=patience, connections=2),
            self.clock,
            structlog.wrap_logger(structlog.testing.CapturingLogger()),
            clients=self.clients,
            workflows=self.workflows,
            providers=self.providers,
            decided=lambda scope, decision: self.decisions.append((scope, decision)),
            told=self.told.append,
            server_time=False,
        )
        self.clock.speakers.append(self.limits._ledger._speaker)
        await self.limits.open()
        return self


def forget(url: str) -> None:
    """Empty a server."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
