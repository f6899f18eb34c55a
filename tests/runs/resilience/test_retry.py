"""Retry table, row by row, and its execution."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Ending, Overloaded
from gateway.problems import PROBLEMS
from gateway.runs.resilience.retry import (
    RETRY_RULES,
    DispatchState,
    Repeat,
    RetryLoop,
    RetryPolicy,
    classify_fault,
)
from providers.contract import Call, Cause, ProviderFault
from tests.support.clock import ManualClock

START = Call("POST", "/start", "start", safe=False)
POLL = Call("GET", "/poll", "poll", safe=True)
NEVER, ONCE, RETRY, SLOWLY = Repeat.NEVER, Repeat.ONCE, Repeat.RETRY, Repeat.SLOWLY

# Retry table: cause, action for a start, for a poll, final problem, outcome. (EXHAUSTED is local, not the provider's.)
TABLE: list[tuple[Cause, Repeat, Repeat, int, str, Ending]] = [
    (Cause.UNREACHABLE, RETRY, RETRY, 502, "upstream_unreachable", "not_run"),
    (Cause.EXHAUSTED, RETRY, RETRY, 503, "overloaded", "not_run"),
    (Cause.MISCONFIGURED, NEVER, SLOWLY, 502, "upstream_misconfigured", "not_run"),
    (Cause.THROTTLED, RETRY, RETRY, 503, "upstream_throttled", "not_run"),
    (Cause.UNAVAILABLE, ONCE, RETRY, 503, "upstream_unavailable", "not_run"),
    (Cause.DISCONNECTED, NEVER, RETRY, 502, "upstream_disconnected", "unknown"),
    (Cause.GATEWAY_ERROR, NEVER, RETRY, 502, "upstream_error", "unknown"),
    (Cause.TIMEOUT, NEVER, RETRY, 504, "upstream_timeout", "unknown"),
    (Cause.SERVER_ERROR, NEVER, RETRY, 502, "upstream_error", "unknown"),
    (Cause.RUN_FAILED, NEVER, NEVER, 502, "run_failed", "failed"),
    (Cause.INVALID_REPLY, NEVER, SLOWLY, 502, "upstream_invalid_response", "unknown"),
    (Cause.TOO_LARGE, NEVER, SLOWLY, 502, "upstream_too_large", "unknown"),
    (Cause.REJECTED, NEVER, SLOWLY, 422, "rejected_by_provider", "not_run"),
    (Cause.CREDENTIALS, NEVER, SLOWLY, 502, "upstream_credentials", "not_run"),
    (Cause.NOT_FOUND, NEVER, SLOWLY, 404, "workflow_not_found", "not_run"),
]
MAYBE = [Cause.DISCONNECTED, Cause.GATEWAY_ERROR, Cause.TIMEOUT, Cause.SERVER_ERROR]


@dataclass
class RetryTrial:
    """Call that meets these faults in sequence and then succeeds, and its results."""

    faults: Sequence[ProviderFault]
    call: Call = START
    repeatable: bool = False
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    seconds: float = 60.0
    permit_retry: Callable[[], bool] = lambda: True
    clock: ManualClock = field(default_factory=ManualClock)
    started: bool = True
    attempts: int = 0
    retried_causes: list[Cause] = field(default_factory=list)

    async def run(self) -> str | Cause:
        """Return "done", or the cause of the last fault."""
        retry = RetryLoop(
            self.policy,
            self.clock,
            call=self.call,
            repeatable=self.repeatable,
            started=self.started,
            deadline=self.clock.monotonic() + self.seconds,
            permit_retry=self.permit_retry,
            sleep=self.clock.sleep,
        )
        self.attempts = 1
        try:
            return await retry.run(
                self._attempt, self.faults[0], on_retry=lambda f: self.retried_causes.append(f.cause)
            )
        except ProviderFault as fault:
            return fault.cause

    async def _attempt(self) -> str:
        self.attempts += 1
        if self.attempts <= len(self.faults):
            raise self.faults[self.attempts - 1]
        return "done"


def provider_faults(*causes: Cause) -> list[ProviderFault]:
    """Faults without Retry-After."""
    return [ProviderFault(cause) for cause in causes]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0].value)
def test_the_retry_rules_match_the_designed_table(row: tuple[Cause, Repeat, Repeat, int, str, Ending]) -> None:
    cause, start, poll, status, code, ending = row
    rule = RETRY_RULES[cause]
    assert (start, poll, code, ending) == (rule.repeat_start, rule.repeat_poll, rule.code, rule.ending)
    assert status == PROBLEMS[code].status


def test_every_cause_has_a_row() -> None:
    assert set(Cause) == set(RETRY_RULES) == {row[0] for row in TABLE}


def test_dispatch_knowledge_and_ending_agree() -> None:
    """Causes that may have started a run are never repeated nor called not_run; only they are called unknown."""
    endings = {DispatchState.NO: "not_run", DispatchState.REJECTED: "not_run", DispatchState.RAN: "failed"}
    for rule in RETRY_RULES.values():
        assert endings.get(rule.dispatched, "unknown") == rule.ending
        if rule.dispatched in {DispatchState.MAYBE, DispatchState.ACCEPTED, DispatchState.RAN}:
            assert NEVER is rule.repeat_start
            assert not PROBLEMS[rule.code].retryable


def test_client_errors_do_not_open_a_circuit() -> None:
    """R23: neither 4xx nor the provider's limit, a failed run, or a local lack of sockets."""
    quiet = {Cause.EXHAUSTED, Cause.THROTTLED, Cause.RUN_FAILED, Cause.REJECTED, Cause.CREDENTIALS, Cause.NOT_FOUND}
    assert quiet == {cause for cause, rule in RETRY_RULES.items() if not rule.trips_breaker}


