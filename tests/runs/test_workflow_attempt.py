"""Attempt of a run on one workflow: execution of the adapter's steps, with deadlines and typed errors."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass

import pytest

from gateway.http.problem_mapping import problem_from_error
from gateway.limits.config import RateLimit, ResourceLimitsConfig
from gateway.runs.polling.schedule import PollSchedule
from gateway.runs.resilience.circuit_breaker import BreakerConfig, CircuitState
from gateway.runs.resilience.retry import RetryPolicy
from providers.contract import (
    UNREADABLE,
    Call,
    Cause,
    KeyHeader,
    Outcome,
    Pause,
    ProviderFault,
    Reply,
    Run,
    Step,
    Steps,
    ask,
    invalid,
)
from tests.runs.executor_harness import (
    DONE,
    ENDED,
    RUNNING,
    STARTED,
    DelayedReply,
    ExecutorHarness,
    ScriptStep,
    ending_of_run,
    fault,
    poll_times,
    upstream_of,
)

# One call.


async def test_a_start_that_is_answered_is_a_run_that_succeeded() -> None:
    harness = ExecutorHarness()
    record, problem = await harness.run(harness.studio(DONE))
    assert (None, "succeeded", 1, "because") == (problem, record.status, record.attempts, record.output)


async def test_the_run_spec_is_sent_to_the_provider() -> None:
    """Input, metadata, the provider's name of the workflow, and the label of client or configuration."""
    harness = ExecutorHarness()
    record = harness.new_run(input={"q": 1}, metadata={"a": "b"}, label="beta", return_all_outputs=True)
    workflow = harness.layer(STARTED, ENDED)
    await harness.run(workflow, record)
    call, *_ = upstream_of(workflow).sent[0]
    assert ("POST", "/workflows/layer-name/run") == (call.method, call.path)
    assert {
        "input_variables": {"q": 1},
        "metadata": {"a": "b"},
        "return_all_outputs": True,
        "workflow_label_name": "beta",
    } == call.json


async def test_what_the_configuration_pins_is_sent() -> None:
    harness = ExecutorHarness()
    pinned = harness.layer(STARTED, ENDED, version=3)
    await harness.run(pinned)
    call, *_ = upstream_of(pinned).sent[0]
    assert isinstance(call.json, dict)
    assert 3 == call.json["workflow_version_number"]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(200, {"other": 1}), ("upstream_invalid_response", "unknown", 1)),
        (Reply(200, UNREADABLE), ("upstream_invalid_response", "unknown", 1)),
        (Reply(400), ("rejected_by_provider", "not_run", 1)),
        (Reply(401), ("upstream_credentials", "not_run", 1)),
        (Reply(403), ("upstream_credentials", "not_run", 1)),
        (Reply(404), ("workflow_not_found", "not_run", 1)),
        (Reply(408), ("upstream_error", "unknown", 1)),
        (Reply(422), ("rejected_by_provider", "not_run", 1)),
        (Reply(429), ("upstream_throttled", "not_run", 3)),
        (Reply(500), ("run_failed", "failed", 1)),
        (Reply(502), ("upstream_error", "unknown", 1)),
        (Reply(503), ("upstream_error", "unknown", 1)),
        (Reply(503, retry_after=0.5), ("upstream_unavailable", "not_run", 2)),
        (Reply(504), ("upstream_error", "unknown", 1)),
        (Reply(599), ("upstream_error", "unknown", 1)),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else "",
)
async def test_each_answer_to_a_start_ends_as_the_table_says(reply: Reply, expected: tuple[str, str, int]) -> None:
    """R12, R14, R15, R17; `attempts` equals the number of requests."""
    harness = ExecutorHarness()
    workflow = harness.studio(reply)
    assert expected == ending_of_run(await harness.run(workflow))
    assert expected[2] == upstream_of(workflow).starts


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (Cause.UNREACHABLE, ("upstream_unreachable", "not_run", 3)),
        (Cause.EXHAUSTED, ("overloaded", "not_run", 3)),
        (Cause.MISCONFIGURED, ("upstream_misconfigured", "not_run", 1)),
        (Cause.DISCONNECTED, ("upstream_disconnected", "unknown", 1)),
        (Cause.TIMEOUT, ("upstream_timeout", "unknown", 1)),
        (Cause.INVALID_REPLY, ("upstream_invalid_response", "unknown", 1)),
        (Cause.TOO_LARGE, ("upstream_too_large", "unknown", 1)),
    ],
)
async def test_each_fault_of_the_transport_ends_as_the_table_says(cause: Cause, expected: tuple[str, str, int]) -> None:
    """R02 to R07, R26."""
    harness = ExecutorHarness()
    workflow = harness.studio(fault(cause))
    assert expected == ending_of_run(await harness.run(workflow))
    assert expected[2] == upstream_of(workflow).starts


