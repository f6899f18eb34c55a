"""Limits that are counted in this process's memory: exact, and a few microseconds a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.clock import Clock
from gateway.limits.admission import MemoryAdmission
from gateway.limits.contract import ClientLimitsConfig, OnDecision, SharedLimitsConfig
from gateway.limits.registry import LimiterRegistry


class MemoryLimiter:
    """`Limits` for one process."""

    def __init__(
        self,
        clock: Clock,
        *,
        clients: Mapping[str, ClientLimitsConfig],
        workflows: Mapping[str, SharedLimitsConfig],
        providers: Mapping[str, SharedLimitsConfig],
        on_decision: OnDecision | None = None,
    ) -> None:
        """By the names of the configuration; what is missing has no limits. A workflow belongs to one provider."""
        self._registry = LimiterRegistry(
            clock, clients=clients, workflows=workflows, providers=providers, on_decision=on_decision
        )

    async def open(self) -> None:
        """See `Limits.open`: it is at once."""

    async def close(self) -> None:
        """See `Limits.close`."""

    async def admit(
        self,
        client: str,
        workflow: str,
        provider: str,
        *,
        deadline: float,
        still_wanted: Callable[[], bool] | None = None,
        max_wait: float | None = None,
    ) -> MemoryAdmission:
        """See `Limits.admit`."""
        admission = MemoryAdmission(self._registry, client, still_wanted, max_wait)
        await admission.acquire(workflow, provider, deadline=deadline)
        return admission

    def admit_adopted(self, client: str, workflow: str, provider: str) -> MemoryAdmission:
        """See `Limits.follow`."""
        admission = MemoryAdmission(self._registry, client)
        admission.bind_adopted(workflow, provider)
        return admission

    def reconfigure(
        self,
        *,
        clients: Mapping[str, ClientLimitsConfig],
        workflows: Mapping[str, SharedLimitsConfig],
        providers: Mapping[str, SharedLimitsConfig],
    ) -> None:
        """See `Limits.reconfigure`."""
        self._registry.reconfigure(clients=clients, workflows=workflows, providers=providers)

    def waiting(self, provider: str) -> int:
        """How many starts and calls wait for the provider."""
        return self._registry.provider_queue(provider).waiting

    def running(self, provider: str) -> int:
        """How many runs hold a slot of the provider."""
        return self._registry.provider_queue(provider).limiter.in_flight
