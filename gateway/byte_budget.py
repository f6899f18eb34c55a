"""Budget for the bytes that the process holds: request bodies, answers of providers, responses, deliveries.

Each request and each background run has a `Hold`; it is released once the response has been written, or the run has
ended. Adding to a hold is one addition. A start whose answer would not fit is refused before it is sent; an answer that
was paid for is never refused: if it does not fit, it is read later.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

LARGE = 65_536
"""Bytes of a body or an answer from which its size is compared with the budget; smaller ones are only counted."""
BUDGET_EXHAUSTED = "This replica holds as many bytes of requests and answers as it may (server.max_bytes_in_flight)."
"""Detail of the errors."""
_WEIGHT = 0.25  # of the last answer in the estimate of a workflow


@dataclass(slots=True, eq=False)
class Claim:
    """A wait for room for an answer. `on_granted` is called once, unless the claim is cancelled before."""

    hold: Hold
    size: int
    on_granted: Callable[[], None]
    cancelled: bool = False


class Hold:
    """Bytes that one request or run holds; released on exit."""

    __slots__ = ("_answer", "_budget", "_received", "size")

    def __init__(self, budget: ByteBudget) -> None:
        self.size = 0
        self._answer = self._received = 0  # bytes reserved for the answer, and the size of the last answer
        self._budget = budget

    def add(self, size: int) -> None:
        """Hold `size` more bytes, even if they exceed the budget."""
        self.size += size
        self._budget.held += size

    def try_add(self, size: int) -> bool:
        """Hold `size` more bytes if there is room. Returns whether there was."""
        if not self._budget.has_room(self, size):
            return False
        self.add(size)
        return True

    def reserve_answer(self, size: int) -> bool:
        """Reserve exactly `size` bytes for the answer to a start. Returns whether there was room."""
        more = size - self._answer
        if more > 0 and not self._budget.has_room(self, more):
            return False
        self._set_answer(size)
        return True

    def grow_answer(self, size: int) -> bool:
        """Reserve at least `size` bytes for an answer that is being read. Returns whether there was room."""
        return self.covers(size) or self.reserve_answer(size)

    def await_room(self, size: int, on_granted: Callable[[], None]) -> Claim:
        """Wait until there is room for an answer of `size` bytes, in the order of the claims."""
        claim = Claim(self, size, on_granted)
        self._budget.claims.append(claim)
        return claim

    async def wait_for_room(self) -> None:
        """Wait until the budget has room for a body of `LARGE` bytes, whose size is not known yet."""
        if self.try_add(LARGE):
            self.add(-LARGE)
            return
        granted = asyncio.Event()
        claim = self.await_room(LARGE, granted.set)
        try:
            await granted.wait()
        finally:
            claim.cancelled = True
        self.reserve_answer(0)

    def covers(self, size: int) -> bool:
        """Return whether at least `size` bytes are reserved for the answer."""
        return size <= self._answer

    def receive_answer(self, size: int) -> None:
        """Count an answer that was read, even if it exceeds the budget. A small one may be followed by a large one."""
        self._received = size
        more = size - self._answer
        if size >= LARGE:
            self._set_answer(size)
        elif more > 0:
            self._answer = size
            self.size += more
            self._budget.held += more

    def settle_answer(self) -> int:
        """Give back what was reserved beyond the size of the last answer; returns that size."""
        if self._received < self._answer:
            self._set_answer(self._received)
        return self._received

    def release(self) -> None:
        """Give everything back. Is idempotent."""
        budget = self._budget
        budget.held -= self.size
        self.size = self._answer = self._received = 0
        if budget.claims:
            budget.grant_claims()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _set_answer(self, size: int) -> None:
        more = size - self._answer
        self._answer = size
        self.add(more)
        if more < 0:
            self._budget.grant_claims()


@dataclass(slots=True)
class ByteBudget:
    """Bytes that may be held at once, `limit`, and those that are."""

    limit: int = sys.maxsize
    held: int = 0
    claims: deque[Claim] = field(default_factory=deque)

    def has_room(self, hold: Hold, size: int) -> bool:
        """Return whether `hold` may grow by `size` bytes; it always may if nothing else is held."""
        return self.held + size <= self.limit or self.held == hold.size

    def grant_claims(self) -> None:
        """Grant the claims for which there is room now, in their order."""
        while self.claims and (self.claims[0].cancelled or self.claims[0].hold.grow_answer(self.claims[0].size)):
            claim = self.claims.popleft()
            if not claim.cancelled:
                claim.on_granted()


@dataclass(slots=True)
class AnswerSizes:
    """Usual sizes of answers by workflow alias: exponentially weighted means, of workflows with large answers only."""

    _means: dict[str, float] = field(default_factory=dict)

    def expected(self, workflow: str) -> int:
        """Return the bytes to reserve for an answer; 0 for a small one."""
        mean = self._means.get(workflow, 0.0)
        return int(mean) if mean >= LARGE else 0

    def record(self, workflow: str, size: int) -> None:
        """Record the size of an answer."""
        mean = self._means.get(workflow)
        if mean is not None:
            self._means[workflow] = mean + (size - mean) * _WEIGHT
        elif size >= LARGE:
            self._means[workflow] = float(size)


current_hold: ContextVar[Hold | None] = ContextVar("current_hold", default=None)
"""The hold of the request or run that the task works on; None: nothing is counted."""