async def test_a_start_succeeds_at_the_third_attempt() -> None:
    """R01: three attempts, two of which could not be sent."""
    harness = ExecutorHarness()
    refused = fault(Cause.UNREACHABLE)
    assert (None, "succeeded", 3) == ending_of_run(await harness.run(harness.studio(refused, refused, DONE)))


@pytest.mark.parametrize("first", [fault(Cause.DISCONNECTED), Reply(502), Reply(503), fault(Cause.TIMEOUT)])
async def test_repeatable_repeats_what_may_have_been_sent(first: Reply | ProviderFault) -> None:
    """Only if configured."""
    harness = ExecutorHarness()
    assert (None, "succeeded", 2) == ending_of_run(await harness.run(harness.studio(first, DONE, repeatable=True)))
    assert 1 == ending_of_run(await harness.run(harness.studio(first, DONE)))[2]


async def test_a_possible_start_stays_unknown_when_its_repeat_was_rejected() -> None:
    """The first attempt may have started a run, so `not_run` would be false and a retry a second run."""
    harness = ExecutorHarness()
    for last in (Reply(422), Reply(429, retry_after=9), fault(Cause.UNREACHABLE)):
        record, problem = await harness.run(harness.studio(Reply(502), last, repeatable=True))
        assert problem is not None
        assert ("unknown", "unknown", None) == (record.status, problem.ending, problem.retry_after)


@pytest.mark.parametrize(
    ("reply", "retry_after"),
    [
        (Reply(429, retry_after=90), 90),
        (Reply(503, retry_after=90), 90),
        (Reply(429), 5.0),
        (Reply(502, retry_after=90), None),
    ],
)
async def test_retry_after_is_returned_where_a_repeat_costs_nothing(reply: Reply, retry_after: float | None) -> None:
    """R10: the provider's, or else the longest backoff; never if the outcome is unknown."""
    harness = ExecutorHarness()
    _, problem = await harness.run(harness.studio(reply))
    assert problem is not None
    assert retry_after == problem.retry_after


async def test_error_text_of_the_provider_is_returned_cleaned() -> None:
    """R15, R81: one line, no stack trace, after the gateway's own text."""
    harness = ExecutorHarness()
    said = "no such variable\r\n\x1b[31mCANARY Traceback (most recent call last): secret"
    _, problem = await harness.run(harness.layer(Reply(422, {"message": said})))
    assert problem is not None
    assert "The provider rejected the request: no such variable [31mCANARY." == problem.detail


# Start, then ask.


async def test_a_run_is_followed_to_its_end() -> None:
    harness = ExecutorHarness()
    workflow = harness.layer(STARTED, RUNNING, RUNNING, ENDED)
    record, problem = await harness.run(workflow)
    assert (None, "because", "787", 1) == (problem, record.output, record.provider_run_id, record.attempts)
    assert (1, 4) == (upstream_of(workflow).starts, len(upstream_of(workflow).sent))


async def test_the_record_has_the_last_known_statuses_of_the_nodes() -> None:
    """A poll that does not show them leaves the last known ones."""
    harness = ExecutorHarness()
    polls = [Reply(202, {"a": {"status": status}}) for status in ("QUEUED", "RUNNING")]
    record, problem = await harness.run(harness.layer(STARTED, *polls, Reply(202, "strange"), Reply(204), ENDED))
    assert (None, {"a": "running"}) == (problem, record.nodes)


async def test_a_run_that_is_done_at_the_first_poll_has_no_nodes_in_progress() -> None:
    harness = ExecutorHarness()
    record, _ = await harness.run(harness.layer(STARTED, ENDED))
    assert {} == record.nodes


async def test_polls_respect_the_shortest_and_the_longest_interval() -> None:
    harness = ExecutorHarness(poll_schedule=PollSchedule(0.25, 5.0))
    workflow = harness.layer(STARTED, *[RUNNING] * 30, ENDED)
    await harness.run(workflow)
    times = [0.0, *poll_times(upstream_of(workflow))]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert 0.25 == min(gaps)
    assert max(gaps) <= 5.0


