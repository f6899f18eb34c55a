"""Admission of one run: the slots that it holds of its client, team, key, workflow and provider, until it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from gateway.errors import ClientDisconnected
from gateway.limits.blocking_scope import blocking_scope
from gateway.limits.client_limiter import ClientLimiter
from gateway.limits.config import HeaderFields, LimitScope
from gateway.limits.counters import BLOCKED, TAKEN, Parts, TakeResult
from gateway.limits.daily_quota import DailyQuota
from gateway.limits.queue.fair_queue import Waiter
from gateway.limits.registry import Callers, LimiterRegistry, StartLimiters
from gateway.limits.resource_limiter import ResourceLimiter


def _header_fields(callers: Callers, now: float) -> HeaderFields:
    """Return the RateLimit fields of all callers, as one list for each name."""
    if len(callers) == 1:
        return callers[0].header_fields(now)
    fields: dict[str, str] = {}
    for caller in callers:
        for name, value in caller.header_fields(now):
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return tuple(fields.items())


class Admission:
    """Admission of one run: the slots and rates that it holds, and the operations to take more.

    At most one wait is in progress; `release` may be called during it. `deadline` is in monotonic seconds in every
    method. `headers`: the RateLimit header fields of the client, its team and its key, empty without limits.
    """

    __slots__ = (
        "_client",
        "_counters",
        "_held",
        "_limiters",
        "_max_wait",
        "_registry",
        "_released",
        "_slot_id",
        "_still_wanted",
        "_wanted",
        "headers",
    )

    def __init__(
        self,
        registry: LimiterRegistry,
        client: str,
        limiters: StartLimiters,
        still_wanted: Callable[[], bool] | None = None,
        max_wait: float | None = None,
    ) -> None:
        """Hold nothing yet."""
        self._registry = registry
        self._counters = registry.counters
        self._client = client
        self._limiters = limiters
        self._still_wanted = still_wanted
        self._max_wait = max_wait
        self._slot_id = registry.counters.new_slot_id()
        self._held: tuple[ClientLimiter | ResourceLimiter, ...] = ()
        self._wanted: tuple[ClientLimiter | ResourceLimiter, ...] = ()
        self._released = False
        self.headers: HeaderFields = ()

    @property
    def held_scopes(self) -> tuple[LimitScope, ...]:
        """Scopes in which a slot is held, for inspection."""
        return tuple(part.scope for part in self._held)

    async def acquire(self, *, deadline: float) -> None:
        """Take all that a start needs, at once or after a wait. Raises as `Limiter.admit`."""
        registry, callers = self._registry, self._limiters.callers
        blocker = await self._take_start(self._limiters.parts, deadline)
        for caller in callers:
            if caller.daily_quota is not None and caller.daily_quota.record_due:
                await self._record_usage(caller.daily_quota)
        if registry.on_decision is not None:
            for caller in callers:
                registry.on_decision(caller.scope, "admitted")
        self._report_start(blocker)

    def try_acquire(self, *, deadline: float) -> bool:
        """Take all that a start needs if that needs no wait and no round trip; returns whether it was taken."""
        callers, workflow, queue, parts, limited_scopes = self._limiters
        now = self._registry.monotonic()
        if deadline <= now or not queue.may_start(workflow, now):
            return False
        for caller in callers:
            if caller.daily_quota is not None and not caller.daily_quota.next_is_recorded(now):
                return False
        if self._counters.try_take(self._slot_id, parts, "take", now) is not TAKEN:
            return False
        self._held = self._wanted = parts
        if callers:
            self.headers = _header_fields(callers, now)
        report = self._registry.on_decision
        if report is not None:
            for scope in limited_scopes:
                report(scope, "admitted")
        return True

    async def move_to_fallback(self, workflow: str, provider: str, *, deadline: float) -> None:
        """Exchange workflow and provider for those of a fallback, maybe after a wait; the client is not charged again.

        Raises as `Limiter.admit`; then the run holds the slots of its client, team and key only.
        """
        callers = self._limiters.callers
        shared = tuple(part for part in self._held if part not in callers)
        self._held = tuple(part for part in self._held if part in callers)
        if shared:
            self._give_back(shared)
        self._limiters = self._registry.of_callers(callers, workflow, provider)
        blocker = await self._take_start((self._limiters.workflow, self._limiters.queue.limiter), deadline)
        self._report_start(blocker)

    async def admit_retry(self, *, deadline: float) -> None:
        """Take one more call of the provider's rate for a retried start; it goes before first starts.

        Raises Overloaded, DeadlineExceeded or ClientDisconnected, with the ending `not_run` (of this attempt).
        """
        await self._take_call(self._limiters.queue.wait_for_retry, deadline)

    async def admit_poll(self, *, deadline: float) -> None:
        """Take one more call of the provider's rate for a poll; it goes after starts.

        A poll is never refused, and goes before starts once it has waited for the provider's `max_wait`, so that the
        end of a run is always seen. Raises DeadlineExceeded, with the ending `unknown`.
        """
        await self._take_call(self._limiters.queue.wait_for_poll, deadline)

    def release(self) -> None:
        """Free every slot. Idempotent."""
        if self._released:
            return
        self._released = True
        held, self._held = self._held, ()
        if held:
            self._counters.give_back(self._slot_id, held, self._limiters.queue.dispatch_if_waiting)

    def refund(self) -> None:
        """Free every slot and give the charges back, because nothing was sent (a circuit breaker is open).

        To be called right after admission only: a later refund would allow an extra burst. Idempotent.
        """
        if self._released:
            return
        self._released = True
        held, self._held = self._held, ()
        if held:
            self._give_back(held, refund=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def _take_start(
        self, parts: tuple[ClientLimiter | ResourceLimiter, ...], deadline: float
    ) -> ResourceLimiter | None:
        """Take `parts`; returns the limiter that the request waited for, or None if it did not wait."""
        registry, counters = self._registry, self._counters
        callers, workflow, queue, *_ = self._limiters
        self._wanted = parts
        while True:
            now = registry.monotonic()
            may_take = deadline > now and queue.may_start(workflow, now)
            result = counters.try_take(self._slot_id, parts, "take" if may_take else "peek", now)
            if not isinstance(result, TakeResult):
                result, now = await result, registry.monotonic()
            if result is TAKEN:
                self._hold_wanted(now)
                return None
            if result is BLOCKED:
                break
        self._raise_if_caller_blocked(now)
        waiter = self._waiter(now, deadline, self._take_start_turn, self._undo_start)
        blocker = queue.limiter if queue.limiter.blocked(now) else workflow
        blocking_scope.set(blocker.scope)
        for caller in callers:
            caller.waiting += 1
        try:
            return await queue.wait_for_start(waiter)
        finally:
            for caller in callers:
                caller.waiting -= 1

    async def _record_usage(self, quota: DailyQuota) -> None:
        """Wait until the store counts the request, so that a crash does not renew the quota."""
        recorder = self._registry.usage_recorder
        if recorder is None:
            return
        try:
            await recorder.record(quota)
        except BaseException:
            self.refund()
            raise

    async def _take_call(self, wait: Callable[[Waiter], Awaitable[ResourceLimiter]], deadline: float) -> None:
        registry, queue = self._registry, self._limiters.queue
        now = registry.monotonic()
        while deadline > now and queue.may_call(now):
            result = self._counters.try_take(self._slot_id, queue.call_parts, "take", now)
            if not isinstance(result, TakeResult):
                result, now = await result, registry.monotonic()
            if result is TAKEN:
                self._report(queue.limiter, None)
                return
            if result is BLOCKED:
                break
        blocking_scope.set("provider")
        blocker = await wait(self._waiter(now, deadline, self._take_call_turn, self._undo_call))
        self._report(queue.limiter, blocker)

    def _waiter(
        self,
        now: float,
        deadline: float,
        try_take: Callable[[float], TakeResult | Awaitable[TakeResult]],
        undo: Callable[[], None],
    ) -> Waiter:
        return Waiter(
            self._client, self._limiters.workflow, now, deadline, try_take, undo, self._is_wanted, self._max_wait
        )

    def _take_start_turn(self, now: float) -> TakeResult | Awaitable[TakeResult]:
        attempt = self._counters.try_take(self._slot_id, self._wanted, "reserve", now)
        if isinstance(attempt, TakeResult):
            return self._finish_start_turn(attempt, now)
        return self._await_start_turn(attempt)

    async def _await_start_turn(self, attempt: Awaitable[TakeResult]) -> TakeResult:
        return self._finish_start_turn(await attempt, self._registry.monotonic())

    def _finish_start_turn(self, result: TakeResult, now: float) -> TakeResult:
        """Hold what was taken. Raises RateLimited if only the limits of the client, its team or its key block."""
        if result is TAKEN:
            self._hold_wanted(now)
        elif result is BLOCKED and not (
            self._limiters.queue.limiter.blocked(now) or self._limiters.workflow.blocked(now)
        ):
            self._raise_if_caller_blocked(now)
        return result

    def _take_call_turn(self, now: float) -> TakeResult | Awaitable[TakeResult]:
        return self._counters.try_take(self._slot_id, self._limiters.queue.call_parts, "reserve", now)

    def _hold_wanted(self, now: float) -> None:
        """Hold the parts that were taken. Raises ClientDisconnected if the run was released during the round trip."""
        if self._released:
            self._give_back(self._wanted, refund=True)
            raise ClientDisconnected
        self._held += self._wanted
        if self._limiters.callers and self._wanted[0] is self._limiters.callers[0]:
            self.headers = _header_fields(self._limiters.callers, now)

    def _undo_start(self) -> None:
        """Give back what a start took whose task was cancelled at the same time."""
        if not self._released:
            self._held = tuple(part for part in self._held if part not in self._wanted)
            self._give_back(self._wanted, refund=True)

    def _undo_call(self) -> None:
        self._give_back(self._limiters.queue.call_parts, refund=True)

    def _give_back(self, parts: Parts, *, refund: bool = False) -> None:
        self._counters.give_back(self._slot_id, parts, self._limiters.queue.dispatch_if_waiting, refund=refund)

    def _is_wanted(self) -> bool:
        return not self._released and (self._still_wanted is None or self._still_wanted())

    def _raise_if_caller_blocked(self, now: float) -> None:
        for caller in self._limiters.callers:
            if caller not in self._wanted:  # of a fallback, which takes from the workflow and the provider alone
                return
            refusal = caller.refusal(now)
            if refusal is not None:
                blocking_scope.set(caller.scope)
                if self._registry.on_decision is not None:
                    self._registry.on_decision(caller.scope, "refused")
                raise refusal

    def _report_start(self, blocker: ResourceLimiter | None) -> None:
        self._report(self._limiters.workflow, blocker)
        self._report(self._limiters.queue.limiter, blocker)

    def _report(self, limiter: ResourceLimiter, blocker: ResourceLimiter | None) -> None:
        if self._registry.on_decision is not None and limiter.limited:
            self._registry.on_decision(limiter.scope, "waited" if limiter is blocker else "admitted")
