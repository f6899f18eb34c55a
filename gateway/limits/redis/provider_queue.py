"""The way to one provider where replicas share its limits: who waits here asks the server when its turn may have come.

The line is this replica's own, and fair between its clients. What the gates show is what the server said last: a rate
that is used up stays so until the moment that they tell; a slot may have been freed elsewhere, so it is asked for again
and again. The server keeps the next free slot for a replica that found none, so replicas take turns too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

from gateway.clock import Clock
from gateway.errors import RunError
from gateway.limits.contract import OnDecision, SharedLimitsConfig
from gateway.limits.queue.fair_queue import Waiter
from gateway.limits.queue.provider_queue import ProviderQueue
from gateway.limits.redis.counters import RedisCounters
from gateway.limits.shared_limiter import SharedLimiter
from gateway.redis.errors import RedisUnavailable

_RECHECK_INTERVAL = (
    0.05  # seconds until the server is asked anew whether a slot is free; it keeps one three times as long
)


@dataclass(slots=True, eq=False)
class RemoteWaiter(Waiter):
    """One who asks the server. `ask` says whether all was taken, or why it never can be; it raises ServerLost.

    `undo` gives back what was taken.
    """

    try_acquire: Callable[[], Awaitable[bool | RunError]] = field(kw_only=True)


class RedisProviderQueue(ProviderQueue):
    """See `Lane`. While the server is lost it is one."""

    def __init__(
        self, limits: SharedLimitsConfig, clock: Clock, on_decision: OnDecision | None, counters: RedisCounters
    ) -> None:
        super().__init__(limits, clock, on_decision)
        self._counters = counters
        self._dispatch_task: asyncio.Task[None] | None = None
        self._stale_at = math.inf  # when what the gates say about slots is too old

    def is_next_start(self, workflow: SharedLimiter, now: float) -> bool:
        """Whether a newcomer that takes what it needs at `now` overtakes nobody."""
        if self._scheduler.next(now) is not None:
            return False
        return not self._scheduler.starts or not (self.limiter.blocked(now) or workflow.blocked(now))

    def is_next_call(self, now: float) -> bool:
        """The same for a call of a run that has its slot."""
        return self._scheduler.next(now) is None and not (self.waiting and self.limiter.rate_limiter.blocked(now))

    def dispatch(self) -> None:
        """See `Lane.pump`."""
        if not self._counters.connected:
            super().dispatch()
            return
        now = self._monotonic()
        for waiter in self._timeouts.due(now):
            self._settle(waiter, self._timeout_problem(waiter, now))
        if now >= self._stale_at:
            self._mark_stale()
            self._stale_at = math.inf
        if self._dispatch_task is None and self._scheduler.next(now) is not None:
            self._dispatch_task = asyncio.get_running_loop().create_task(self._dispatch_remote())
        self._set_timer()

    async def _dispatch_remote(self) -> None:
        """Ask the server for one after the other, as long as somebody's turn may have come."""
        try:
            while (waiter := self._scheduler.next(self._monotonic())) is not None and self._counters.connected:
                await self._try_remote(waiter)
        except RedisUnavailable:
            pass  # from here on the gates count for themselves
        finally:
            self._dispatch_task = None
        self.dispatch()

    async def _enqueue_and_wait(self, waiter: Waiter, available_at: float) -> SharedLimiter:
        if self._counters.connected:
            self._stale_at = min(self._stale_at, waiter.arrived_at + _RECHECK_INTERVAL)
            available_at = min(available_at, self._stale_at)
        return await super()._enqueue_and_wait(waiter, available_at)

    async def _try_remote(self, waiter: Waiter) -> None:
        now = self._monotonic()
        problem = self._drop_reason(waiter, now)
        if waiter.future.done() or problem is not None:
            self._settle(waiter, problem)
            return
        result = await cast("RemoteWaiter", waiter).try_acquire()
        if waiter.settled:  # in the meantime: cancelled, or its wait is over
            if result is True:
                waiter.undo()
        elif result is not False:
            self._scheduler.rotate(waiter)
            self._settle(waiter, None if result is True else result)

    def _set_timer(self) -> None:
        if self._dispatch_task is not None:  # what it hears may change everything: until then, only waits may end
            self._timer.cancel()
            self._timer.schedule(self._timeouts.next_at())
            return
        super()._set_timer()
        if self._counters.connected and any(True for _ in self._full_limiters()):
            self._stale_at = min(self._stale_at, self._monotonic() + _RECHECK_INTERVAL)
            self._timer.schedule(self._stale_at)

    def _mark_stale(self) -> None:
        """A slot may be free by now: show one, so that the next one asks."""
        for limiter in self._full_limiters():
            limiter.in_flight = min(limiter.in_flight, math.ceil(limiter.capacity) - 1)

    def _full_limiters(self) -> Iterator[SharedLimiter]:
        if self._scheduler.starts:
            yield from (limiter for limiter in (self.limiter, *set(self._scheduler.starts.workflows())) if limiter.full)
