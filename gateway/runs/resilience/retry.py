"""Retry policy: the table of faults, and the loop that repeats calls (exponential backoff with jitter)."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from gateway.clock import Clock
from gateway.errors import Ending
from providers.contract import Call, Cause, ProviderFault

T = TypeVar("T")
_SLOW_BACKOFF = 1.0  # seconds before the second poll of `Repeat.SLOWLY`; doubled for each further one
_FINAL_POLL_MARGIN = 0.3  # seconds between the last poll and the deadline


class DispatchState(enum.Enum):
    """Knowledge about the request when the fault occurs."""

    NO = "it never left"
    REJECTED = "it arrived and was turned away"
    MAYBE = "it may have started a run"
    ACCEPTED = "it started a run"
    RAN = "the run was executed and failed"


class Repeat(enum.Enum):
    """Rule for repeating a call."""

    NEVER = "never"
    ONCE = "once"
    RETRY = "as long as attempts and deadline allow"
    SLOWLY = "as long as the deadline allows, at growing intervals: the cause does not pass by itself"


@dataclass(frozen=True, slots=True)
class RetryRule:
    """Row of the table: meaning of a fault for a start and for a poll, and the error if the call is not repeated.

    `trips_breaker`: the fault counts as a failure in the circuit breaker. `falls_back`: a fallback may succeed.
    """

    dispatched: DispatchState
    repeat_start: Repeat
    repeat_poll: Repeat
    code: str
    ending: Ending
    trips_breaker: bool = False
    falls_back: bool = True


RETRY_RULES: Mapping[Cause, RetryRule] = MappingProxyType(
    {
        Cause.UNREACHABLE: RetryRule(
            DispatchState.NO, Repeat.RETRY, Repeat.RETRY, "upstream_unreachable", "not_run", trips_breaker=True
        ),
        Cause.EXHAUSTED: RetryRule(DispatchState.NO, Repeat.RETRY, Repeat.RETRY, "overloaded", "not_run"),
        Cause.MISCONFIGURED: RetryRule(
            DispatchState.NO, Repeat.NEVER, Repeat.SLOWLY, "upstream_misconfigured", "not_run", trips_breaker=True
        ),
        Cause.THROTTLED: RetryRule(DispatchState.REJECTED, Repeat.RETRY, Repeat.RETRY, "upstream_throttled", "not_run"),
        Cause.UNAVAILABLE: RetryRule(
            DispatchState.REJECTED, Repeat.ONCE, Repeat.RETRY, "upstream_unavailable", "not_run", trips_breaker=True
        ),
        Cause.DISCONNECTED: RetryRule(
            DispatchState.MAYBE, Repeat.NEVER, Repeat.RETRY, "upstream_disconnected", "unknown", trips_breaker=True
        ),
        Cause.GATEWAY_ERROR: RetryRule(
            DispatchState.MAYBE, Repeat.NEVER, Repeat.RETRY, "upstream_error", "unknown", trips_breaker=True
        ),
        Cause.TIMEOUT: RetryRule(
            DispatchState.MAYBE, Repeat.NEVER, Repeat.RETRY, "upstream_timeout", "unknown", trips_breaker=True
        ),
        Cause.SERVER_ERROR: RetryRule(
            DispatchState.MAYBE, Repeat.NEVER, Repeat.RETRY, "upstream_error", "unknown", trips_breaker=True
        ),
        Cause.RUN_FAILED: RetryRule(DispatchState.RAN, Repeat.NEVER, Repeat.NEVER, "run_failed", "failed"),
        Cause.INVALID_REPLY: RetryRule(
            DispatchState.ACCEPTED,
            Repeat.NEVER,
            Repeat.SLOWLY,
            "upstream_invalid_response",
            "unknown",
            trips_breaker=True,
        ),
        Cause.TOO_LARGE: RetryRule(
            DispatchState.ACCEPTED, Repeat.NEVER, Repeat.SLOWLY, "upstream_too_large", "unknown", trips_breaker=True
        ),
        Cause.REJECTED: RetryRule(
            DispatchState.REJECTED, Repeat.NEVER, Repeat.SLOWLY, "rejected_by_provider", "not_run", falls_back=False
        ),
        Cause.CREDENTIALS: RetryRule(
            DispatchState.REJECTED, Repeat.NEVER, Repeat.SLOWLY, "upstream_credentials", "not_run"
        ),
        Cause.NOT_FOUND: RetryRule(
            DispatchState.REJECTED, Repeat.NEVER, Repeat.SLOWLY, "workflow_not_found", "not_run"
        ),
    }
)
_POLL_FAULT_CODES = {"rejected_by_provider": "upstream_error", "workflow_not_found": "upstream_error"}


class FaultClass(NamedTuple):
    """Meaning of a fault for the run: the error's code, the ending, and whether another workflow may be tried."""

    code: str
    ending: Ending
    falls_back: bool


