"""Harness of the limits, on virtual time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.errors import RunError
from gateway.limits.admission import Admission
from gateway.limits.config import (
    ClientLimitsConfig,
    Decision,
    KeyLimits,
    LimitsConfig,
    LimitScope,
    ResourceLimitsConfig,
)
from gateway.limits.limiter import Limiter
from tests.support.virtual_clock import VirtualClock

T = TypeVar("T")


@dataclass
class LimiterHarness:
    """A limiter, its clock and its decisions."""

    clients: Mapping[str, ClientLimitsConfig] = field(default_factory=dict)
    workflows: Mapping[str, ResourceLimitsConfig] = field(default_factory=dict)
    providers: Mapping[str, ResourceLimitsConfig] = field(default_factory=dict)
    teams: Mapping[str, ClientLimitsConfig] = field(default_factory=dict)
    team_of: Mapping[str, str] = field(default_factory=dict)
    clock: VirtualClock = field(default_factory=VirtualClock)
    decisions: list[tuple[LimitScope, Decision]] = field(default_factory=list)

    @property
    def config(self) -> LimitsConfig:
        """All limits."""
        return LimitsConfig(self.clients, self.workflows, self.providers, self.teams, self.team_of)

    def __post_init__(self) -> None:
        self.limiter = Limiter(
            self.clock,
            self.config,
            on_decision=lambda scope, decision: self.decisions.append((scope, decision)),
        )

    @property
    def now(self) -> float:
        """Return monotonic seconds."""
        return self.clock.monotonic()

    async def admit(
        self,
        client: str = "a",
        workflow: str = "w",
        *,
        deadline_in: float = math.inf,
        max_wait: float | None = None,
        key_limits: KeyLimits | None = None,
    ) -> Admission:
        """Request admission for provider "p", with a deadline in `deadline_in` seconds."""
        return await self.limiter.admit(
            client, workflow, "p", deadline=self.now + deadline_in, max_wait=max_wait, key_limits=key_limits
        )

    async def run_and_time(self, work: Coroutine[object, object, T]) -> tuple[T | RunError, float]:
        """Let time pass until `work` is done; return its result or RunError, and the seconds that it took."""
        started_at = self.now
        try:
            result: T | RunError = await self.clock.run_until_done(work)
        except RunError as error:
            result = error
        return result, self.now - started_at

    def start_task(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Start `work` without letting time pass."""
        return asyncio.get_running_loop().create_task(work)


def refusal(result: object) -> tuple[type[RunError], str]:
    """Return the class and the ending of a RunError."""
    assert isinstance(result, RunError)
    return type(result), result.ending
