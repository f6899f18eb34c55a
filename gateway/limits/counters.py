"""Counters of the limits: take every part of a request or none of them, and give them back.

`LocalCounters` count in this process. `gateway.limits.redis.counters.RedisCounters` count in a server shared by the
replicas, and fall back to `LocalCounters` while it cannot be reached.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, Protocol, TypeAlias

from gateway.limits.client_limiter import ClientLimiter
from gateway.limits.config import LimitsConfig
from gateway.limits.resource_limiter import ResourceLimiter


class TakeResult(enum.Enum):
    """Result of an attempt to take parts."""

    TAKEN = "taken"
    """Every part was taken."""

    BLOCKED = "blocked"
    """At least one part is used up; nothing was taken."""

    UNAVAILABLE = "unavailable"
    """The server was lost during the attempt. Repeat it: this process counts from now on."""


# Of each admission: CPython 3.11 takes 70 ns to find a member in its class.
TAKEN, BLOCKED = TakeResult.TAKEN, TakeResult.BLOCKED

TakeMode: TypeAlias = Literal["take", "peek", "reserve"]
"""Take; take nothing, but refresh the local copy of the counts; take, or else reserve the next free slot."""


class Part(Protocol):
    """One limit that a request takes from: a client's, workflow's or provider's limits, or a rate alone.

    With shared counters a part is the local copy of the counts in the server.
    """

    def blocked(self, now: float) -> bool:
        """Return True if it is used up at `now` (monotonic seconds)."""

    def take(self, now: float) -> None:
        """Charge one request and take a slot; `blocked` was False at the same `now`."""

    def take_slot(self) -> None:
        """Take a slot alone."""

    def release(self) -> None:
        """Free the slot of one request."""

    def refund(self) -> None:
        """Give the charge of one request back, but not its slot."""


Parts: TypeAlias = tuple[Part, ...]


class Counters(Protocol):
    """Counters of the limits, in this process or in a server."""

    on_change: Callable[[], None]
    """Called when `shared` changes."""

    @property
    def shared(self) -> bool:
        """True while a server counts for all replicas."""

    @property
    def replica_count(self) -> int:
        """Number of replicas that share the counters, this one included."""

    async def open(self) -> None:
        """Start, in a running loop. Never fails: without a server this process counts."""

    async def close(self) -> None:
        """Stop. Slots that are still held are freed at once, or when their leases end."""

    def new_slot_id(self) -> str:
        """Return the id under which an admission holds its slots."""

    def effective_config(self, config: LimitsConfig) -> LimitsConfig:
        """Return the limits that this process applies now: its share of them, while it counts for itself."""

    def register(self, limiters: Mapping[str, ClientLimiter | ResourceLimiter]) -> None:
        """Count these limiters from now on, by unique names, instead of those registered before."""

    def register_one(self, name: str, limiter: ClientLimiter | ResourceLimiter) -> None:
        """Count one more limiter from now on, or one with other limits than before."""

    def unregister(self, limiter: ClientLimiter | ResourceLimiter) -> None:
        """Count a limiter no longer; it holds no slot."""

    def try_take(self, slot_id: str, parts: Parts, mode: TakeMode, now: float) -> TakeResult | Awaitable[TakeResult]:
        """Take every part or none. The result is an awaitable only if it needs a round trip to a server.

        A cancelled attempt takes nothing.
        """

    def give_back(self, slot_id: str, parts: Parts, on_done: Callable[[], None], *, refund: bool = False) -> None:
        """Free the slots of `parts`, with `refund` their charges too; then call `on_done`, maybe after a round trip."""


class LocalCounters:
    """Counters in this process: exact, and without a suspension point."""

    shared = False
    replica_count = 1

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = _do_nothing

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def new_slot_id(self) -> str:
        """Return "": the parts themselves count."""
        return ""

    def effective_config(self, config: LimitsConfig) -> LimitsConfig:
        """Return all of `config`."""
        return config

    def register(self, limiters: Mapping[str, ClientLimiter | ResourceLimiter]) -> None:
        """Do nothing: the parts themselves count."""

    def register_one(self, name: str, limiter: ClientLimiter | ResourceLimiter) -> None:
        """Do nothing: the parts themselves count."""

    def unregister(self, limiter: ClientLimiter | ResourceLimiter) -> None:
        """Do nothing: the parts themselves count."""

    def try_take(self, slot_id: str, parts: Parts, mode: TakeMode, now: float) -> TakeResult:  # noqa: ARG002
        """Take every part or none."""
        if mode == "peek":
            return BLOCKED
        for part in parts:
            if part.blocked(now):
                return BLOCKED
        for part in parts:
            part.take(now)
        return TAKEN

    def give_back(
        self,
        slot_id: str,  # noqa: ARG002
        parts: Parts,
        on_done: Callable[[], None],
        *,
        refund: bool = False,
    ) -> None:
        """Free the slots, with `refund` also the charges, and call `on_done`."""
        for part in parts:
            if refund:
                part.refund()
            part.release()
        on_done()


def _do_nothing() -> None:
    pass
