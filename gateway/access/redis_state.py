"""What replicas count together, by name: mirrors of what the server counts, which stand in for it when it is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from gateway.access.account import Account
from gateway.access.daily import DailyQuota
from gateway.access.gate import Gate
from gateway.access.gcra import Bucket
from gateway.access.limits import ClientLimits, Decided, Rate, SharedLimits
from gateway.access.redis_lane import SharedLane
from gateway.access.redis_ledger import KEYS, Ledger, Part
from gateway.access.state import State
from gateway.clock import Clock


@dataclass(frozen=True, slots=True)
class Configured:
    """All limits, by name."""

    clients: Mapping[str, ClientLimits]
    workflows: Mapping[str, SharedLimits]
    providers: Mapping[str, SharedLimits]

    def share(self, replicas: int) -> Configured:
        """What one of so many replicas may take for itself: of each rate, burst, day and number of slots, its part."""
        if replicas == 1:
            return self
        return Configured(
            {name: _client_share(limits, replicas) for name, limits in self.clients.items()},
            {name: _share(limits, replicas) for name, limits in self.workflows.items()},
            {name: _share(limits, replicas) for name, limits in self.providers.items()},
        )


class SharedState(State):
    """Accounts, gates and lanes that mirror the server's counts; while it is lost, they count for themselves."""

    def __init__(self, clock: Clock, ledger: Ledger, limits: Configured, decided: Decided | None) -> None:
        self.ledger = ledger
        self._parts: dict[Account | Gate, tuple[Part, ...]] = {}
        self._found: dict[tuple[Account | Gate | None, ...], tuple[Part, ...]] = {}
        self._configured = limits
        super().__init__(
            clock, clients=limits.clients, workflows=limits.workflows, providers=limits.providers, decided=decided
        )
        self._name_parts()

    def configure(self, limits: Configured) -> None:
        """Other limits: see `Limits.reconfigure`."""
        self._configured = limits
        force = limits if self.ledger.shared else limits.share(self.ledger.replicas)
        self.reconfigure(clients=force.clients, workflows=force.workflows, providers=force.providers)
        self._name_parts()
        self.pump()

    def parts(self, *of: Account | Gate | None) -> tuple[Part, ...]:
        """The buckets of these."""
        found = self._found.get(of)
        if found is None:
            found = tuple(part for one in of if one is not None for part in self._parts.get(one, ()))
            if all(one is None or one in self._parts for one in of):  # so it is bounded by the configuration
                self._found[of] = found
        return found

    def rate(self, gate: Gate) -> tuple[Part, ...]:
        """The rate of a gate alone: what a call of a run that has its slot takes."""
        return tuple(part for part in self._parts.get(gate, ()) if part.kind == "rate")

    def pump(self) -> None:
        """Let everybody go whose turn has come."""
        for lane in self._lanes.values():
            lane.pump()

    def lane(self, provider: str) -> SharedLane:
        """The way to the provider."""
        return cast("SharedLane", super().lane(provider))

    def _lane(self, limits: SharedLimits) -> SharedLane:
        return SharedLane(limits, self._clock, self.decided, self.ledger)

    def server_changed(self) -> None:
        """From now on other limits hold. Counting for itself, a replica knows of its own slots only."""
        for one, parts in self._parts.items():
            one.in_flight = sum(self.ledger.own(part.key) for part in parts if part.kind == "slots")
        self.configure(self._configured)

    def _name_parts(self) -> None:
        self._found = {}
        self._parts = {account: _of_account(name, account) for name, account in self.accounts.items()}
        for gates in (self._workflows, {name: lane.gate for name, lane in self._lanes.items()}):
            self._parts |= {gate: _of_gate(name, gate) for name, gate in gates.items()}
        self._parts |= dict.fromkeys((self._open_gate, self._open_lane.gate), ())


def _of_account(name: str, account: Account) -> tuple[Part, ...]:
    key = f"{KEYS}client:{name}:"
    daily = [] if account.daily is None else [_daily(key, account.daily)]
    return (*_rate(key, account.rate), *daily, *_slots(key, account, fair=0))


def _of_gate(name: str, gate: Gate) -> tuple[Part, ...]:
    key = f"{KEYS}{gate.scope}:{name}:"
    return (*_rate(key, gate.bucket), *_slots(key, gate, fair=1))


def _rate(key: str, bucket: Bucket) -> list[Part]:
    def see(now: float, word: str) -> None:
        bucket.mirror(now + float(word))

    return [Part(key + "rate", "rate", (bucket.interval, bucket.tolerance), see)] if bucket.limited else []


def _daily(key: str, quota: DailyQuota) -> Part:
    def see(now: float, word: str) -> None:
        used, _, left = word.partition(" ")
        quota.mirror(int(float(used)), now + float(left))

    return Part(key + "daily", "daily", (quota.limit, 0), see)


def _slots(key: str, of: Account | Gate, *, fair: int) -> list[Part]:
    def see(_: float, word: str) -> None:
        of.in_flight = int(float(word))

    return [Part(key + "slots", "slots", (of.capacity, fair), see)] if of.capacity < math.inf else []


def _client_share(limits: ClientLimits, replicas: int) -> ClientLimits:
    rate, burst = _rate_share(limits.rate, limits.burst, replicas)
    slots, daily = _count_share(limits.concurrency, replicas), _count_share(limits.daily, replicas)
    return ClientLimits(rate, burst, slots, daily)


def _share(limits: SharedLimits, replicas: int) -> SharedLimits:
    rate, burst = _rate_share(limits.rate, limits.burst, replicas)
    return replace(limits, rate=rate, burst=burst, concurrency=_count_share(limits.concurrency, replicas))


def _rate_share(rate: Rate | None, burst: int | None, replicas: int) -> tuple[Rate | None, int | None]:
    if rate is None:
        return None, None
    return Rate(rate.count / replicas, rate.per), _count_share(burst or rate.default_burst, replicas)


def _count_share(count: int | None, replicas: int) -> int | None:
    return None if count is None else min(count, max(1, count // replicas))