async def test_polling_continues_after_every_kind_of_fault() -> None:
    """R13: RST, 500, timeout, 429, refused connection; one start."""
    harness = ExecutorHarness()
    bad: list[ScriptStep] = [
        fault(Cause.DISCONNECTED),
        Reply(500),
        DelayedReply(99),
        Reply(429, retry_after=2),
        fault(Cause.UNREACHABLE),
    ]
    workflow = harness.layer(STARTED, *bad, RUNNING, fault(Cause.GATEWAY_ERROR), ENDED)
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(workflow))
    assert 1 == upstream_of(workflow).starts


async def test_an_unanswered_poll_is_repeated() -> None:
    """R13: it does not use the whole time of the run."""
    harness = ExecutorHarness(poll_schedule=PollSchedule(0.25, 5.0, 10.0))
    workflow = harness.layer(STARTED, DelayedReply(1e9), ENDED)
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(workflow))
    first, second = poll_times(upstream_of(workflow))
    assert 10.0 <= second - first <= 10.2


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(404), "upstream_error"),
        (Reply(422), "upstream_error"),
        (Reply(401), "upstream_credentials"),
        (fault(Cause.MISCONFIGURED), "upstream_misconfigured"),
        (Reply(200, {"Answer": {"status": "WHAT", "value": 1}}), "upstream_invalid_response"),
        (Reply(200, UNREADABLE), "upstream_invalid_response"),
    ],
)
async def test_a_started_run_that_cannot_be_polled_is_unknown(reply: Reply | ProviderFault, code: str) -> None:
    """It continues at the provider and is never started again."""
    harness = ExecutorHarness()
    workflow = harness.layer(STARTED, reply, repeatable=True)
    assert (code, "unknown", 1) == ending_of_run(await harness.run(workflow))


@pytest.mark.parametrize(
    "reply",
    [Reply(status) for status in (400, 401, 403, 404, 409, 422)]
    + [Reply(200, UNREADABLE), Reply(200, {"Answer": {}}), fault(Cause.TOO_LARGE), fault(Cause.MISCONFIGURED)],
    ids=str,
)
async def test_a_started_run_is_polled_whatever_its_polls_meet(reply: ScriptStep) -> None:
    """The run was paid for, and a poll is free: a key that is rotated, or a cache that lags, loses no result."""
    harness = ExecutorHarness()
    workflow = harness.layer(STARTED, reply, reply, RUNNING, reply, ENDED)
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(workflow))


@pytest.mark.parametrize("polls", [[RUNNING], [Reply(401)], [fault(Cause.DISCONNECTED)]], ids=["runs", "401", "reset"])
async def test_a_background_run_is_polled_after_its_deadline(polls: list[ScriptStep]) -> None:
    """A deadline is not an ending: the provider is asked until the run has ended, and its slots are free meanwhile."""
    harness = ExecutorHarness(poll_schedule=PollSchedule(0.25, 5.0))
    record = harness.new_run(timeout=10, synchronous=False)
    deadline, seen = record.deadline, []

    def ended() -> Reply:
        seen.append((record.status, record.followed, harness.slots_in_use()))
        return ENDED

    def running() -> Reply:
        step = ended() if harness.clock.monotonic() > deadline + 300 else polls[0]
        if isinstance(step, BaseException):
            raise step
        assert isinstance(step, Reply)
        return step

    workflow = harness.layer(STARTED, running)
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(workflow, record))
    assert [("unknown", True, 0)] == seen
    assert 1 == harness.metric_value("runward_followed_runs_total", provider="layer", outcome="succeeded")
    assert 1 == harness.metric_value("runward_runs_total", outcome="succeeded")
    assert 1 == harness.metric_value("runward_runs_total")


@pytest.mark.parametrize(("follow_for", "seconds"), [(0.0, 0.0), (90.0, 90.0)])
async def test_a_run_that_never_ends_is_given_up_after_follow_for(follow_for: float, seconds: float) -> None:
    """Its end stays unknown."""
    harness = ExecutorHarness(poll_schedule=PollSchedule(0.25, 5.0, follow_for=follow_for))
    record = harness.new_run(timeout=10, synchronous=False)
    began = harness.clock.monotonic()
    result = await harness.run(harness.layer(STARTED, RUNNING), record)
    assert ("deadline_exceeded", "unknown", 1) == ending_of_run(result)
    assert began + 10 + seconds == pytest.approx(harness.clock.monotonic(), abs=0.5)


