"""Model of a run: its specification, its state, and the journal that records its progress."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol, TypeAlias, TypeVar, cast

from gateway.clock import Clock
from gateway.errors import Ending, RunSummary
from gateway.limits.blocking_scope import blocking_scope
from gateway.limits.config import KeyLimits
from gateway.money import format_amount
from gateway.observability.tracing.spans import RunSpan
from gateway.runs.budgets.reservation import RunReservation
from gateway.runs.prices import Cost, cost_of
from gateway.runs.timeline import Timeline, WaitCause
from providers.contract import JsonValue, NodeOutput, NodeStatus, RawError

T = TypeVar("T")
RunStatus: TypeAlias = Literal["queued", "running"] | Ending
ApiName: TypeAlias = Literal["run", "promptlayer", "prompt_studio"]
"""The API that the client uses: Runward's own, or the API of a provider."""


def always_connected() -> bool:
    """Return True: the client never disconnects."""
    return True


@dataclass(slots=True)  # not frozen: its creation takes half as long
class RunSpec:
    """A validated request for a run. `timeout` is in seconds, already clamped.

    `client_connected`: False once the client has disconnected; such a run is not started. A run that is not
    `synchronous` waits for limits until its deadline, since no client waits for the response. `start_before`: seconds
    since 1970 (UTC); a run of which no start was sent by then is not started. `replay_of`: the id of the run that
    this one replays. `input_kept`: False if the specification was stored without the input. `team`: of the client, when
    it asked for the run. `key_id`: of the client's key, if the store has it; `key_limits`: of that key, known to the
    process that was asked alone. `client_context`: facts that the API of the client keeps with the run; only that API's
    package reads them.
    """

    client: str
    workflow: str
    timeout: float
    input: Mapping[str, JsonValue] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    label: str | None = None
    version: int | None = None
    return_all_outputs: bool = False
    traceparent: str = ""
    synchronous: bool = True
    start_before: float | None = None
    team: str | None = None
    key_id: str | None = None
    key_limits: KeyLimits | None = None
    client_connected: Callable[[], bool] = always_connected
    api: ApiName = "run"
    replay_of: str | None = None
    input_kept: bool = True
    client_context: Mapping[str, JsonValue] = field(default_factory=dict)

    def start_by(self, monotonic: float, wall: float) -> float:
        """Return `start_before` on the monotonic clock, infinite without one; both arguments are the current time."""
        return math.inf if self.start_before is None else monotonic + self.start_before - wall


