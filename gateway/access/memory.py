"""Limits that are counted in this process's memory: exact, and a few microseconds a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.access.hold import Hold
from gateway.access.limits import ClientLimits, Decided, SharedLimits
from gateway.access.state import State
from gateway.clock import Clock


class MemoryLimits:
    """`Limits` for one process."""

    def __init__(
        self,
        clock: Clock,
        *,
        clients: Mapping[str, ClientLimits],
        workflows: Mapping[str, SharedLimits],
        providers: Mapping[str, SharedLimits],
        decided: Decided | None = None,
    ) -> None:
        """By the names of the configuration; what is missing has no limits. A workflow belongs to one provider."""
        self._state = State(clock, clients=clients, workflows=workflows, providers=providers, decided=decided)

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
        wanted: Callable[[], bool] | None = None,
        patience: float | None = None,
    ) -> Hold:
        """See `Limits.admit`."""
        hold = Hold(self._state, client, wanted, patience)
        await hold.enter(workflow, provider, deadline=deadline)
        return hold

    def follow(self, client: str, workflow: str, provider: str) -> Hold:
        """See `Limits.follow`."""
        hold = Hold(self._state, client)
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
        self._state.reconfigure(clients=clients, workflows=workflows, providers=providers)

    def waiting(self, provider: str) -> int:
        """How many starts and calls wait for the provider."""
        return self._state.lane(provider).waiting

    def running(self, provider: str) -> int:
        """How many runs hold a slot of the provider."""
        return self._state.lane(provider).gate.in_flight