async def test_a_run_that_is_slower_than_its_deadline_is_unknown() -> None:
    """504 with the provider's run id, for a look-up at the provider."""
    harness = ExecutorHarness()
    record = harness.new_run(timeout=10)
    workflow = harness.layer(STARTED, RUNNING)
    assert ("deadline_exceeded", "unknown", 1) == ending_of_run(await harness.run(workflow, record))
    assert ("787", record.deadline) == (record.provider_run_id, harness.clock.monotonic())


async def test_the_last_poll_is_made_shortly_before_the_deadline() -> None:
    """A paid run may end during the last long pause."""
    harness = ExecutorHarness(poll_schedule=PollSchedule(0.25, 60.0))
    record = harness.new_run(timeout=100)
    workflow = harness.layer(STARTED, RUNNING)
    await harness.run(workflow, record)
    assert 99.0 < max(poll_times(upstream_of(workflow))) < 100


async def test_a_deadline_that_ends_the_connection_attempt_of_a_poll_is_a_timeout() -> None:
    """The time was too short to connect: that does not make the provider unreachable."""
    harness = ExecutorHarness()
    record = harness.new_run(timeout=10)

    def connect_until_the_deadline() -> Reply:
        record.deadline = harness.clock.monotonic()
        raise fault(Cause.UNREACHABLE)

    workflow = harness.layer(STARTED, connect_until_the_deadline)
    assert ("upstream_timeout", "unknown", 1) == ending_of_run(await harness.run(workflow, record))


@pytest.mark.parametrize("seconds", [0.3, 0.5, 0.7])
async def test_a_short_deadline_leaves_time_for_a_poll(seconds: float) -> None:
    harness = ExecutorHarness(poll_schedule=PollSchedule(0.25, 60.0))
    workflow = harness.layer(STARTED, ENDED)
    assert None is ending_of_run(await harness.run(workflow, harness.new_run(timeout=seconds)))[0]


@pytest.mark.parametrize("seconds", [0.01, 0.25, 1.0, 30.0])
async def test_nothing_outlasts_the_deadline(seconds: float) -> None:
    """R29: for a slow start and for slow polls."""
    for script in (
        [DelayedReply(1e9)],
        [STARTED, RUNNING],
        [STARTED, DelayedReply(1e9)],
        [STARTED, DelayedReply(9.0, Reply(500))],
    ):
        harness = ExecutorHarness()
        record = harness.new_run(timeout=seconds)
        workflow = harness.layer(*script)
        _, problem = await harness.run(workflow, record)
        assert problem is not None
        assert "unknown" == record.status
        assert harness.clock.monotonic() <= record.deadline
        assert all(deadline <= record.deadline for _, _, deadline in upstream_of(workflow).sent)


async def test_a_failed_run_is_reported_with_its_reason() -> None:
    """R12: `failed` is certain; nodes are included if the client requested them."""
    harness = ExecutorHarness()
    failed = Reply(
        200, {"Answer": {"status": "FAILED", "value": None, "error_message": "no key", "is_output_node": True}}
    )
    record, problem = await harness.run(harness.layer(STARTED, failed), harness.new_run(return_all_outputs=True))
    assert problem is not None
    assert ("run_failed", "failed", "787") == (problem.code, record.status, record.provider_run_id)
    assert "The run failed at the provider: node 'Answer': no key." == problem.detail
    assert record.outputs is not None
    assert problem_from_error(problem).extra["outputs"] == record.outputs
    _, plain = await harness.run(harness.layer(STARTED, failed))
    assert plain is not None
    assert "outputs" not in problem_from_error(plain).extra


async def test_external_waiting_time_is_measured_separately() -> None:
    """The provider's time, pauses and backoff are external; the rest is overhead."""
    harness = ExecutorHarness()
    script: list[ScriptStep] = [
        Reply(429, retry_after=1.0),
        DelayedReply(2.0, STARTED),
        RUNNING,
        DelayedReply(4.0, ENDED),
    ]
    record, problem = await harness.run(harness.layer(*script))
    assert problem is None
    assert pytest.approx(record.duration) == record.external_wait
    assert record.duration > 7.0
    assert 0 == pytest.approx(harness.metric_value("runward_overhead_seconds_sum"))


