"""One run as the gateway knows it: what was ordered, how far it is, how it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias, TypeVar

from gateway.clock import Clock
from gateway.errors import RunError
from gateway.problems import problem_from_error
from gateway.runs.journal import Journal
from gateway.runs.resilience.retry import Ending
from providers.contract import JsonValue, NodeOutput

T = TypeVar("T")
RunStatus: TypeAlias = Literal["queued", "running"] | Ending
ApiName: TypeAlias = Literal["run", "promptlayer", "prompt_studio"]
"""Whose API a client speaks: Runward's own, or a provider's."""


def always_connected() -> bool:
    """Somebody who does not leave."""
    return True


@dataclass(frozen=True, slots=True)
class RunSpec:
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
    synchronous: bool = True
    api: ApiName = "run"
    number: int = 0
    all_outputs: bool = False
    client_connected: Callable[[], bool] = always_connected


@dataclass(slots=True)
class RunRecord:
    """A run's state. Times named `…_at` are for people; `started_monotonic` and `deadline` are on the monotonic clock."""

    id: str
    spec: RunSpec
    provider: str
    created_at: datetime
    started_monotonic: float
    deadline: float
    status: RunStatus = "queued"
    attempts: int = 0
    maybe_started: bool = False
    provider_run_id: str | None = None
    output: JsonValue = None
    outputs: Mapping[str, NodeOutput] | None = None
    warning: str | None = None
    problem_code: str | None = None
    journal: Journal[RunRecord] | None = None
    limit_headers: tuple[tuple[str, str], ...] = ()
    finished_at: datetime | None = None
    duration: float = 0.0
    external_wait: float = 0.0

    @classmethod
    def create(cls, spec: RunSpec, provider: str, clock: Clock, id: str | None = None) -> RunRecord:  # noqa: A002 - its id
        """Begin a run: its id cannot be guessed, its deadline starts now."""
        started = clock.monotonic()
        return cls(
            id=id or "run_" + clock.token(16).hex(),
            spec=spec,
            provider=provider,
            created_at=clock.now(),
            started_monotonic=started,
            deadline=started + spec.timeout,
        )

    async def await_external(self, awaitable: Awaitable[T], clock: Clock) -> T:
        """Await somebody else, and keep the time out of what counts as ours."""
        wait_started = clock.monotonic()
        try:
            return await awaitable
        except RunError as error:
            raise problem_from_error(error) from None
        finally:
            self.external_wait += clock.monotonic() - wait_started

    def finish(self, ending: Ending, clock: Clock) -> None:
        """End it. A run that may have started at a provider never ends as `not_run`."""
        self.status = "unknown" if ending == "not_run" and self.maybe_started else ending
        self.finished_at = clock.now()
        self.duration = clock.monotonic() - self.started_monotonic
