"""The way to one provider: who may not pass waits here, until its turn, its deadline or the limits' patience ends it.

Whenever a slot is freed, a rate lets one more through or a wait ends, `pump` lets everybody go whose turn has come. So
whoever is left is blocked, and a newcomer that is not blocked may pass at once.
"""

from __future__ import annotations

import asyncio
import math

from gateway.clock import Clock
from gateway.errors import ClientDisconnected, DeadlineExceeded, Ending, Overloaded, RunError
from gateway.limits.contract import SLOT_RETRY_AFTER, OnDecision, SharedLimitsConfig
from gateway.limits.gcra import TIME_EPSILON
from gateway.limits.queue.fair_queue import Waiter, WaitQueue
from gateway.limits.queue.one_shot_timer import OneShotTimer
from gateway.limits.queue.priorities import PriorityScheduler
from gateway.limits.queue.timers import WaitTimeouts
from gateway.limits.shared_limiter import SharedLimiter


class ProviderQueue:
    """One provider's gate and the waiters before it."""

    def __init__(self, limits: SharedLimitsConfig, clock: Clock, on_decision: OnDecision | None = None) -> None:
        self._scheduler = PriorityScheduler(limits)
        self._on_decision = on_decision
        self._monotonic = clock.monotonic
        self._timeouts = WaitTimeouts()
        self._timer = OneShotTimer(clock, self.dispatch)
        self.limiter = self._scheduler.limiter

    @property
    def waiting(self) -> int:
        """How many wait, polls included."""
        return self._timeouts.size

    def allow_start(self, workflow: SharedLimiter, now: float) -> bool:
        """Whether a start of `workflow` may pass at `now`."""
        self._dispatch_if_due(now)
        return not (self.limiter.blocked(now) or workflow.blocked(now))

    def allow_call(self, now: float) -> bool:
        """Whether a call of a run that has its slot may pass at `now`."""
        self._dispatch_if_due(now)
        return not self.limiter.rate_limiter.blocked(now)

    def record_call(self, now: float) -> None:
        """One call of a run that has its slot; the caller has asked `open_for_call`."""
        self.limiter.rate_limiter.take(now)

    def cancel_call(self) -> None:
        """The call will not be made after all."""
        self.limiter.rate_limiter.refund()
        self._dispatch_if_waiting()

    def reconfigure(self, limits: SharedLimitsConfig) -> None:
        """Other limits: what is used of them stays used, who waits keeps its place."""
        self.limiter.reconfigure(limits, self._monotonic())
        self._dispatch_if_waiting()

    def release(self) -> None:
        """A slot of the provider and one of its workflow are free."""
        self.limiter.release()
        self._dispatch_if_waiting()

    async def wait_for_start(self, waiter: Waiter) -> SharedLimiter:
        """Wait as a first start. Raises `Problem`, at once where the turn can not come in time or the line is full.

        Like its siblings, returns the gate that was closed.
        """
        waiter.blocker = self.limiter if self.limiter.blocked(waiter.arrived_at) else waiter.workflow
        self._prepare(waiter, self._scheduler.starts, min(self.limiter.max_wait, waiter.workflow.max_wait))
        if self._scheduler.starts.is_full_for(waiter) or self._cannot_be_served(waiter):
            raise self._overload_problem(waiter, waiter.arrived_at)
        return await self._enqueue_and_wait(waiter, max(self.limiter.available_at(), waiter.workflow.available_at()))

    async def wait_for_retry(self, waiter: Waiter) -> SharedLimiter:
        """Wait as a retried start: like a first one, but before all of them."""
        waiter.blocker = self.limiter
        self._prepare(waiter, self._scheduler.retries, self.limiter.max_wait)
        if self._cannot_be_served(waiter):
            raise self._overload_problem(waiter, waiter.arrived_at)
        return await self._enqueue_and_wait(waiter, self.limiter.rate_limiter.available_at())

    async def wait_for_poll(self, waiter: Waiter) -> SharedLimiter:
        """Wait as a poll: only the deadline ends it."""
        waiter.blocker = self.limiter
        self._prepare(waiter, self._scheduler.polls, math.inf)
        return await self._enqueue_and_wait(waiter, self.limiter.rate_limiter.available_at())

    def dispatch(self) -> None:
        """Let everybody go whose turn has come, and those whose patience is over."""
        now = self._monotonic()
        while (waiter := self._scheduler.next(now)) is not None:
            self._scheduler.rotate(waiter)
            self._settle(waiter, self._try_acquire(waiter, now))
        for waiter in self._timeouts.due(now):
            self._settle(waiter, self._timeout_problem(waiter, now))
        self._set_timer()

    def _dispatch_if_due(self, now: float) -> None:
        if self._timeouts.size and now >= self._timer.fires_at:
            self.dispatch()

    def _dispatch_if_waiting(self) -> None:
        if self._timeouts.size:
            self.dispatch()

    def _prepare(self, waiter: Waiter, queue: WaitQueue, max_wait: float) -> None:
        waiter.queue = queue
        waiter.future = asyncio.get_running_loop().create_future()
        wait_limit = max_wait if waiter.max_wait is None or queue is self._scheduler.polls else waiter.max_wait
        waiter.expires_at = min(waiter.deadline, waiter.arrived_at + wait_limit)
        if waiter.expires_at <= waiter.arrived_at:
            raise self._timeout_problem(waiter, waiter.arrived_at)

    def _cannot_be_served(self, waiter: Waiter) -> bool:
        return (
            waiter.arrived_at + self._scheduler.estimate_delay(waiter, waiter.arrived_at)
            > waiter.expires_at + TIME_EPSILON
        )

    async def _enqueue_and_wait(self, waiter: Waiter, available_at: float) -> SharedLimiter:
        waiter.queue.add(waiter)
        self._timeouts.add(waiter)
        self._timer.schedule(min(waiter.expires_at, available_at))
        try:
            problem = await waiter.future
        except asyncio.CancelledError:
            self._cancel_wait(waiter)
            raise
        if problem is not None:
            raise problem
        return waiter.blocker

    def _cancel_wait(self, waiter: Waiter) -> None:
        """Whoever waited was cancelled, perhaps in the very moment of its turn: leave no trace."""
        if not waiter.settled:
            self._settle(waiter, None)
        elif not waiter.future.cancelled() and waiter.future.result() is None:
            waiter.undo()
        self._set_timer()

    def _settle(self, waiter: Waiter, problem: RunError | None) -> None:
        waiter.queue.remove(waiter)
        self._timeouts.settle(waiter)
        if not waiter.future.done():
            waiter.future.set_result(problem)

    def _try_acquire(self, waiter: Waiter, now: float) -> RunError | None:
        if waiter.future.done():  # cancelled, and about to withdraw
            return None
        problem = self._drop_reason(waiter, now)
        return waiter.acquire(now) if problem is None else problem

    def _drop_reason(self, waiter: Waiter, now: float) -> RunError | None:
        if now > waiter.deadline:
            return self._timeout_problem(waiter, now)
        if waiter.queue is not self._scheduler.polls and not waiter.still_wanted():
            return ClientDisconnected()
        return None

    def _set_timer(self) -> None:
        if self._timeouts.size:
            self._timer.schedule(min(self._timeouts.next_at(), self._scheduler.next_dispatch_at()))
        else:
            self._timer.cancel()

    def _timeout_problem(self, waiter: Waiter, now: float) -> RunError:
        if waiter.expires_at < waiter.deadline:
            return self._overload_problem(waiter, now)
        self._report_refused(waiter)
        ending: Ending = "unknown" if waiter.queue is self._scheduler.polls else "not_run"
        return DeadlineExceeded("The deadline passed before the turn came.", ending=ending)

    def _overload_problem(self, waiter: Waiter, now: float) -> RunError:
        self._report_refused(waiter)
        delay = self._scheduler.estimate_delay(waiter, now)
        if self._scheduler.lacks_slot(waiter):
            delay = max(delay, SLOT_RETRY_AFTER)
        return Overloaded("The turn does not come in time.", retry_after=delay)

    def _report_refused(self, waiter: Waiter) -> None:
        if self._on_decision is not None:
            self._on_decision(waiter.blocker.scope, "refused")
