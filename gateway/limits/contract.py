"""The contract of the limits: what may be limited, how a request is let in, and what it holds until it leaves.

A client's own limits refuse at once (`rate_limited`). A workflow's and a provider's limits protect the account behind
them and shape: a request waits its turn, fair between clients, as long as its deadline and `max_wait` allow. Every
bucket that a request needs is taken at once or not at all, nothing is held while it waits, a refusal costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

HeaderFields: TypeAlias = tuple[tuple[str, str], ...]
"""Header fields, ready to be sent."""

LimitScope: TypeAlias = Literal["client", "workflow", "provider"]
Decision: TypeAlias = Literal["admitted", "waited", "refused"]
OnDecision: TypeAlias = Callable[[LimitScope, Decision], None]
"""Told what each limited scope decided, once per request or call: let in at once, let in after a wait, or refused."""

SLOT_RETRY_AFTER = 1.0  # seconds, as Retry-After: nobody knows when a slot will be free


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`count` requests in every `per` seconds."""

    count: float
    per: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.count < math.inf and 0 < self.per < math.inf):
            raise ValueError("a rate is a positive number of requests in a positive number of seconds")

    @property
    def default_burst(self) -> int:
        """How many may come at once where nothing else is said: a second's worth, at least one."""
        return max(1, math.ceil(self.count / self.per))


@dataclass(frozen=True, slots=True)
class ClientLimitsConfig:
    """What one client may take. None: no such limit. `daily` counts requests in a UTC day."""

    rate: RateLimit | None = None
    burst: int | None = None
    concurrency: int | None = None
    daily: int | None = None


@dataclass(frozen=True, slots=True)
class SharedLimitsConfig:
    """What all clients together may take of a workflow or provider. `max_wait` is in seconds."""

    rate: RateLimit | None = None
    burst: int | None = None
    concurrency: int | None = None
    max_wait: float = 1.0


class Admission(Protocol):
    """What a run holds from its admission until it leaves: a slot of its client, its workflow and its provider.

    A run does one thing at a time: it may leave while it waits, but not wait for two things. `deadline` is in monotonic
    time everywhere here.
    """

    @property
    def headers(self) -> HeaderFields:
        """`RateLimit-Policy` and `RateLimit` of the client for the answer; empty where it has no limits."""

    async def move(self, workflow: str, provider: str, *, deadline: float) -> None:
        """A fallback: leave the workflow and provider, wait for the new ones. The client is not charged again.

        Raises `Problem` as `Limits.admit` does; then the run holds its client's slot only.
        """

    async def admit_retry(self, *, deadline: float) -> None:
        """A retried start: one more call in the provider's rate, before any first start.

        Raises `Problem`: `overloaded` or `deadline_exceeded`, with the outcome `not_run` (of this attempt).
        """

    async def admit_poll(self, *, deadline: float) -> None:
        """One more question about a run that has started: a call in the provider's rate, after any start.

        A poll is never refused, and after `max_wait` it goes before the starts: a finished run is always seen.
        Raises `Problem("deadline_exceeded")`, with the outcome `unknown`.
        """

    def release(self) -> None:
        """Leave: every slot is free again. A second time does nothing."""

    def refund(self) -> None:
        """Leave because nothing was sent (a circuit is open): the charges go back too.

        Meant for the moment of admission; later a rate has moved on, and what it gives back may be a burst too many.
        """

    async def __aenter__(self) -> Self:
        """The admission itself."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """`release`."""


class Limiter(Protocol):
    """Where every client, workflow and provider is counted: this process's memory, or a state that replicas share."""

    async def open(self) -> None:
        """Begin, in a running loop. Limits that can not be shared hold for this process; nothing is raised."""

    async def close(self) -> None:
        """End. Whoever still runs holds nothing any more, at once or soon."""

    async def admit(
        self,
        client: str,
        workflow: str,
        provider: str,
        *,
        deadline: float,
        still_wanted: Callable[[], bool] | None = None,
        max_wait: float | None = None,
    ) -> Admission:
        """Let a request in, now or when its turn comes.

        All names are the configuration's; one without limits costs nearly nothing. `wanted` is asked when the turn of
        a start comes after a wait: False where the client has left (R32).

        `patience` is how many seconds a start (this one, a fallback's, a retried one) may wait in line; None: the
        limits' `max_wait`. Who says so, because nobody waits at the door, takes turns with those of the same client
        who are in a hurry: neither holds the other up for longer than one turn.

        Raises `Problem`: `rate_limited` where the client's own limits refuse, with its header fields; `overloaded`
        where the turn does not come in time, or a rate can not let it come in time, or the line is full;
        `deadline_exceeded`; `client_closed_request`. `retry_after` is exact where a rate or the day decides, and
        1 second where a slot does.
        """

    def admit_adopted(self, client: str, workflow: str, provider: str) -> Admission:
        """Stand for a run that was let in and started before, by a process that has ended.

        Only its polls count. Nothing can refuse it, and it takes no slot: it goes on at its provider in any case.
        """

    def reconfigure(
        self,
        *,
        clients: Mapping[str, ClientLimitsConfig],
        workflows: Mapping[str, SharedLimitsConfig],
        providers: Mapping[str, SharedLimitsConfig],
    ) -> None:
        """Other limits from now on, by the names of the configuration.

        What stays keeps its state: what is used of a rate or day, slots, places in line. What is gone limits nobody.
        """
