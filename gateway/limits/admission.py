"""What one run holds of the limits, from its admission until it leaves."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from gateway.errors import RunError
from gateway.limits.contract import HeaderFields
from gateway.limits.queue.fair_queue import Waiter
from gateway.limits.registry import LimiterRegistry
from gateway.limits.shared_limiter import SharedLimiter


class MemoryAdmission:
    """An `Admission` in this process's memory."""

    __slots__ = (
        "_client",
        "_client_limiter",
        "_has_slots",
        "_max_wait",
        "_queue",
        "_registry",
        "_released",
        "_still_wanted",
        "_workflow_limiter",
        "headers",
    )

    def __init__(
        self,
        registry: LimiterRegistry,
        client: str,
        still_wanted: Callable[[], bool] | None = None,
        max_wait: float | None = None,
    ) -> None:
        """Hold nothing yet."""
        self._registry = registry
        self._client = client
        self._client_limiter = registry.client_limiters.get(client)
        self._still_wanted = still_wanted
        self._max_wait = max_wait
        self._has_slots = False  # whether it has its slots of workflow and provider
        self._released = False
        self.headers: HeaderFields = ()

    async def acquire(self, workflow: str, provider: str, *, deadline: float) -> None:
        """Take all that a request needs, now or at its turn. Raises as `Limits.admit`."""
        registry = self._registry
        self._workflow_limiter, self._queue = registry.workflow_limiter(workflow), registry.provider_queue(provider)
        now = registry.monotonic()
        blocker = None
        if deadline > now and self._queue.allow_start(self._workflow_limiter, now):
            problem = self._acquire_all(now)
        else:
            problem = self._client_refusal(now)
            if problem is None:
                blocker = await self._queue.wait_for_start(self._start_waiter(now, deadline))
        if problem is not None:
            raise problem
        self._report_admitted(blocker)

    def bind_adopted(self, workflow: str, provider: str) -> None:
        """See `Limits.follow`."""
        self._client_limiter = None
        self._workflow_limiter, self._queue = (
            self._registry.workflow_limiter(workflow),
            self._registry.provider_queue(provider),
        )

    async def move(self, workflow: str, provider: str, *, deadline: float) -> None:
        """See `Admission.move`."""
        self._release_shared()
        self._workflow_limiter, self._queue = (
            self._registry.workflow_limiter(workflow),
            self._registry.provider_queue(provider),
        )
        now = self._registry.monotonic()
        blocker = None
        if deadline > now and self._queue.allow_start(self._workflow_limiter, now):
            self._acquire_shared(now)
        else:
            blocker = await self._queue.wait_for_start(self._move_waiter(now, deadline))
        self._report_shared(blocker)

    async def admit_retry(self, *, deadline: float) -> None:
        """See `Admission.start_again`."""
        queue, now = self._queue, self._registry.monotonic()
        blocker = None
        if deadline > now and queue.allow_call(now):
            queue.record_call(now)
        else:
            blocker = await queue.wait_for_retry(self._call_waiter(now, deadline))
        self._report(queue.limiter, blocker)

    async def admit_poll(self, *, deadline: float) -> None:
        """See `Admission.poll`."""
        queue, now = self._queue, self._registry.monotonic()
        blocker = None
        if deadline > now and queue.allow_call(now):
            queue.record_call(now)
        else:
            blocker = await queue.wait_for_poll(self._call_waiter(now, deadline))
        self._report(queue.limiter, blocker)

    def release(self) -> None:
        """See `Admission.release`."""
        if self._released:
            return
        self._released = True
        if self._client_limiter is not None:
            self._client_limiter.release()
        self._release_shared()

    def refund(self) -> None:
        """See `Admission.refund`."""
        if self._released:
            return
        if self._client_limiter is not None:
            self._client_limiter.refund()
        if self._has_slots:
            self._workflow_limiter.rate_limiter.refund()
            self._queue.limiter.rate_limiter.refund()
        self.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _client_refusal(self, now: float) -> RunError | None:
        problem = None if self._client_limiter is None else self._client_limiter.refusal(now)
        if problem is not None and self._registry.on_decision is not None:
            self._registry.on_decision("client", "refused")
        return problem

    def _acquire_all(self, now: float) -> RunError | None:
        """Every bucket that a request needs, or none; the lane and the workflow are open."""
        client_limiter = self._client_limiter
        if client_limiter is not None:
            problem = self._client_refusal(now)
            if problem is not None:
                return problem
            client_limiter.acquire(now)
            self.headers = client_limiter.header_fields(now)
        self._acquire_shared(now)
        return None

    def _acquire_shared(self, now: float) -> None:
        self._workflow_limiter.acquire(now)
        self._queue.limiter.acquire(now)
        self._has_slots = True

    def _undo_move(self) -> None:
        self._workflow_limiter.rate_limiter.refund()
        self._queue.limiter.rate_limiter.refund()
        self._release_shared()

    def _release_shared(self) -> None:
        if self._has_slots:
            self._has_slots = False
            self._workflow_limiter.release()
            self._queue.release()

    def _make_waiter(
        self, now: float, deadline: float, acquire: Callable[[float], RunError | None], undo: Callable[[], None]
    ) -> Waiter:
        return Waiter(
            self._client, self._workflow_limiter, now, deadline, acquire, undo, self._check_still_wanted, self._max_wait
        )

    def _start_waiter(self, now: float, deadline: float) -> Waiter:
        return self._make_waiter(now, deadline, self._acquire_all, self.refund)

    def _move_waiter(self, now: float, deadline: float) -> Waiter:
        return self._make_waiter(now, deadline, self._acquire_shared, self._undo_move)

    def _call_waiter(self, now: float, deadline: float) -> Waiter:
        return self._make_waiter(now, deadline, self._queue.record_call, self._queue.cancel_call)

    def _check_still_wanted(self) -> bool:
        return not self._released and (self._still_wanted is None or self._still_wanted())

    def _report_admitted(self, blocker: SharedLimiter | None) -> None:
        if self._registry.on_decision is not None and self._client_limiter is not None:
            self._registry.on_decision("client", "admitted")
        self._report_shared(blocker)

    def _report_shared(self, blocker: SharedLimiter | None) -> None:
        self._report(self._workflow_limiter, blocker)
        self._report(self._queue.limiter, blocker)

    def _report(self, limiter: SharedLimiter, blocker: SharedLimiter | None) -> None:
        if self._registry.on_decision is not None and limiter.limited:
            self._registry.on_decision(limiter.scope, "waited" if limiter is blocker else "admitted")
