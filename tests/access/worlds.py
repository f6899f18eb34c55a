"""A small world of limits for the tests, on virtual time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.access.hold import Hold
from gateway.access.limits import ClientLimits, Decision, Scope, SharedLimits
from gateway.access.memory import MemoryLimits
from gateway.problems import Problem
from tests.access.virtual_clock import VirtualClock

T = TypeVar("T")


@dataclass
class World:
    """Limits, their clock, and what they decided."""

    clients: Mapping[str, ClientLimits] = field(default_factory=dict)
    workflows: Mapping[str, SharedLimits] = field(default_factory=dict)
    providers: Mapping[str, SharedLimits] = field(default_factory=dict)
    clock: VirtualClock = field(default_factory=VirtualClock)
    decisions: list[tuple[Scope, Decision]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limits = MemoryLimits(
            self.clock,
            clients=self.clients,
            workflows=self.workflows,
            providers=self.providers,
            decided=lambda scope, decision: self.decisions.append((scope, decision)),
        )

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self.clock.monotonic()

    async def admit(
        self, client: str = "a", workflow: str = "w", *, within: float = math.inf, patience: float | None = None
    ) -> Hold:
        """Ask for provider "p" with a deadline so many seconds away."""
        return await self.limits.admit(client, workflow, "p", deadline=self.now + within, patience=patience)

    async def finish(self, work: Coroutine[object, object, T]) -> tuple[T | Problem, float]:
        """Let time pass until `work` is done; its result or Problem, and the seconds that it took."""
        began = self.now
        try:
            result: T | Problem = await self.clock.run_until_done(work)
        except Problem as problem:
            result = problem
        return result, self.now - began

    def begin(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Start `work`; time stands still."""
        return asyncio.get_running_loop().create_task(work)


def refusal(result: object) -> tuple[str, object]:
    """The code of a Problem and the outcome that it tells."""
    assert isinstance(result, Problem)
    return result.code, result.extra.get("outcome")