@pytest.mark.parametrize("cause", Cause)
def test_a_fault_of_a_start_is_classified_by_the_table(cause: Cause) -> None:
    rule = RETRY_RULES[cause]
    assert (rule.code, rule.ending, rule.falls_back) == classify_fault(ProviderFault(cause), START, started=False)


@pytest.mark.parametrize("cause", Cause)
def test_a_fault_of_a_poll_leaves_the_ending_unknown(cause: Cause) -> None:
    """The run had been started, so `not_run`, 404 and 422 would be false for any fault of a poll."""
    code, ending, falls_back = classify_fault(ProviderFault(cause), POLL, started=True)
    assert ("unknown", True) == (ending, falls_back)
    assert PROBLEMS[code].status >= 500
    assert "not_run" == classify_fault(ProviderFault(cause), POLL, started=False)[1]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0].value)
@pytest.mark.parametrize("call", [START, POLL], ids=["start", "poll"])
async def test_a_call_is_repeated_as_often_as_the_table_says(
    row: tuple[Cause, Repeat, Repeat, int, str, Ending], call: Call
) -> None:
    """Starts: at most three in total; polls: until the deadline."""
    cause, start, poll, *_ = row
    trial = RetryTrial(provider_faults(*[cause] * 1000), call)
    assert cause is await trial.run()
    again = poll if call.safe else start
    if again in {RETRY, SLOWLY} and call.safe:
        assert (10 < trial.attempts < 1000) if again is RETRY else (5 < trial.attempts < 12)
        assert 1000 + 59 < trial.clock.monotonic() < 1000 + 60
    else:
        assert {NEVER: 1, ONCE: 2, RETRY: 3}[again] == trial.attempts
    assert [cause] * (trial.attempts - 1) == trial.retried_causes


@pytest.mark.parametrize("cause", Cause)
async def test_repeatable_lets_a_start_be_repeated_that_may_have_been_sent(cause: Cause) -> None:
    """Not one that was accepted, rejected or executed."""
    trial = RetryTrial(provider_faults(*[cause] * 5), repeatable=True)
    plain = RetryTrial(provider_faults(*[cause] * 5))
    await trial.run()
    await plain.run()
    assert (3 if cause in MAYBE else plain.attempts) == trial.attempts


