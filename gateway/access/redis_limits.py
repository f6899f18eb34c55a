"""Limits that replicas share: counted by a Redis or Valkey server, one round trip a request.

What holds over all replicas: every rate, day and number of slots. What each replica does for itself: its waiting lines,
fair between its clients. When the server is lost, each replica goes on with its share of every limit, by the number of
replicas that were last known, until the server is back; nobody waits for it longer than the link's patience.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger

from gateway.access.limits import ClientLimits, Decided, SharedLimits
from gateway.access.redis_hold import SharedHold
from gateway.access.redis_ledger import Ledger
from gateway.access.redis_server import Link, Speaker
from gateway.access.redis_state import Configured, SharedState
from gateway.clock import Clock


class RedisLimits:
    """`Limits` for replicas."""

    def __init__(
        self,
        link: Link,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        clients: Mapping[str, ClientLimits],
        workflows: Mapping[str, SharedLimits],
        providers: Mapping[str, SharedLimits],
        decided: Decided | None = None,
        told: Callable[[int], None] = lambda _: None,
        lease: float = 30.0,
        server_time: bool = True,
    ) -> None:
        """By the names of the configuration, as `MemoryLimits`. `told` hears 1 where the limits are shared, else 0.

        The slots of a replica that says nothing for `lease` seconds are free again.

        The server's time is used, so that clocks of replicas may differ; `clock`'s only in tests.
        """
        self._log = log
        self._told = told
        self._ledger = Ledger(Speaker(link), clock, lease=lease, server_time=server_time)
        self._ledger.changed = self._changed
        self._state = SharedState(clock, self._ledger, Configured(clients, workflows, providers), decided)

    async def open(self) -> None:
        """Look for the server; where it is not there, the limits hold for this replica alone."""
        await self._ledger.open()
        if not self._ledger.shared:
            self._changed()

    async def close(self) -> None:
        """Say good-bye. Slots that are still held come back when their leases end."""
        await self._ledger.close()

    async def admit(
        self,
        client: str,
        workflow: str,
        provider: str,
        *,
        deadline: float,
        wanted: Callable[[], bool] | None = None,
        patience: float | None = None,
    ) -> SharedHold:
        """See `Limits.admit`."""
        hold = SharedHold(self._state, client, wanted, patience)
        await hold.enter(workflow, provider, deadline=deadline)
        return hold

    def follow(self, client: str, workflow: str, provider: str) -> SharedHold:
        """See `Limits.follow`."""
        hold = SharedHold(self._state, client)
        hold.follow(workflow, provider)
        return hold

    def reconfigure(
        self,
        *,
        clients: Mapping[str, ClientLimits],
        workflows: Mapping[str, SharedLimits],
        providers: Mapping[str, SharedLimits],
    ) -> None:
        """See `Limits.reconfigure`."""
        self._state.configure(Configured(clients, workflows, providers))

    def waiting(self, provider: str) -> int:
        """How many starts and calls of this replica wait for the provider."""
        return self._state.lane(provider).waiting

    def running(self, provider: str) -> int:
        """How many runs of all replicas hold a slot of the provider, as far as was last heard."""
        return self._state.lane(provider).gate.in_flight

    def _changed(self) -> None:
        self._state.server_changed()
        self._told(int(self._ledger.shared))
        if self._ledger.shared:
            self._log.info("limits_shared", replicas=self._ledger.replicas)
        else:
            self._log.warning("limits_local", replicas=self._ledger.replicas)