async def test_the_wait_for_a_limit_is_measured_separately() -> None:
    harness = ExecutorHarness(providers={"studio": ResourceLimitsConfig(RateLimit(1, 1.0), burst=1, max_wait=5.0)})
    await harness.run(harness.studio(DONE))
    record, problem = await harness.run(harness.studio(DONE))
    assert problem is None
    assert pytest.approx(1.0) == record.duration == record.external_wait


async def test_retries_are_counted_by_cause() -> None:
    harness = ExecutorHarness()
    await harness.run(harness.layer(fault(Cause.UNREACHABLE), STARTED, Reply(500), ENDED))
    assert 1 == harness.metric_value("runward_retries_total", provider="layer", operation="start", cause="unreachable")
    assert 1 == harness.metric_value("runward_retries_total", provider="layer", operation="poll", cause="server_error")
    assert 2 == harness.metric_value("runward_retries_total")


async def test_no_run_is_started_for_a_disconnected_client() -> None:
    """R32: neither the first start nor a retry."""
    harness = ExecutorHarness()
    disconnected = [False]
    workflow = harness.studio(fault(Cause.UNREACHABLE), DONE)

    def disconnect() -> Reply:
        disconnected[0] = True
        raise fault(Cause.UNREACHABLE)

    assert ("client_closed_request", "not_run", 0) == ending_of_run(
        await harness.run(workflow, harness.new_run(client_connected=lambda: False))
    )
    leaving = harness.studio(disconnect, DONE)
    assert ("client_closed_request", "not_run", 1) == ending_of_run(
        await harness.run(leaving, harness.new_run(client_connected=lambda: not disconnected[0]))
    )
    assert (0, 1) == (upstream_of(workflow).starts, upstream_of(leaving).starts)


async def test_a_started_run_is_polled_although_the_client_disconnected() -> None:
    """R32: its outcome is logged."""
    harness = ExecutorHarness()
    disconnected = [False]

    def disconnect() -> Reply:
        disconnected[0] = True
        return STARTED

    record = harness.new_run(client_connected=lambda: not disconnected[0])
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(harness.layer(disconnect, RUNNING, ENDED), record))


# Defective adapters. Operators install them; they must not cause a second run.


@dataclass
class MisbehavingAdapter:
    """An adapter with the steps of the test."""

    make: Callable[[Run], Steps]
    key_header: KeyHeader = KeyHeader("X-API-KEY")  # noqa: RUF009 - frozen
    base_url: str = "https://odd.example"
    supports_versions: bool = False
    supports_nodes: bool = False

    def steps(self, run: Run) -> Steps:
        """See `Adapter.steps`."""
        return self.make(run)

    def follow(self, provider_run_id: str) -> None:
        """Return None: the provider cannot be polled."""


START = Call("POST", "/start", "start", safe=False)
LOOKUP = Call("GET", "/look", "look", safe=True)
StepGenerator = Generator[Step, Reply, Outcome]


def raises_a_fault(_: Run) -> StepGenerator:
    """Raise the fault that should have been yielded."""
    yield START
    raise ProviderFault(Cause.THROTTLED)


def yields_a_fault_after_a_pause(_: Run) -> StepGenerator:
    """Yield a fault without a reply."""
    yield START
    yield Pause("1")
    yield invalid("what?")
    return Outcome(succeeded=True)


def raises_an_unexpected_error(_: Run) -> StepGenerator:
    """Raise an unexpected exception."""
    yield START
    raise ZeroDivisionError


def yields_nonsense(_: Run) -> StepGenerator:
    """Yield an invalid step."""
    yield START
    yield "nonsense"  # type: ignore[misc]  # that is the point
    return Outcome(succeeded=True)


def returns_nothing(_: Run) -> StepGenerator:
    """Return no outcome."""
    yield START
    return None  # type: ignore[return-value]  # that is the point


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (yields_a_fault_after_a_pause, "internal"),
        (raises_an_unexpected_error, "internal"),
        (yields_nonsense, "internal"),
        (returns_nothing, "internal"),
    ],
)
async def test_an_adapter_that_errs_after_a_start_starts_nothing_more(make: Callable[[Run], Steps], code: str) -> None:
    """The run may continue at the provider, so its outcome is unknown."""
    harness = ExecutorHarness()
    workflow = harness.workflow(MisbehavingAdapter(make), DONE)
    code_found, status, attempts = ending_of_run(await harness.run(workflow))
    assert (code, "unknown", 1, 1) == (code_found, status, attempts, upstream_of(workflow).starts)
    assert 0 == harness.slots_in_use()


