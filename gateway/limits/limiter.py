"""Rate limiter of the gateway: admits requests by the limits of their client, workflow and provider.

The limits of a client, of its team and of its key refuse at once (`RateLimited`). The limits of a workflow and of a
provider protect the account behind them and shape the traffic: a request waits in a fair queue, as long as its deadline
and `max_wait` allow. A request takes every part (rates, daily quotas, slots) at once or none, holds nothing while it
waits, and a refusal costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.clock import Clock
from gateway.limits.admission import Admission
from gateway.limits.config import KeyLimits, LimiterSnapshot, LimitsConfig, OnDecision
from gateway.limits.counters import Counters, LocalCounters
from gateway.limits.daily_usage import DailyUsageRecorder
from gateway.limits.registry import LimiterRegistry


class Limiter:
    """Limits of all clients, workflows and providers, counted in this process or, by `counters`, for all replicas."""

    def __init__(
        self,
        clock: Clock,
        config: LimitsConfig,
        *,
        counters: Counters | None = None,
        on_decision: OnDecision | None = None,
    ) -> None:
        self._counters: Counters = LocalCounters() if counters is None else counters
        self._registry = LimiterRegistry(clock, config, self._counters, on_decision)

    async def open(self) -> None:
        """Start, in a running loop. Nothing is raised: limits that cannot be shared hold for this process."""
        await self._counters.open()

    async def record_usage(self, recorder: DailyUsageRecorder) -> None:
        """Restore the usage of daily quotas from a store, and record it there. Raises the store's exception."""
        await recorder.open()
        self._registry.record_usage(recorder)

    async def store_usage(self) -> None:
        """Store the exact usage of daily quotas, while the store is open; what is taken later is recorded as before."""
        if self._registry.usage_recorder is not None:
            await self._registry.usage_recorder.close()

    async def close(self) -> None:
        """Stop. Slots that are still held are freed at once, or when their leases end."""
        await self._counters.close()

    async def admit(
        self,
        client: str,
        workflow: str,
        provider: str,
        *,
        deadline: float,
        still_wanted: Callable[[], bool] | None = None,
        max_wait: float | None = None,
        key_limits: KeyLimits | None = None,
    ) -> Admission:
        """Admit a request at once, or after a wait in the provider's queue.

        `deadline`: monotonic seconds. `still_wanted` is called when the request would be admitted after a wait; False
        (the client has disconnected) drops it. `max_wait`: seconds that a start (this one, a fallback's or a retried
        one) may wait; None: as the limits configure. Background requests (`max_wait` given) and interactive requests of
        one client are served alternately. `key_limits`: of the key, in addition to those of the client and its team.

        Raises RateLimited if the limits of the client, its team or its key refuse, with their header fields; Overloaded
        if the wait would be too long or the queue is full; DeadlineExceeded; ClientDisconnected. `retry_after` is exact
        if a rate or a daily quota decides, and 1 second if a slot does.
        """
        limiters = self._registry.of_start(client, workflow, provider, key_limits)
        admission = Admission(self._registry, client, limiters, still_wanted, max_wait)
        await admission.acquire(deadline=deadline)
        return admission

    def try_admit(
        self,
        client: str,
        workflow: str,
        provider: str,
        *,
        deadline: float,
        still_wanted: Callable[[], bool] | None = None,
        max_wait: float | None = None,
        key_limits: KeyLimits | None = None,
    ) -> Admission | None:
        """Admit a request as `admit` does if that needs no wait and no round trip; None otherwise, with no effect.

        Most requests are admitted so, without a coroutine.
        """
        if self._counters.shared:
            return None
        limiters = self._registry.of_start(client, workflow, provider, key_limits)
        admission = Admission(self._registry, client, limiters, still_wanted, max_wait)
        return admission if admission.try_acquire(deadline=deadline) else None

    def admit_adopted(self, client: str, workflow: str, provider: str) -> Admission:
        """Return the admission of a run that an earlier process started.

        It is never refused and takes no slot, because the run continues at its provider anyway. Only polls count.
        """
        return Admission(self._registry, client, self._registry.of_callers((), workflow, provider))

    def reconfigure(self, config: LimitsConfig) -> None:
        """Apply other limits. Names that remain keep usage and waiting requests; removed names stop limiting."""
        self._registry.reconfigure(config)

    def waiting(self, provider: str) -> int:
        """Return the number of starts and polls of this process that wait for the provider."""
        return self._registry.queue(provider).waiting

    def running(self, provider: str) -> int:
        """Return the number of slots of the provider in use; with shared counters, over all replicas as last known."""
        return self._registry.queue(provider).limiter.in_flight

    def snapshot(self) -> LimiterSnapshot:
        """Return the state of all configured limits."""
        registry, counters = self._registry, self._counters
        return LimiterSnapshot(
            clients={name: client.in_flight for name, client in registry.clients.items()},
            teams={name: team.in_flight for name, team in registry.teams.items()},
            workflows={name: workflow.in_flight for name, workflow in registry.workflows.items()},
            providers={name: queue.limiter.in_flight for name, queue in registry.queues.items()},
            waiting={name: queue.waiting for name, queue in registry.queues.items()},
            timers=sum(queue.timer_running for queue in registry.queues.values()),
            shared=counters.shared,
            replicas=counters.replica_count,
        )