async def test_a_success_ends_the_retries() -> None:
    trial = RetryTrial(provider_faults(Cause.UNREACHABLE, Cause.THROTTLED))
    assert ("done", 3) == (await trial.run(), trial.attempts)


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_starts_are_counted_whatever_they_meet(attempts: int) -> None:
    """One counter for all causes."""
    causes = [Cause.UNREACHABLE, Cause.THROTTLED] * 5
    trial = RetryTrial(provider_faults(*causes), policy=RetryPolicy(attempts, 0.1, 5.0))
    await trial.run()
    assert attempts == trial.attempts


@pytest.mark.parametrize("cause", [row[0] for row in TABLE if row[2] is SLOWLY])
async def test_before_a_start_a_safe_call_is_repeated_once_at_most(cause: Cause) -> None:
    """Nothing was paid for yet: a refused look-up ends the run."""
    trial = RetryTrial(provider_faults(*[cause] * 9), POLL, started=False)
    assert (cause, 2) == (await trial.run(), trial.attempts)


async def test_refused_polls_become_rarer() -> None:
    """A revoked key, say, is tried again after seconds and in the end once in `max_poll_interval` (60 s)."""
    trial = RetryTrial(provider_faults(*[Cause.CREDENTIALS] * 1000), POLL, seconds=1000)
    await trial.run()
    slept = trial.clock.slept
    assert slept[0] <= 1.0
    assert {True} == {30 <= seconds <= 60 for seconds in slept[8:-1]}
    assert len(slept) < 40


@pytest.mark.parametrize("hint", [0.5, 7.0, 59.0])
async def test_retry_after_is_waited_for(hint: float) -> None:
    """R09: at least the time that the provider requests."""
    trial = RetryTrial([ProviderFault(Cause.THROTTLED, retry_after=hint)])
    assert "done" == await trial.run()
    [slept] = trial.clock.slept
    assert slept == max(hint, slept)


@pytest.mark.parametrize("hint", [60.0, 86_400.0])
@pytest.mark.parametrize("call", [START, POLL])
async def test_a_retry_after_beyond_the_deadline_is_not_waited_for(call: Call, hint: float) -> None:
    """R10: no wait for a retry that cannot succeed before the deadline."""
    trial = RetryTrial([ProviderFault(Cause.THROTTLED, retry_after=hint)], call)
    assert (Cause.THROTTLED, 1, []) == (await trial.run(), trial.attempts, trial.clock.slept)


async def test_without_retry_budget_no_start_is_repeated() -> None:
    """R22: an exhausted budget. It is charged once per retry, and only if the retry is allowed otherwise."""
    asked: list[int] = []

    def permit() -> bool:
        asked.append(1)
        return len(asked) < 2

    trial = RetryTrial(provider_faults(*[Cause.UNREACHABLE] * 9), permit_retry=permit, policy=RetryPolicy(9, 0.1, 5.0))
    assert (Cause.UNREACHABLE, 2, 2) == (await trial.run(), trial.attempts, len(asked))
    hopeless = RetryTrial(provider_faults(Cause.REJECTED), permit_retry=permit)
    await hopeless.run()
    late = RetryTrial([ProviderFault(Cause.THROTTLED, retry_after=90)], permit_retry=permit)
    await late.run()
    assert 2 == len(asked)


async def test_polls_need_no_retry_budget() -> None:
    """Polls are cheap, and required to see the end of a paid run."""
    trial = RetryTrial(provider_faults(Cause.TIMEOUT), POLL, permit_retry=lambda: False)
    assert "done" == await trial.run()