async def test_a_fault_that_is_raised_ends_the_run() -> None:
    """A raised fault is final: the adapter has ended and cannot read another reply."""
    harness = ExecutorHarness()
    workflow = harness.workflow(MisbehavingAdapter(raises_a_fault), DONE)
    assert ("upstream_throttled", "not_run", 1) == ending_of_run(await harness.run(workflow))
    assert (1, 0) == (upstream_of(workflow).starts, harness.slots_in_use())


async def test_an_adapter_that_errs_before_any_call_has_run_nothing() -> None:
    def trips(run: Run) -> StepGenerator:
        if run.workflow:
            raise ZeroDivisionError
        yield START
        return Outcome(succeeded=True)

    harness = ExecutorHarness()
    assert ("internal", "not_run", 0) == ending_of_run(
        await harness.run(harness.workflow(MisbehavingAdapter(trips), DONE))
    )
    assert 0 == harness.slots_in_use()


async def test_a_safe_call_before_the_start_says_nothing_about_a_run() -> None:
    """A look-up before the start does not make the outcome unknown."""

    def looks_first(_: Run) -> StepGenerator:
        yield from ask(LOOKUP, lambda reply: reply.status)
        yield from ask(START, lambda reply: reply.status)
        return Outcome(succeeded=True)

    harness = ExecutorHarness()
    missing = harness.workflow(MisbehavingAdapter(looks_first), fault(Cause.MISCONFIGURED))
    assert ("upstream_misconfigured", "not_run", 0) == ending_of_run(await harness.run(missing))
    assert (None, "succeeded", 1) == ending_of_run(
        await harness.run(harness.workflow(MisbehavingAdapter(looks_first), DONE))
    )


async def test_an_adapter_that_makes_no_call_has_run_nothing() -> None:
    def knows(run: Run) -> StepGenerator:
        if run.workflow == "":
            yield START
        return Outcome(succeeded=True, output=1)

    harness = ExecutorHarness()
    assert ("internal", "not_run", 0) == ending_of_run(
        await harness.run(harness.workflow(MisbehavingAdapter(knows), DONE))
    )


# The breaker.


async def test_the_breaker_records_one_result_for_each_start() -> None:
    """R23: failures of the provider count, actions of a client do not."""
    breaker_config = BreakerConfig(min_failures=2, failure_ratio=0.5, cooldown=10.0)
    for step, opens in ((Reply(502), True), (Reply(422), False), (Reply(500), False), (Reply(429), False)):
        harness = ExecutorHarness(breaker_config=breaker_config, retry_policy=RetryPolicy(1, 0.1, 1.0))
        workflow = harness.studio(step)
        await harness.run(workflow)
        await harness.run(workflow)
        state = harness.circuits.get("studio", "studio").breaker.state
        assert (CircuitState.OPEN if opens else CircuitState.CLOSED) is state


async def test_a_timeout_below_the_configured_one_opens_no_circuit() -> None:
    harness = ExecutorHarness(breaker_config=BreakerConfig(min_failures=1, failure_ratio=0.1))
    await harness.run(harness.studio(DelayedReply(9)), harness.new_run(timeout=1))
    assert CircuitState.CLOSED is harness.circuits.get("studio", "studio").breaker.state
    await harness.run(harness.studio(DelayedReply(99)), harness.new_run(timeout=60))
    assert CircuitState.OPEN is harness.circuits.get("studio", "studio").breaker.state


async def test_a_cancelled_probe_allows_the_next_probe() -> None:
    """Otherwise the circuit would stay half-open."""
    harness = ExecutorHarness(breaker_config=BreakerConfig(min_failures=1, failure_ratio=0.1, cooldown=10.0))
    await harness.run(harness.studio(Reply(502)))
    harness.clock.advance(10)
    with pytest.raises(asyncio.CancelledError):
        await harness.run(harness.studio(asyncio.CancelledError()))
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(harness.studio(DONE)))


async def test_an_open_circuit_ends_the_retries() -> None:
    """R23: retries respect the circuit breaker."""
    harness = ExecutorHarness(
        breaker_config=BreakerConfig(min_failures=2, failure_ratio=0.1), retry_policy=RetryPolicy(9, 0.1, 1.0)
    )
    workflow = harness.studio(fault(Cause.UNREACHABLE))
    assert ("upstream_unreachable", "not_run", 2) == ending_of_run(await harness.run(workflow))
