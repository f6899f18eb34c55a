"""What to do about a fault: the retry table as data, and the one place that makes calls again."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from gateway.clock import Clock
from providers.contract import Call, Cause, ProviderFault

T = TypeVar("T")
Ending: TypeAlias = Literal["succeeded", "failed", "not_run", "unknown"]


class Sent(enum.Enum):
    """What is known of the request when the fault is seen."""

    NO = "it never left"
    REJECTED = "it arrived and was turned away"
    MAYBE = "it may have started a run"
    ACCEPTED = "it started a run"
    RAN = "the run was executed and failed"


class Again(enum.Enum):
    """Whether a call is made again."""

    NEVER = "never"
    ONCE = "once"
    RETRY = "as long as attempts and deadline allow"


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table: what a fault means for a start and for a poll, and what the client sees if it stays.

    `trips` says that the provider did not do its part, which opens its circuit in the end.
    """

    sent: Sent
    start: Again
    poll: Again
    code: str
    ending: Ending
    trips: bool = False


RULES: Mapping[Cause, Rule] = MappingProxyType(
    {
        Cause.UNREACHABLE: Rule(Sent.NO, Again.RETRY, Again.RETRY, "upstream_unreachable", "not_run", trips=True),
        Cause.EXHAUSTED: Rule(Sent.NO, Again.RETRY, Again.RETRY, "overloaded", "not_run"),
        Cause.MISCONFIGURED: Rule(Sent.NO, Again.NEVER, Again.NEVER, "upstream_misconfigured", "not_run", trips=True),
        Cause.THROTTLED: Rule(Sent.REJECTED, Again.RETRY, Again.RETRY, "upstream_throttled", "not_run"),
        Cause.UNAVAILABLE: Rule(Sent.REJECTED, Again.ONCE, Again.RETRY, "upstream_unavailable", "not_run", trips=True),
        Cause.DISCONNECTED: Rule(Sent.MAYBE, Again.NEVER, Again.RETRY, "upstream_disconnected", "unknown", trips=True),
        Cause.GATEWAY_ERROR: Rule(Sent.MAYBE, Again.NEVER, Again.RETRY, "upstream_error", "unknown", trips=True),
        Cause.TIMEOUT: Rule(Sent.MAYBE, Again.NEVER, Again.RETRY, "upstream_timeout", "unknown", trips=True),
        Cause.SERVER_ERROR: Rule(Sent.MAYBE, Again.NEVER, Again.RETRY, "upstream_error", "unknown", trips=True),
        Cause.RUN_FAILED: Rule(Sent.RAN, Again.NEVER, Again.NEVER, "run_failed", "failed"),
        Cause.INVALID_REPLY: Rule(
            Sent.ACCEPTED, Again.NEVER, Again.ONCE, "upstream_invalid_response", "unknown", trips=True
        ),
        Cause.TOO_LARGE: Rule(Sent.ACCEPTED, Again.NEVER, Again.ONCE, "upstream_too_large", "unknown", trips=True),
        Cause.REJECTED: Rule(Sent.REJECTED, Again.NEVER, Again.NEVER, "rejected_by_provider", "not_run"),
        Cause.CREDENTIALS: Rule(Sent.REJECTED, Again.NEVER, Again.NEVER, "upstream_credentials", "not_run"),
        Cause.NOT_FOUND: Rule(Sent.REJECTED, Again.NEVER, Again.NEVER, "workflow_not_found", "not_run"),
    }
)
_ASKED_IN_VAIN = {"rejected_by_provider": "upstream_error", "workflow_not_found": "upstream_error"}


def verdict(fault: ProviderFault, call: Call, *, started: bool) -> tuple[str, Ending]:
    """The problem's code and the run's ending, where `fault` is what `call` ended with.

    Where a run that had been `started` was only asked about, its ending is not known, whatever the question met.
    """
    rule = RULES[fault.cause]
    if call.safe:
        return _ASKED_IN_VAIN.get(rule.code, rule.code), "unknown" if started else "not_run"
    return rule.code, rule.ending


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `attempts` starts; back-off from `backoff`, doubling up to `backoff_max` seconds."""

    attempts: int = 3
    backoff: float = 0.1
    backoff_max: float = 5.0


class Retry:
    """Decides about one call of one run, and remembers what it already allowed. Made after the first failure only."""

    def __init__(
        self,
        policy: Policy,
        clock: Clock,
        *,
        call: Call,
        repeatable: bool,
        deadline: float,
        permit: Callable[[], bool],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """`permit` is asked before a start is repeated, when nothing else speaks against it; `sleep` backs off."""
        self._policy = policy
        self._clock = clock
        self._call = call
        self._repeatable = repeatable
        self._deadline = deadline
        self._permit = permit
        self._sleep = sleep
        self._once: set[Cause] = set()

    async def until_done(
        self, attempt: Callable[[], Awaitable[T]], first: ProviderFault, *, again: Callable[[ProviderFault], None]
    ) -> T:
        """Wait and call `attempt` until it succeeds or must not be made again; then raise its last fault.

        `first` is how it failed before this was called; `again` hears of each repetition before its wait.
        """
        retrying = AsyncRetrying(
            sleep=self._sleep,
            retry=retry_if_exception(self._may_repeat),
            stop=self._must_stop,
            wait=self._wait,
            before_sleep=lambda state: again(_fault(state).with_traceback(None)),
            reraise=True,
        )
        failed = [first]

        async def turn() -> T:
            if failed:
                raise failed.pop()
            return await attempt()

        try:
            return await retrying(turn)
        finally:
            retrying.iter_state.reset()  # it refers to itself: the run's input would wait for the garbage collector

    def _may_repeat(self, error: BaseException) -> bool:
        if not isinstance(error, ProviderFault):
            return False
        rule = RULES[error.cause]
        again = rule.poll if self._call.safe else rule.start
        if not self._call.safe and self._repeatable and rule.sent is Sent.MAYBE:
            again = Again.RETRY
        if again is Again.ONCE:
            first_time = error.cause not in self._once
            self._once.add(error.cause)
            return first_time
        return again is Again.RETRY

    def _must_stop(self, state: RetryCallState) -> bool:
        """Whether the wait would outlast the deadline, or a start has no attempt left; polls always have."""
        if self._clock.monotonic() + state.upcoming_sleep >= self._deadline:
            return True
        return not self._call.safe and not (state.attempt_number < self._policy.attempts and self._permit())

    def _wait(self, state: RetryCallState) -> float:
        """Full jitter (a random share of a doubling step), and never less than the provider asked for."""
        step = self._policy.backoff * 2.0 ** min(state.attempt_number - 1, 30)
        return max(_fault(state).retry_after or 0.0, self._clock.random() * min(step, self._policy.backoff_max))


def _fault(state: RetryCallState) -> ProviderFault:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, ProviderFault)  # noqa: S101 - nothing else is retried
    return error
