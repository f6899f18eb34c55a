"""Limits that replicas share: counted by a Redis or Valkey server, one round trip a request.

What holds over all replicas: every rate, day and number of slots. What each replica does for itself: its waiting lines,
fair between its clients. When the server is lost, each replica goes on with its share of every limit, by the number of
replicas that were last known, until the server is back; nobody waits for it longer than the link's patience.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.limits.contract import ClientLimitsConfig, OnDecision, SharedLimitsConfig
from gateway.limits.redis.admission import RedisAdmission
from gateway.limits.redis.counters import RedisCounters
from gateway.limits.redis.registry import LimitsConfig, RedisRegistry
from gateway.redis.pipeline import ScriptConnection


class RedisLimiter:
    """`Limits` for replicas."""

    def __init__(
        self,
        connection: ScriptConnection,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        clients: Mapping[str, ClientLimitsConfig],
        workflows: Mapping[str, SharedLimitsConfig],
        providers: Mapping[str, SharedLimitsConfig],
        on_decision: OnDecision | None = None,
        on_shared_change: Callable[[int], None] = lambda _: None,
        lease: float = 30.0,
        server_time: bool = True,
    ) -> None:
        """By the names of the configuration, as `MemoryLimits`. `told` hears 1 where the limits are shared, else 0.

        The slots of a replica that says nothing for `lease` seconds are free again.

        The server's time is used, so that clocks of replicas may differ; `clock`'s only in tests.
        """
        self._log = log
        self._on_shared_change = on_shared_change
        self._counters = RedisCounters(connection, clock, lease=lease, server_time=server_time)
        self._counters.on_change = self._on_connection_change
        self._registry = RedisRegistry(clock, self._counters, LimitsConfig(clients, workflows, providers), on_decision)

    async def open(self) -> None:
        """Look for the server; where it is not there, the limits hold for this replica alone."""
        await self._counters.open()
        if not self._counters.connected:
            self._on_connection_change()

    async def close(self) -> None:
        """Say good-bye. Slots that are still held come back when their leases end."""
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
    ) -> RedisAdmission:
        """See `Limits.admit`."""
        admission = RedisAdmission(self._registry, client, still_wanted, max_wait)
        await admission.acquire(workflow, provider, deadline=deadline)
        return admission

    def admit_adopted(self, client: str, workflow: str, provider: str) -> RedisAdmission:
        """See `Limits.follow`."""
        admission = RedisAdmission(self._registry, client)
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
        self._registry.apply_config(LimitsConfig(clients, workflows, providers))

    def waiting(self, provider: str) -> int:
        """How many starts and calls of this replica wait for the provider."""
        return self._registry.provider_queue(provider).waiting

    def running(self, provider: str) -> int:
        """How many runs of all replicas hold a slot of the provider, as far as was last heard."""
        return self._registry.provider_queue(provider).limiter.in_flight

    def _on_connection_change(self) -> None:
        self._registry.on_connection_change()
        self._on_shared_change(int(self._counters.connected))
        if self._counters.connected:
            self._log.info("limits_shared", replicas=self._counters.replica_count)
        else:
            self._log.warning("limits_local", replicas=self._counters.replica_count)