@dataclass(slots=True)
class RunRecord:
    """State of a run.

    Times named `…_at` are wall-clock times; `started_monotonic`, `deadline` and `start_by`, the `start_before` of the
    specification, are on the monotonic clock, in seconds. `durable`: the store has the run, so another process can
    continue it. `followed`: the client's deadline has passed and the run is polled on until it ends. `counted`: the
    metrics have the run, as `unknown` or as cancelled. `nodes`: the last known statuses of its nodes while it was in
    progress. `external_wait`: seconds spent waiting for the provider, limits, the store and back-off. `waiting_for`:
    what it waits for now; `next_poll`: the monotonic time of the next poll. `span`: None unless the run is traced.
    `price`: micros of one start on the workflow in use; None if no price is declared, or nothing was attempted yet.
    `maybe_paid`: sum of the prices of the starts that may have been executed. `reservation`: what it has reserved on
    its budgets; None if none covers it, or another process made it.
    """

    id: str
    spec: RunSpec
    provider: str
    created_at: datetime
    started_monotonic: float
    deadline: float
    start_by: float = math.inf
    status: RunStatus = "queued"
    durable: bool = False
    followed: bool = False
    counted: bool = False
    attempts: int = 0
    maybe_started: bool = False
    provider_run_id: str | None = None
    nodes: Mapping[str, NodeStatus] = field(default_factory=dict)
    output: JsonValue = None
    outputs: Mapping[str, NodeOutput] | None = None
    raw_errors: Mapping[str, RawError] | None = None
    warning: str | None = None
    limit_headers: tuple[tuple[str, str], ...] = ()
    finished_at: datetime | None = None
    duration: float = 0.0
    external_wait: float = 0.0
    waiting_for: WaitCause | None = None
    polls: int = 0
    next_poll: float | None = None
    timeline: Timeline = field(default_factory=Timeline)
    span: RunSpan | None = None
    price: int | None = None
    maybe_paid: int = 0
    reservation: RunReservation | None = None

    @classmethod
    def create(cls, spec: RunSpec, provider: str, clock: Clock, id: str | None = None) -> RunRecord:  # noqa: A002 - its id
        """Create a run with an id that cannot be guessed; its deadline counts from now.

        Ids begin with the time, because stores write those of neighbours in an index to the same page.
        """
        started, created_at = clock.monotonic(), clock.now()
        if id is None:
            id = f"run_{int(created_at.timestamp()):08x}{clock.new_id()}"  # noqa: A001 - its id
        run = cls(id, spec, provider, created_at, started, started + spec.timeout)
        if spec.start_before is not None:
            run.start_by = spec.start_by(started, created_at.timestamp())
        return run

    def cost(self) -> Cost:
        """Return what the run cost, once it has ended."""
        return cost_of(self.status, self.price, self.maybe_paid)

    @property
    def priced(self) -> bool:
        """True if a price is declared for a start of the run."""
        return self.price is not None or self.maybe_paid > 0

    def cost_headers(self) -> tuple[tuple[str, str], ...]:
        """Return header fields that tell what the run cost, and what remains of its client's budgets."""
        cost = self.cost()
        text = format_amount(cost.amount)
        cost_field = ("Runward-Cost", f"{text}; certainty=unknown" if cost.certainty == "unknown" else text)
        return (cost_field, *(() if self.reservation is None else self.reservation.header))

    def must_not_start(self, clock: Clock) -> bool:
        """Return whether the client's time for the start has passed, and no start may have begun a run."""
        return not self.maybe_started and self.start_by <= clock.monotonic()

    def summary(self) -> RunSummary:
        """Return the facts that the document of the run's error shows."""
        return RunSummary(self.id, self.provider, self.attempts, self.provider_run_id)

    async def await_external(self, awaitable: Awaitable[T], clock: Clock, cause: WaitCause | None = None) -> T:
        """Await something outside of the gateway; the time counts as `external_wait`.

        With a `cause` it is a wait of the timeline too.
        """
        wait_started = clock.monotonic()
        self.waiting_for = cause
        try:
            return await awaitable
        finally:
            ended = clock.monotonic()
            self.waiting_for = None
            self.external_wait += ended - wait_started
            if cause is not None:
                self.timeline.add_wait(wait_started, ended, cause)
                if self.span is not None:
                    limit = blocking_scope.get() if cause == "limit" else None
                    self.span.add_wait(ended - wait_started, limit or cause)

    def take_events(self, *last: object) -> bytes:
        """Return the events that are not in the store yet, as lines of JSON. `last`: as in `Timeline.encode`."""
        return self.timeline.encode(self.started_monotonic, self.created_at.timestamp(), *last)

    @property
    def ending(self) -> Ending:
        """The ending of a run that has finished."""
        return cast("Ending", self.status)

    def follow_on(self, seconds: float) -> RunRecord:
        """Return a record of the same run at the provider, with `seconds` more, for after the response to its client.

        It does not hold the input.
        """
        return replace(
            self,
            spec=replace(self.spec, input={}, input_kept=False, client_connected=always_connected),
            deadline=self.deadline + seconds,
            status="unknown",
            followed=True,
            counted=self.spec.synchronous,
            finished_at=None,
            span=None,
        )

    def finish(self, ending: Ending, clock: Clock) -> None:
        """Finish the run. A run that may have been started at a provider ends as `unknown` instead of `not_run`."""
        self.status = "unknown" if ending == "not_run" and self.maybe_started else ending
        self.finished_at = clock.now()
        self.duration = clock.monotonic() - self.started_monotonic


class Journal(Protocol):
    """Write-ahead journal of one run: another process reads it after a crash. Each call returns once it is durable.

    An implementation adds the time of its writes to `RunRecord.external_wait`.
    """

    async def record_dispatch(self) -> None:
        """Record that a start is about to be sent. Raises StoreError, RunCancelled; then it must not be sent."""

    async def record_rejection(self) -> None:
        """Record that the last start was rejected, and that no earlier start may have begun a run.

        Raises RunCancelled if no other start may be sent.
        """

    async def record_provider_run_id(self) -> None:
        """Record the provider's id of the run."""

    async def record_deadline(self) -> None:
        """Record that the client's deadline has passed, and that the run is polled on."""


class NullJournal:
    """`Journal` of a run that is not stored."""

    async def record_dispatch(self) -> None:
        """No-op."""

    async def record_rejection(self) -> None:
        """No-op."""

    async def record_provider_run_id(self) -> None:
        """No-op."""

    async def record_deadline(self) -> None:
        """No-op."""


NULL_JOURNAL = NullJournal()
