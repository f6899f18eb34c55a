"""Wait queue of one provider. A request leaves it when it is admitted, at its deadline, or after `max_wait`.

`dispatch` admits every request that can be admitted: whenever a slot is freed, a rate allows one more, or a wait ends.
After `dispatch`, every waiting request is blocked; so an unblocked new request need not queue.

With shared counters the local copy of the counts may be old: a rate is exact until the time that the server returned,
but another replica may have freed a slot, so the server is asked again at a short interval. The server reserves the
next free slot for a replica that found none, so that replicas take turns too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterator

from gateway.clock import Clock
from gateway.errors import ClientDisconnected, DeadlineExceeded, Ending, Overloaded, RunError
from gateway.limits.config import SLOT_RETRY_AFTER, OnDecision, ResourceLimitsConfig
from gateway.limits.counters import Counters, Parts, TakeResult
from gateway.limits.gcra import TIME_EPSILON
from gateway.limits.queue.fair_queue import Waiter, WaitQueue
from gateway.limits.queue.priority_scheduler import PriorityScheduler
from gateway.limits.queue.timers import OneShotTimer, WaitTimeouts
from gateway.limits.resource_limiter import ResourceLimiter

_RECHECK_INTERVAL = 0.05  # seconds until a server is asked for a slot again; its reservation lasts three times as long


class ProviderQueue:
    """Limiter of one provider, and the requests that wait for it. `call_parts`: what a call of a running run takes."""

    def __init__(
        self, limits: ResourceLimitsConfig, clock: Clock, counters: Counters, on_decision: OnDecision | None = None
    ) -> None:
        self._scheduler = PriorityScheduler(limits)
        self._counters = counters
        self._on_decision = on_decision
        self._monotonic = clock.monotonic
        self._timeouts = WaitTimeouts()
        self._timer = OneShotTimer(clock, self.dispatch)
        self._dispatch_task: asyncio.Task[None] | None = None
        self._stale_at = math.inf  # when the local copy of the slots in a server becomes too old
        self.limiter = self._scheduler.limiter
        self.call_parts: Parts = (self.limiter.rate_limiter,)

    @property
    def waiting(self) -> int:
        """Number of waiting requests, polls included."""
        return self._timeouts.size

    @property
    def timer_running(self) -> bool:
        """True if the timer is scheduled."""
        return self._timer.fires_at < math.inf

    def may_start(self, workflow: ResourceLimiter, now: float) -> bool:
        """Return True if a new start of `workflow` that takes what it needs at `now` overtakes no waiting request."""
        if not self._timeouts.size:
            return True
        self._dispatch_if_due(now)
        if self._scheduler.next(now) is not None:
            return False
        return not self._scheduler.starts or not (self.limiter.blocked(now) or workflow.blocked(now))

    def may_call(self, now: float) -> bool:
        """Return True if a new call of a running run at `now` overtakes no waiting request."""
        if not self._timeouts.size:
            return True
        self._dispatch_if_due(now)
        return self._scheduler.next(now) is None and not self.limiter.rate_limiter.blocked(now)

    async def wait_for_start(self, waiter: Waiter) -> ResourceLimiter:
        """Wait as a first start; returns the limiter that blocked it, as the other waits do.

        Raises RunError; at once if the queue is full or the rates cannot allow it in time.
        """
        waiter.blocker = self.limiter if self.limiter.blocked(waiter.arrived_at) else waiter.workflow
        self._prepare(waiter, self._scheduler.starts, min(self.limiter.max_wait, waiter.workflow.max_wait))
        if self._scheduler.starts.is_full_for(waiter) or self._cannot_be_served(waiter):
            raise self._overload_error(waiter, waiter.arrived_at)
        return await self._enqueue_and_wait(waiter, max(self.limiter.available_at(), waiter.workflow.available_at()))

    async def wait_for_retry(self, waiter: Waiter) -> ResourceLimiter:
        """Wait as a retried start: before all first starts. Raises RunError."""
        waiter.blocker = self.limiter
        self._prepare(waiter, self._scheduler.retries, self.limiter.max_wait)
        if self._cannot_be_served(waiter):
            raise self._overload_error(waiter, waiter.arrived_at)
        return await self._enqueue_and_wait(waiter, self.limiter.rate_limiter.available_at())

    async def wait_for_poll(self, waiter: Waiter) -> ResourceLimiter:
        """Wait as a poll, until the deadline at most. Raises DeadlineExceeded."""
        waiter.blocker = self.limiter
        self._prepare(waiter, self._scheduler.polls, math.inf)
        return await self._enqueue_and_wait(waiter, self.limiter.rate_limiter.available_at())

    def dispatch_if_waiting(self) -> None:
        """Dispatch if a request waits."""
        if self._timeouts.size:
            self.dispatch()

    def dispatch(self) -> None:
        """Admit every request that can be admitted, and end the waits that have timed out."""
        now = self._monotonic()
        if self._counters.shared:
            self._settle_timeouts(now)
            self._start_shared_dispatch(now)
        else:
            self._dispatch_local(now)
            self._settle_timeouts(now)
        self._set_timer()

    def _dispatch_local(self, now: float) -> None:
        while (waiter := self._scheduler.next(now)) is not None:
            self._scheduler.rotate(waiter)
            if self._settle_if_dropped(waiter, now):
                continue
            try:
                if waiter.try_take(now) is not TakeResult.TAKEN:
                    break
            except RunError as error:
                self._settle(waiter, error.with_traceback(None))
            else:
                self._settle(waiter, None)

    def _start_shared_dispatch(self, now: float) -> None:
        if now >= self._stale_at:
            self._force_server_check()
            self._stale_at = math.inf
        if self._dispatch_task is None and self._scheduler.next(now) is not None:
            self._dispatch_task = asyncio.get_running_loop().create_task(self._dispatch_shared())

    async def _dispatch_shared(self) -> None:
        """Try to take for one waiting request after the other, as long as one is not known to be blocked."""
        try:
            while (waiter := self._scheduler.next(self._monotonic())) is not None and self._counters.shared:
                await self._try_take_shared(waiter)
        finally:
            self._dispatch_task = None
        self.dispatch()

    async def _try_take_shared(self, waiter: Waiter) -> None:
        now = self._monotonic()
        if self._settle_if_dropped(waiter, now):
            return
        error: RunError | None = None
        try:
            result = await _resolved(waiter.try_take(now))
        except RunError as raised:
            result, error = TakeResult.BLOCKED, raised.with_traceback(None)
        if waiter.settled:  # cancelled or timed out during the round trip
            if result is TakeResult.TAKEN:
                waiter.undo()
        elif result is TakeResult.TAKEN or error is not None:
            self._scheduler.rotate(waiter)
            self._settle(waiter, error)

    def _dispatch_if_due(self, now: float) -> None:
        if now >= self._timer.fires_at:
            self.dispatch()

    def _prepare(self, waiter: Waiter, queue: WaitQueue, max_wait: float) -> None:
        waiter.queue = queue
        waiter.future = asyncio.get_running_loop().create_future()
        wait_limit = max_wait if waiter.max_wait is None or queue is self._scheduler.polls else waiter.max_wait
        waiter.expires_at = min(waiter.deadline, waiter.arrived_at + wait_limit)
        if waiter.expires_at <= waiter.arrived_at:
            raise self._timeout_error(waiter, waiter.arrived_at)

    def _cannot_be_served(self, waiter: Waiter) -> bool:
        delay = self._scheduler.estimate_delay(waiter, waiter.arrived_at)
        return waiter.arrived_at + delay > waiter.expires_at + TIME_EPSILON

    async def _enqueue_and_wait(self, waiter: Waiter, available_at: float) -> ResourceLimiter:
        if self._counters.shared:
            self._stale_at = min(self._stale_at, waiter.arrived_at + _RECHECK_INTERVAL)
            available_at = min(available_at, self._stale_at)
        waiter.queue.add(waiter)
        self._timeouts.add(waiter)
        self._timer.schedule(min(waiter.expires_at, available_at))
        try:
            error = await waiter.future
        except asyncio.CancelledError:
            self._cancel_wait(waiter)
            raise
        if error is not None:
            raise error
        return waiter.blocker

    def _cancel_wait(self, waiter: Waiter) -> None:
        """Remove a cancelled request; give back what it took if it was admitted at the same time."""
        if not waiter.settled:
            self._settle(waiter, None)
        elif not waiter.future.cancelled() and waiter.future.result() is None:
            waiter.undo()
        self._set_timer()

    def _settle_timeouts(self, now: float) -> None:
        for waiter in self._timeouts.due(now):
            self._settle(waiter, self._timeout_error(waiter, now))

    def _settle_if_dropped(self, waiter: Waiter, now: float) -> bool:
        """Settle a request that is cancelled, past its deadline, or not wanted any more; True if it was settled."""
        if waiter.future.done():  # cancelled, and about to be removed
            self._settle(waiter, None)
        elif now > waiter.deadline:
            self._settle(waiter, self._timeout_error(waiter, now))
        elif waiter.queue is not self._scheduler.polls and not waiter.still_wanted():
            self._settle(waiter, ClientDisconnected())
        return waiter.settled

    def _settle(self, waiter: Waiter, error: RunError | None) -> None:
        waiter.queue.remove(waiter)
        self._timeouts.settle(waiter)
        if not waiter.future.done():
            waiter.future.set_result(error)

    def _set_timer(self) -> None:
        if not self._timeouts.size:
            self._timer.cancel()
        elif self._dispatch_task is not None:  # its results may change everything: until then, waits may time out
            self._timer.cancel()
            self._timer.schedule(self._timeouts.next_at())
        else:
            self._timer.schedule(min(self._timeouts.next_at(), self._scheduler.next_dispatch_at()))
            if self._counters.shared and any(True for _ in self._full_limiters()):
                self._stale_at = min(self._stale_at, self._monotonic() + _RECHECK_INTERVAL)
                self._timer.schedule(self._stale_at)

    def _force_server_check(self) -> None:
        """Show one free slot in the local copy, so that the next request asks the server."""
        for limiter in self._full_limiters():
            limiter.in_flight = min(limiter.in_flight, math.ceil(limiter.capacity) - 1)

    def _full_limiters(self) -> Iterator[ResourceLimiter]:
        """Yield the limiters without a free slot that starts wait for."""
        if self._scheduler.starts:
            yield from (limiter for limiter in (self.limiter, *set(self._scheduler.starts.workflows())) if limiter.full)

    def _timeout_error(self, waiter: Waiter, now: float) -> RunError:
        if waiter.expires_at < waiter.deadline:
            return self._overload_error(waiter, now)
        self._report_refused(waiter)
        ending: Ending = "unknown" if waiter.queue is self._scheduler.polls else "not_run"
        return DeadlineExceeded("The deadline passed in the wait for the provider's limits.", ending=ending)

    def _overload_error(self, waiter: Waiter, now: float) -> RunError:
        self._report_refused(waiter)
        delay = self._scheduler.estimate_delay(waiter, now)
        if self._scheduler.lacks_slot(waiter):
            delay = max(delay, SLOT_RETRY_AFTER)
        return Overloaded("The wait for the provider's limits is too long.", retry_after=delay)

    def _report_refused(self, waiter: Waiter) -> None:
        if self._on_decision is not None:
            self._on_decision(waiter.blocker.scope, "refused")


async def _resolved(attempt: TakeResult | Awaitable[TakeResult]) -> TakeResult:
    return attempt if isinstance(attempt, TakeResult) else await attempt
