"""One run as the gateway knows it: what was ordered, how far it is, how it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar

from gateway.clock import Clock
from gateway.runs.journal import Journal
from gateway.runs.retry import Ending
from providers.contract import JsonValue, NodeOutput

T = TypeVar("T")
Status: TypeAlias = Literal["queued", "running"] | Ending
Face: TypeAlias = Literal["run", "promptlayer", "prompt_studio"]
"""Whose API a client speaks: Runward's own, or a provider's."""


def always() -> bool:
    """Somebody who does not leave."""
    return True


@dataclass(frozen=True, slots=True)
class Order:
    """What a client asks for, checked and resolved. `timeout` is in seconds, already clamped.

    `wanted` tells whether somebody still waits for the answer; nothing is started for nobody. A client that never
    `waits` is told later: its run waits for limits as long as its deadline allows. `number` and `all_outputs` are
    PromptLayer's: what its API calls the run, and whether its client asked for every node.
    """

    client: str
    workflow: str
    timeout: float
    input: Mapping[str, JsonValue] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    version: int | None = None
    return_all_outputs: bool = False
    traceparent: str = ""
    waits: bool = True
    face: Face = "run"
    number: int = 0
    all_outputs: bool = False
    wanted: Callable[[], bool] = always


@dataclass(slots=True)
class RunRecord:
    """A run's state. Times named `…_at` are for people; `began` and `deadline` are on the monotonic clock."""

    id: str
    order: Order
    provider: str
    created_at: datetime
    began: float
    deadline: float
    status: Status = "queued"
    attempts: int = 0
    maybe_started: bool = False
    provider_run_id: str | None = None
    output: JsonValue = None
    outputs: Mapping[str, NodeOutput] | None = None
    warning: str | None = None
    code: str | None = None
    journal: Journal[RunRecord] | None = None
    limit_headers: tuple[tuple[str, str], ...] = ()
    finished_at: datetime | None = None
    duration: float = 0.0
    waited: float = 0.0

    @classmethod
    def open(cls, order: Order, provider: str, clock: Clock, id: str | None = None) -> RunRecord:  # noqa: A002 - its id
        """Begin a run: its id cannot be guessed, its deadline starts now."""
        began = clock.monotonic()
        return cls(
            id=id or "run_" + clock.token(16).hex(),
            order=order,
            provider=provider,
            created_at=clock.now(),
            began=began,
            deadline=began + order.timeout,
        )

    async def waiting(self, patience: Awaitable[T], clock: Clock) -> T:
        """Await somebody else, and keep the time out of what counts as ours."""
        began = clock.monotonic()
        try:
            return await patience
        finally:
            self.waited += clock.monotonic() - began

    def close(self, ending: Ending, clock: Clock) -> None:
        """End it. A run that may have started at a provider never ends as `not_run`."""
        self.status = "unknown" if ending == "not_run" and self.maybe_started else ending
        self.finished_at = clock.now()
        self.duration = clock.monotonic() - self.began