def classify_fault(fault: ProviderFault, call: Call, *, started: bool) -> FaultClass:
    """Classify the fault that `call` ended with.

    A failed poll tells nothing about the ending of a run that had been `started`.
    """
    rule = RETRY_RULES[fault.cause]
    if call.safe:
        return FaultClass(_POLL_FAULT_CODES.get(rule.code, rule.code), "unknown" if started else "not_run", True)  # noqa: FBT003
    return FaultClass(rule.code, rule.ending, rule.falls_back)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_attempts` starts; exponential backoff from `backoff` seconds, doubling up to `backoff_max`."""

    max_attempts: int = 3
    backoff: float = 0.1
    backoff_max: float = 5.0


class RetryLoop:
    """Retry loop of one call of one run, created after its first failure."""

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Clock,
        *,
        call: Call,
        repeatable: bool,
        started: bool = True,
        deadline: float,
        max_poll_interval: float = 60.0,
        max_polls: int | None = None,
        permit_retry: Callable[[], bool],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """`started`: a start was sent before, so that a poll is worth repeating whatever its fault.

        `max_poll_interval`: seconds, at most, between such polls. `max_polls`: attempts of a safe call, at most; None:
        the deadline alone bounds them. `permit_retry`: asked last before a start is repeated (retry budget). `sleep`:
        sleeps for the backoff.
        """
        self._policy = policy
        self._clock = clock
        self._max_poll_interval = max_poll_interval
        self._max_polls = max_polls
        self._call = call
        self._repeatable = repeatable
        self._started = started
        self._deadline = deadline
        self._permit_retry = permit_retry
        self._sleep = sleep
        self._retried_once: set[Cause] = set()

    async def run(
        self,
        attempt: Callable[[], Awaitable[T]],
        first_fault: ProviderFault,
        *,
        on_retry: Callable[[ProviderFault], None],
    ) -> T:
        """Back off and call `attempt` until it succeeds or must not be repeated. Raises its last fault.

        `first_fault`: the fault of the first attempt. `on_retry` is called before the backoff of each repetition.
        """
        retrying = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_exception(self._may_repeat),
            stop=self._must_stop,
            wait=self._backoff,
            before_sleep=lambda state: on_retry(_fault_of(state).with_traceback(None)),
            reraise=True,
        )
        pending_fault = [first_fault]

        async def next_attempt() -> T:
            if pending_fault:
                raise pending_fault.pop()
            return await attempt()

        try:
            return await retrying(next_attempt)
        finally:
            retrying.iter_state.reset()  # a reference cycle would keep the run's input until the garbage collector runs

    def _may_repeat(self, error: BaseException) -> bool:
        if not isinstance(error, ProviderFault):
            return False
        rule = RETRY_RULES[error.cause]
        repeat = rule.repeat_poll if self._call.safe else rule.repeat_start
        if not self._call.safe and self._repeatable and rule.dispatched is DispatchState.MAYBE:
            repeat = Repeat.RETRY
        if repeat is Repeat.ONCE or (repeat is Repeat.SLOWLY and not self._started):
            first_time = error.cause not in self._retried_once
            self._retried_once.add(error.cause)
            return first_time
        return repeat in {Repeat.RETRY, Repeat.SLOWLY}

    def _must_stop(self, state: RetryCallState) -> bool:
        """Return whether the backoff would pass the deadline, or the call has no attempt left."""
        remaining = self._deadline - self._clock.monotonic()
        if state.upcoming_sleep >= remaining or (self._call.safe and remaining <= _FINAL_POLL_MARGIN):
            return True
        if self._call.safe:
            return self._max_polls is not None and state.attempt_number >= self._max_polls
        return not (state.attempt_number < self._policy.max_attempts and self._permit_retry())

    def _backoff(self, state: RetryCallState) -> float:
        """Return the backoff in seconds: full jitter of a doubling step, and at least the provider's Retry-After."""
        fault, doublings = _fault_of(state), 2.0 ** min(state.attempt_number - 1, 30)
        if self._call.safe and RETRY_RULES[fault.cause].repeat_poll is Repeat.SLOWLY:
            backoff = min(_SLOW_BACKOFF * doublings, self._max_poll_interval) * (0.5 + self._clock.random() / 2)
        else:
            backoff = self._clock.random() * min(self._policy.backoff * doublings, self._policy.backoff_max)
        if self._call.safe:  # one more poll shortly before the deadline
            backoff = min(backoff, max(0.0, self._deadline - self._clock.monotonic() - _FINAL_POLL_MARGIN))
        return max(fault.retry_after or 0.0, backoff)


def _fault_of(state: RetryCallState) -> ProviderFault:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, ProviderFault)  # noqa: S101 - only faults are retried
    return error