@given(attempts=st.integers(2, 12), seed=st.integers(0, 50))
def test_waits_are_random_shares_of_doubling_steps(attempts: int, seed: int) -> None:
    """R20: each gap lies in [0, cap(n)]; caps double up to the maximum."""
    policy = RetryPolicy(attempts, 0.1, 2.0)
    trial = RetryTrial(
        provider_faults(*[Cause.UNREACHABLE] * 20), policy=policy, seconds=1e9, clock=ManualClock(seed=seed)
    )
    asyncio.run(trial.run())
    caps = [min(0.1 * 2**n, 2.0) for n in range(attempts - 1)]
    assert len(caps) == len(trial.clock.slept)
    assert all(0 <= gap <= cap for gap, cap in zip(trial.clock.slept, caps, strict=True))


async def test_two_processes_do_not_wait_in_step() -> None:
    """R20: random numbers come from the clock and differ between processes."""
    gaps = set()
    for seed in range(20):
        trial = RetryTrial(provider_faults(Cause.UNREACHABLE), clock=ManualClock(seed=seed))
        await trial.run()
        gaps.update(trial.clock.slept)
    assert 20 == len(gaps)
    assert max(gaps) > 0.05


async def test_the_backoff_stays_bounded_after_a_thousand_polls() -> None:
    trial = RetryTrial(provider_faults(*[Cause.TIMEOUT] * 1500), POLL, seconds=1e9)
    assert "done" == await trial.run()
    assert max(trial.clock.slept) <= 5.0


@given(
    causes=st.lists(st.sampled_from(list(Cause)), min_size=1, max_size=12),
    hints=st.lists(st.none() | st.floats(0, 100), min_size=12, max_size=12),
    seconds=st.floats(0.01, 120),
    attempts=st.integers(1, 5),
    repeatable=st.booleans(),
    safe=st.booleans(),
)
def test_no_mix_of_faults_breaks_the_bounds(
    causes: list[Cause], hints: list[float | None], seconds: float, attempts: int, *, repeatable: bool, safe: bool
) -> None:
    """R21: never more attempts than configured, a wait beyond the deadline, or a forbidden retry."""
    met = [ProviderFault(cause, retry_after=hint) for cause, hint in zip(causes, hints, strict=False)]
    trial = RetryTrial(met, POLL if safe else START, repeatable, RetryPolicy(attempts, 0.1, 5.0), seconds)
    result = asyncio.run(trial.run())
    assert trial.clock.monotonic() <= 1000 + seconds
    assert trial.attempts == len(trial.retried_causes) + 1
    if not safe:
        assert trial.attempts <= attempts
        forbidden = (
            {DispatchState.ACCEPTED, DispatchState.RAN}
            if repeatable
            else {DispatchState.MAYBE, DispatchState.ACCEPTED, DispatchState.RAN}
        )
        assert not any(RETRY_RULES[cause].dispatched in forbidden for cause in trial.retried_causes)
    assert result in {"done", *causes}


@pytest.mark.parametrize("stop", [asyncio.CancelledError(), Overloaded(), RuntimeError("ours")])
async def test_other_exceptions_are_raised_unchanged(stop: BaseException) -> None:
    """A disconnected client, a limit or an internal error is neither retried nor converted."""
    clock, made = ManualClock(), []

    async def attempt() -> str:
        made.append(1)
        raise stop

    retry = RetryLoop(
        RetryPolicy(), clock, call=START, repeatable=True, deadline=2000, permit_retry=lambda: True, sleep=clock.sleep
    )
    with pytest.raises(type(stop)) as caught:
        await retry.run(attempt, ProviderFault(Cause.UNREACHABLE), on_retry=lambda _: None)
    assert (stop, 1) == (caught.value, len(made))


async def test_cancellation_during_a_backoff_is_raised() -> None:
    waiting = asyncio.Event()

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def attempt() -> str:
        raise AssertionError("it was not to be made")

    retry = RetryLoop(
        RetryPolicy(), ManualClock(), call=START, repeatable=True, deadline=2000, permit_retry=lambda: True, sleep=sleep
    )
    task = asyncio.create_task(retry.run(attempt, ProviderFault(Cause.UNREACHABLE), on_retry=lambda _: None))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
