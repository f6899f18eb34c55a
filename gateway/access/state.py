"""What is counted, by name: every client's account, workflow's gate and provider's lane."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.access.account import Account
from gateway.access.gate import Gate
from gateway.access.lane import Lane
from gateway.access.limits import ClientLimits, Decided, SharedLimits
from gateway.clock import Clock


class State:
    """As large as the configuration, whatever names requests hold (R90). What has no limits shares one open gate."""

    def __init__(
        self,
        clock: Clock,
        *,
        clients: Mapping[str, ClientLimits],
        workflows: Mapping[str, SharedLimits],
        providers: Mapping[str, SharedLimits],
        decided: Decided | None,
    ) -> None:
        self.monotonic = clock.monotonic
        self.decided = decided
        self.accounts = {name: Account(limits, clock) for name, limits in clients.items() if limits != ClientLimits()}
        self._workflows = {name: Gate("workflow", limits) for name, limits in workflows.items()}
        self._lanes = {name: Lane(limits, clock, decided) for name, limits in providers.items()}
        self._open_gate = Gate("workflow", SharedLimits())
        self._open_lane = Lane(SharedLimits(), clock, decided)

    def workflow(self, name: str) -> Gate:
        """What the workflow may take."""
        return self._workflows.get(name, self._open_gate)

    def lane(self, provider: str) -> Lane:
        """The way to the provider."""
        return self._lanes.get(provider, self._open_lane)
