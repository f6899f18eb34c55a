"""What one run holds of limits that replicas share, from its admission until it leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from gateway.errors import ClientDisconnected, RunError
from gateway.limits.admission import MemoryAdmission
from gateway.limits.queue.fair_queue import Waiter
from gateway.limits.redis.counters import AcquireMode, RedisCounter
from gateway.limits.redis.provider_queue import RedisProviderQueue, RemoteWaiter
from gateway.limits.redis.registry import RedisRegistry
from gateway.limits.shared_limiter import SharedLimiter
from gateway.redis.errors import RedisUnavailable


class RedisAdmission(MemoryAdmission):
    """An `Admission` that the server counts; where that is lost, this process does."""

    __slots__ = ("_counters", "_redis_registry", "_slot_id")

    def __init__(
        self,
        registry: RedisRegistry,
        client: str,
        still_wanted: Callable[[], bool] | None = None,
        max_wait: float | None = None,
    ) -> None:
        """Hold nothing yet."""
        super().__init__(registry, client, still_wanted, max_wait)
        self._redis_registry = registry
        self._counters = registry.counters
        self._slot_id = registry.counters.new_slot_id()

    async def acquire(self, workflow: str, provider: str, *, deadline: float) -> None:
        """See `Hold.enter`: one round trip, where anything is limited and nobody waits."""
        registry = self._redis_registry
        self._workflow_limiter, self._queue = registry.workflow_limiter(workflow), registry.provider_queue(provider)
        counters = self._all_counters()
        taken = await self._try_acquire_now(deadline, counters) if counters else None
        if taken is None:
            await super().acquire(workflow, provider, deadline=deadline)
            return
        blocker = None
        if taken:
            self._mark_admitted()
        else:
            now = registry.monotonic()
            problem = self._client_refusal(now)
            if problem is not None:
                raise problem
            blocker = await self._queue.wait_for_start(self._start_waiter(now, deadline))
        self._report_admitted(blocker)

    async def move(self, workflow: str, provider: str, *, deadline: float) -> None:
        """See `Admission.move`."""
        registry = self._redis_registry
        self._release_shared()
        self._workflow_limiter, self._queue = registry.workflow_limiter(workflow), registry.provider_queue(provider)
        counters = self._shared_counters()
        taken = await self._try_acquire_now(deadline, counters) if counters else None
        if taken is None:
            await super().move(workflow, provider, deadline=deadline)
            return
        blocker = None
        if not taken:
            blocker = await self._queue.wait_for_start(self._move_waiter(registry.monotonic(), deadline))
        elif self._released:  # while it asked
            self._counters.release(self._slot_id, self._shared_counters())
            raise _client_gone_problem()
        self._has_slots = True
        self._report_shared(blocker)

    async def admit_retry(self, *, deadline: float) -> None:
        """See `Admission.start_again`."""
        if not await self._acquire_call(deadline, self._queue.wait_for_retry):
            await super().admit_retry(deadline=deadline)

    async def admit_poll(self, *, deadline: float) -> None:
        """See `Admission.poll`."""
        if not await self._acquire_call(deadline, self._queue.wait_for_poll):
            await super().admit_poll(deadline=deadline)

    def release(self) -> None:
        """See `Admission.release`."""
        if self._released:
            return
        held = self._counters.held_slots(self._slot_id)
        if self._counters.connected and held:
            self._released, self._has_slots = True, False
            self._counters.release_slots(self._slot_id, held, self._queue.dispatch)
        else:
            super().release()
            self._counters.untrack(self._slot_id, held)

    def refund(self) -> None:
        """See `Admission.refund`."""
        if self._released:
            return
        if not self._counters.connected:
            super().refund()
            return
        charged = self._all_counters() if self._has_slots else self._redis_registry.counters_of(self._client_limiter)
        self._released, self._has_slots = True, False
        self._release_counters((*_without_slots(charged), *self._counters.held_slots(self._slot_id)))

    async def _acquire_call(self, deadline: float, wait: Callable[[Waiter], Awaitable[SharedLimiter]]) -> bool:
        """Make one more call in the provider's rate, perhaps after a wait; False where the server does not count it."""
        counters, now = self._redis_registry.rate_counters(self._queue.limiter), self._registry.monotonic()
        if not counters or not self._counters.connected:
            return False
        blocker, taken = None, False
        if deadline > now and self._redis_queue.is_next_call(now):
            try:
                taken = await self._try_acquire("take", counters)
            except RedisUnavailable:
                return False
        if not taken:
            blocker = await wait(self._call_waiter(self._registry.monotonic(), deadline))
        self._report(self._queue.limiter, blocker)
        return True

    @property
    def _redis_queue(self) -> RedisProviderQueue:
        return cast("RedisProviderQueue", self._queue)

    def _all_counters(self) -> tuple[RedisCounter, ...]:
        return self._redis_registry.counters_of(self._client_limiter, self._workflow_limiter, self._queue.limiter)

    def _shared_counters(self) -> tuple[RedisCounter, ...]:
        return self._redis_registry.counters_of(self._workflow_limiter, self._queue.limiter)

    def _held_shared_slots(self) -> tuple[RedisCounter, ...]:
        return tuple(counter for counter in self._counters.held_slots(self._slot_id) if counter.counts_shared_slots)

    async def _try_acquire_now(self, deadline: float, counters: tuple[RedisCounter, ...]) -> bool | None:
        """Whether the server lets it in now, before nobody who waits here; None where there is no server."""
        if not self._counters.connected:
            return None
        now = self._registry.monotonic()
        mode: AcquireMode = (
            "take" if deadline > now and self._redis_queue.is_next_start(self._workflow_limiter, now) else "peek"
        )
        try:
            return await self._try_acquire(mode, counters)
        except RedisUnavailable:
            return None

    async def _try_acquire(self, mode: AcquireMode, counters: tuple[RedisCounter, ...]) -> bool:
        return await self._counters.try_acquire(mode, self._slot_id, counters)

    def _mark_admitted(self) -> None:
        self._has_slots = True
        if self._client_limiter is not None:
            self.headers = self._client_limiter.header_fields(self._registry.monotonic())

    def _acquire_all(self, now: float) -> RunError | None:
        problem = super()._acquire_all(now)
        if problem is None:
            self._counters.track(self._slot_id, self._redis_registry.counters_of(self._client_limiter))
        return problem

    def _acquire_shared(self, now: float) -> None:
        super()._acquire_shared(now)
        self._counters.track(self._slot_id, self._shared_counters())

    def _undo_move(self) -> None:
        if not self._counters.connected:
            super()._undo_move()
            return
        self._has_slots = False
        self._release_counters((*_without_slots(self._shared_counters()), *self._held_shared_slots()))

    def _release_shared(self) -> None:
        if not self._has_slots:
            return
        if self._counters.connected:
            self._has_slots = False
            self._counters.release_slots(self._slot_id, self._held_shared_slots(), self._queue.dispatch)
        else:
            self._counters.untrack(self._slot_id, self._held_shared_slots())
            super()._release_shared()

    def _cancel_call(self) -> None:
        if self._counters.connected:
            self._release_counters(self._redis_registry.rate_counters(self._queue.limiter))
        else:
            self._queue.cancel_call()

    def _release_counters(self, counters: tuple[RedisCounter, ...]) -> None:
        self._counters.release(self._slot_id, counters, self._queue.dispatch)

    def _start_waiter(self, now: float, deadline: float) -> Waiter:
        return self._remote_waiter(super()._start_waiter(now, deadline), self.refund, self._try_start)

    def _move_waiter(self, now: float, deadline: float) -> Waiter:
        return self._remote_waiter(super()._move_waiter(now, deadline), self._undo_move, self._try_move)

    def _call_waiter(self, now: float, deadline: float) -> Waiter:
        return self._remote_waiter(super()._call_waiter(now, deadline), self._cancel_call, self._try_call)

    def _remote_waiter(
        self, waiter: Waiter, undo: Callable[[], None], try_acquire: Callable[[], Awaitable[bool | RunError]]
    ) -> Waiter:
        return RemoteWaiter(
            waiter.client,
            waiter.workflow,
            waiter.arrived_at,
            waiter.deadline,
            waiter.acquire,
            undo,
            waiter.still_wanted,
            waiter.max_wait,
            try_acquire=try_acquire,
        )

    async def _try_start(self) -> bool | RunError:
        if await self._try_acquire("reserve", self._all_counters()):
            self._mark_admitted()
            return True
        now = self._registry.monotonic()
        if self._queue.limiter.blocked(now) or self._workflow_limiter.blocked(now):
            return False  # its turn has not come; what its client may take counts then
        return self._client_refusal(now) or False

    async def _try_move(self) -> bool | RunError:
        if not await self._try_acquire("reserve", self._shared_counters()):
            return False
        if self._released:  # while it asked
            self._counters.release(self._slot_id, self._shared_counters())
            return _client_gone_problem()
        self._has_slots = True
        return True

    async def _try_call(self) -> bool:
        return await self._try_acquire("reserve", self._redis_registry.rate_counters(self._queue.limiter))


def _without_slots(counters: tuple[RedisCounter, ...]) -> tuple[RedisCounter, ...]:
    return tuple(counter for counter in counters if counter.kind != "slots")


def _client_gone_problem() -> RunError:
    return ClientDisconnected()
