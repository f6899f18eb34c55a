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
        self._clock = clock
        self.accounts: dict[str, Account] = {}
        self._workflows: dict[str, Gate] = {}
        self._lanes: dict[str, Lane] = {}
        self._open_gate = Gate("workflow", SharedLimits())
        self._open_lane = self._lane(SharedLimits())
        self.reconfigure(clients=clients, workflows=workflows, providers=providers)

    def reconfigure(
        self,
        *,
        clients: Mapping[str, ClientLimits],
        workflows: Mapping[str, SharedLimits],
        providers: Mapping[str, SharedLimits],
    ) -> None:
        """Other limits. What stays keeps its state and who waits its place; what goes limits nobody any more."""
        now, clock = self.monotonic(), self._clock
        accounts, gates, lanes = self.accounts, self._workflows, self._lanes
        limited = {name: limits for name, limits in clients.items() if limits != ClientLimits()}
        self.accounts = {name: accounts.get(name) or Account(limits, clock) for name, limits in limited.items()}
        self._workflows = {name: gates.get(name) or Gate("workflow", limits) for name, limits in workflows.items()}
        self._lanes = {name: lanes.get(name) or self._lane(limits) for name, limits in providers.items()}
        for name, account in accounts.items():
            account.reconfigure(limited.get(name, ClientLimits()), now)
        for name, gate in gates.items():
            gate.reconfigure(workflows.get(name, SharedLimits()), now)
        for name, lane in lanes.items():  # last: whoever waits may go now
            lane.reconfigure(providers.get(name, SharedLimits()))

    def _lane(self, limits: SharedLimits) -> Lane:
        return Lane(limits, self._clock, self.decided)

    def workflow(self, name: str) -> Gate:
        """What the workflow may take."""
        return self._workflows.get(name, self._open_gate)

    def lane(self, provider: str) -> Lane:
        """The way to the provider."""
        return self._lanes.get(provider, self._open_lane)
