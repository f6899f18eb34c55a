"""A run on one workflow: the adapter's steps, each taken once, in time, and never misread."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass

import pytest

from gateway.access.limits import Rate, SharedLimits
from gateway.runs.breaker import State, Tolerance
from gateway.runs.polling import Schedule
from gateway.runs.retry import Policy
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
from tests.runs.scripted import (
    DONE,
    ENDED,
    RUNNING,
    STARTED,
    Act,
    Late,
    World,
    door_of,
    ending,
    fault,
    polled,
)

# One call.


async def test_a_start_that_is_answered_is_a_run_that_succeeded() -> None:
    world = World()
    record, problem = await world.run(world.studio(DONE))
    assert (None, "succeeded", 1, "because") == (problem, record.status, record.attempts, record.output)


async def test_the_order_is_what_is_sent() -> None:
    """Input and metadata, the provider's own name, and the label that the client or the configuration chose."""
    world = World()
    record = world.order(input={"q": 1}, metadata={"a": "b"}, label="beta", return_all_outputs=True)
    workflow = world.layer(STARTED, ENDED)
    await world.run(workflow, record)
    call, *_ = door_of(workflow).sent[0]
    assert ("POST", "/workflows/layer-name/run") == (call.method, call.path)
    assert {
        "input_variables": {"q": 1},
        "metadata": {"a": "b"},
        "return_all_outputs": True,
        "workflow_label_name": "beta",
    } == call.json


async def test_what_the_configuration_pins_is_sent() -> None:
    world = World()
    pinned = world.layer(STARTED, ENDED, version=3)
    await world.run(pinned)
    call, *_ = door_of(pinned).sent[0]
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
    """R12, R14, R15, R17; what was counted is what was sent."""
    world = World()
    workflow = world.studio(reply)
    assert expected == ending(await world.run(workflow))
    assert expected[2] == door_of(workflow).starts


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
    world = World()
    workflow = world.studio(fault(cause))
    assert expected == ending(await world.run(workflow))
    assert expected[2] == door_of(workflow).starts


async def test_refused_refused_and_then_done() -> None:
    """R01: three attempts, whoever was not there for two of them."""
    world = World()
    refused = fault(Cause.UNREACHABLE)
    assert (None, "succeeded", 3) == ending(await world.run(world.studio(refused, refused, DONE)))


@pytest.mark.parametrize("first", [fault(Cause.DISCONNECTED), Reply(502), Reply(503), fault(Cause.TIMEOUT)])
async def test_repeatable_repeats_what_may_have_been_sent(first: Reply | ProviderFault) -> None:
    """And only where the operator said so."""
    world = World()
    assert (None, "succeeded", 2) == ending(await world.run(world.studio(first, DONE, repeatable=True)))
    assert 1 == ending(await world.run(world.studio(first, DONE)))[2]


async def test_what_may_have_run_stays_unknown_even_if_its_repetition_was_refused() -> None:
    """The first of the two may have started a run: `not_run` would be a lie, and coming back a second run."""
    world = World()
    for last in (Reply(422), Reply(429, retry_after=9), fault(Cause.UNREACHABLE)):
        record, problem = await world.run(world.studio(Reply(502), last, repeatable=True))
        assert problem is not None
        assert ("unknown", "unknown", None) == (record.status, problem.extra["outcome"], problem.retry_after)


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (Reply(429, retry_after=90), 90),
        (Reply(503, retry_after=90), 90),
        (Reply(429), 5.0),
        (Reply(502, retry_after=90), None),
    ],
)
async def test_a_hint_is_handed_on_where_coming_back_costs_nothing(reply: Reply, hint: float | None) -> None:
    """R10: the provider's, or our longest back-off where it names none; never where the run is unknown."""
    world = World()
    _, problem = await world.run(world.studio(reply))
    assert problem is not None
    assert hint == problem.retry_after


async def test_words_of_the_provider_are_handed_on_cleaned() -> None:
    """R15, R81: one line, no stack trace, behind our own words."""
    world = World()
    said = "no such variable\r\n\x1b[31mCANARY Traceback (most recent call last): secret"
    _, problem = await world.run(world.layer(Reply(422, {"message": said})))
    assert problem is not None
    assert "The provider does not accept this run: no such variable [31mCANARY." == problem.detail


# Start, then ask.


async def test_a_run_is_followed_to_its_end() -> None:
    world = World()
    workflow = world.layer(STARTED, RUNNING, RUNNING, ENDED)
    record, problem = await world.run(workflow)
    assert (None, "because", "787", 1) == (problem, record.output, record.provider_run_id, record.attempts)
    assert (1, 4) == (door_of(workflow).starts, len(door_of(workflow).sent))


async def test_questions_are_not_asked_at_once_and_not_all_the_time() -> None:
    world = World(schedule=Schedule(0.25, 5.0))
    workflow = world.layer(STARTED, *[RUNNING] * 30, ENDED)
    await world.run(workflow)
    times = [0.0, *polled(door_of(workflow))]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert 0.25 == min(gaps)
    assert max(gaps) <= 5.0


async def test_asking_goes_on_whatever_the_questions_meet() -> None:
    """R13: RST, 500, silence, 429, a refused connection; the start is made once."""
    world = World()
    bad: list[Act] = [
        fault(Cause.DISCONNECTED),
        Reply(500),
        Late(99),
        Reply(429, retry_after=2),
        fault(Cause.UNREACHABLE),
    ]
    workflow = world.layer(STARTED, *bad, RUNNING, fault(Cause.GATEWAY_ERROR), ENDED)
    assert (None, "succeeded", 1) == ending(await world.run(workflow))
    assert 1 == door_of(workflow).starts


async def test_a_question_that_is_not_answered_is_asked_again() -> None:
    """R13: it does not use up the time of the whole run."""
    world = World(schedule=Schedule(0.25, 5.0, 10.0))
    workflow = world.layer(STARTED, Late(1e9), ENDED)
    assert (None, "succeeded", 1) == ending(await world.run(workflow))
    first, second = polled(door_of(workflow))
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
async def test_a_started_run_that_can_not_be_asked_about_is_unknown(reply: Reply | ProviderFault, code: str) -> None:
    """It goes on at the provider; and it is never started again for that."""
    world = World()
    workflow = world.layer(STARTED, reply, repeatable=True)
    assert (code, "unknown", 1) == ending(await world.run(workflow))


async def test_a_malformed_answer_to_a_question_is_forgiven_once() -> None:
    """Each question may meet one."""
    world = World()
    bad = Reply(200, UNREADABLE)
    assert None is ending(await world.run(world.layer(STARTED, bad, RUNNING, bad, ENDED)))[0]
    assert "upstream_invalid_response" == ending(await world.run(world.layer(STARTED, bad, bad, ENDED)))[0]


async def test_a_run_that_is_slower_than_its_deadline_is_unknown() -> None:
    """504, and the provider's own id, so that somebody can look for it there."""
    world = World()
    record = world.order(timeout=10)
    workflow = world.layer(STARTED, RUNNING)
    assert ("deadline_exceeded", "unknown", 1) == ending(await world.run(workflow, record))
    assert ("787", record.deadline) == (record.provider_run_id, world.clock.monotonic())


async def test_the_last_question_is_asked_shortly_before_the_deadline() -> None:
    """A run that ended in the last long pause was paid for: it should be seen."""
    world = World(schedule=Schedule(0.25, 60.0))
    record = world.order(timeout=100)
    workflow = world.layer(STARTED, RUNNING)
    await world.run(workflow, record)
    assert 99.0 < max(polled(door_of(workflow))) < 100


@pytest.mark.parametrize("seconds", [0.3, 0.5, 0.7])
async def test_a_short_deadline_still_leaves_time_for_a_question(seconds: float) -> None:
    world = World(schedule=Schedule(0.25, 60.0))
    workflow = world.layer(STARTED, ENDED)
    assert None is ending(await world.run(workflow, world.order(timeout=seconds)))[0]


@pytest.mark.parametrize("seconds", [0.01, 0.25, 1.0, 30.0])
async def test_nothing_outlasts_the_deadline(seconds: float) -> None:
    """R29: whatever is slow, the start or the questions."""
    for acts in ([Late(1e9)], [STARTED, RUNNING], [STARTED, Late(1e9)], [STARTED, Late(9.0, Reply(500))]):
        world = World()
        record = world.order(timeout=seconds)
        workflow = world.layer(*acts)
        _, problem = await world.run(workflow, record)
        assert problem is not None
        assert "unknown" == record.status
        assert world.clock.monotonic() <= record.deadline
        assert all(deadline <= record.deadline for _, _, deadline in door_of(workflow).sent)


async def test_a_failed_run_is_told_with_its_reason() -> None:
    """R12: `failed` is certain; the nodes are there where the client asked for them."""
    world = World()
    failed = Reply(
        200, {"Answer": {"status": "FAILED", "value": None, "error_message": "no key", "is_output_node": True}}
    )
    record, problem = await world.run(world.layer(STARTED, failed), world.order(return_all_outputs=True))
    assert problem is not None
    assert ("run_failed", "failed", "787") == (problem.code, record.status, record.provider_run_id)
    assert "The run failed at the provider: node 'Answer': no key." == problem.detail
    assert record.outputs is not None
    assert problem.extra["outputs"] == record.outputs
    _, plain = await world.run(world.layer(STARTED, failed))
    assert plain is not None
    assert "outputs" not in plain.extra


async def test_the_time_that_was_spent_waiting_is_told_apart() -> None:
    """The provider's answers, the pauses and the back-off are not ours; the rest is."""
    world = World()
    acts: list[Act] = [Reply(429, retry_after=1.0), Late(2.0, STARTED), RUNNING, Late(4.0, ENDED)]
    record, problem = await world.run(world.layer(*acts))
    assert problem is None
    assert pytest.approx(record.duration) == record.waited
    assert record.duration > 7.0
    assert 0 == pytest.approx(world.counted("runward_overhead_seconds_sum"))


async def test_the_wait_for_a_limit_is_told_apart_too() -> None:
    world = World(providers={"studio": SharedLimits(Rate(1, 1.0), burst=1, max_wait=5.0)})
    await world.run(world.studio(DONE))
    record, problem = await world.run(world.studio(DONE))
    assert problem is None
    assert pytest.approx(1.0) == record.duration == record.waited


async def test_repetitions_are_counted_by_why() -> None:
    world = World()
    await world.run(world.layer(fault(Cause.UNREACHABLE), STARTED, Reply(500), ENDED))
    assert 1 == world.counted("runward_retries_total", provider="layer", operation="start", cause="unreachable")
    assert 1 == world.counted("runward_retries_total", provider="layer", operation="poll", cause="server_error")
    assert 2 == world.counted("runward_retries_total")


async def test_nothing_is_started_for_nobody() -> None:
    """R32: neither first nor again."""
    world = World()
    gone = [False]
    workflow = world.studio(fault(Cause.UNREACHABLE), DONE)

    def leave() -> Reply:
        gone[0] = True
        raise fault(Cause.UNREACHABLE)

    assert ("client_closed_request", "not_run", 0) == ending(
        await world.run(workflow, world.order(wanted=lambda: False))
    )
    leaving = world.studio(leave, DONE)
    assert ("client_closed_request", "not_run", 1) == ending(
        await world.run(leaving, world.order(wanted=lambda: not gone[0]))
    )
    assert (0, 1) == (door_of(workflow).starts, door_of(leaving).starts)


async def test_a_run_that_was_started_is_followed_even_for_nobody() -> None:
    """R32: its outcome is known then, and logged."""
    world = World()
    gone = [False]

    def leave() -> Reply:
        gone[0] = True
        return STARTED

    record = world.order(wanted=lambda: not gone[0])
    assert (None, "succeeded", 1) == ending(await world.run(world.layer(leave, RUNNING, ENDED), record))


# Adapters that are not as they should be. They are installed by operators, and must not cost a second run.


@dataclass
class Odd:
    """An adapter whose steps are a test's."""

    make: Callable[[Run], Steps]
    key_header: KeyHeader = KeyHeader("X-API-KEY")  # noqa: RUF009 - frozen
    base_url: str = "https://odd.example"
    versions: bool = False
    nodes: bool = False

    def steps(self, run: Run) -> Steps:
        """See `Adapter.steps`."""
        return self.make(run)

    def follow(self, provider_run_id: str) -> None:
        """It can not be asked."""


START = Call("POST", "/start", "start", safe=False)
LOOK = Call("GET", "/look", "look", safe=True)
Made = Generator[Step, Reply, Outcome]


def raises_a_fault(_: Run) -> Made:
    """Raise the fault that should have been yielded."""
    yield START
    raise ProviderFault(Cause.THROTTLED)


def yields_a_fault_after_a_pause(_: Run) -> Made:
    """Refuse what was no reply."""
    yield START
    yield Pause("1")
    yield invalid("what?")
    return Outcome(succeeded=True)


def makes_a_mistake(_: Run) -> Made:
    """Trip over its own feet."""
    yield START
    raise ZeroDivisionError


def yields_nonsense(_: Run) -> Made:
    """Yield something that is no step."""
    yield START
    yield "nonsense"  # type: ignore[misc]  # that is the point
    return Outcome(succeeded=True)


def returns_nothing(_: Run) -> Made:
    """Return no outcome."""
    yield START
    return None  # type: ignore[return-value]  # that is the point


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (yields_a_fault_after_a_pause, "internal"),
        (makes_a_mistake, "internal"),
        (yields_nonsense, "internal"),
        (returns_nothing, "internal"),
    ],
)
async def test_an_adapter_that_errs_after_a_start_starts_nothing_more(make: Callable[[Run], Steps], code: str) -> None:
    """The run may go on without us, and what the adapter says of it is not to be trusted."""
    world = World()
    workflow = world.workflow(Odd(make), DONE)
    found, status, attempts = ending(await world.run(workflow))
    assert (code, "unknown", 1, 1) == (found, status, attempts, door_of(workflow).starts)
    assert 0 == world.running()


async def test_a_fault_that_is_raised_ends_the_run() -> None:
    """It means what it says, but nothing is repeated: the adapter has ended, and could read no other reply."""
    world = World()
    workflow = world.workflow(Odd(raises_a_fault), DONE)
    assert ("upstream_throttled", "not_run", 1) == ending(await world.run(workflow))
    assert (1, 0) == (door_of(workflow).starts, world.running())


async def test_an_adapter_that_errs_before_any_call_has_run_nothing() -> None:
    def trips(run: Run) -> Made:
        if run.workflow:
            raise ZeroDivisionError
        yield START
        return Outcome(succeeded=True)

    world = World()
    assert ("internal", "not_run", 0) == ending(await world.run(world.workflow(Odd(trips), DONE)))
    assert 0 == world.running()


async def test_a_question_before_the_start_says_nothing_about_a_run() -> None:
    """An adapter may look something up first: there is no run yet that could be unknown."""

    def looks_first(_: Run) -> Made:
        yield from ask(LOOK, lambda reply: reply.status)
        yield from ask(START, lambda reply: reply.status)
        return Outcome(succeeded=True)

    world = World()
    missing = world.workflow(Odd(looks_first), fault(Cause.MISCONFIGURED))
    assert ("upstream_misconfigured", "not_run", 0) == ending(await world.run(missing))
    assert (None, "succeeded", 1) == ending(await world.run(world.workflow(Odd(looks_first), DONE)))


async def test_an_adapter_that_calls_nobody_has_run_nothing() -> None:
    def knows(run: Run) -> Made:
        if run.workflow == "":
            yield START
        return Outcome(succeeded=True, output=1)

    world = World()
    assert ("internal", "not_run", 0) == ending(await world.run(world.workflow(Odd(knows), DONE)))


# The breaker.


async def test_the_breaker_hears_one_word_about_each_start() -> None:
    """R23: what the provider failed at counts against it, what a client did does not."""
    tolerance = Tolerance(failures=2, ratio=0.5, cooldown=10.0)
    for act, opens in ((Reply(502), True), (Reply(422), False), (Reply(500), False), (Reply(429), False)):
        world = World(tolerance=tolerance, policy=Policy(1, 0.1, 1.0))
        workflow = world.studio(act)
        await world.run(workflow)
        await world.run(workflow)
        state = world.guards.of("studio", "studio").breaker.state
        assert (State.OPEN if opens else State.CLOSED) is state


async def test_a_client_that_waits_for_less_than_is_usual_opens_no_circuit() -> None:
    world = World(tolerance=Tolerance(failures=1, ratio=0.1))
    await world.run(world.studio(Late(9)), world.order(timeout=1))
    assert State.CLOSED is world.guards.of("studio", "studio").breaker.state
    await world.run(world.studio(Late(99)), world.order(timeout=60))
    assert State.OPEN is world.guards.of("studio", "studio").breaker.state


async def test_a_probe_that_is_cancelled_gives_its_place_to_the_next() -> None:
    """Or the circuit would stay half-open for ever."""
    world = World(tolerance=Tolerance(failures=1, ratio=0.1, cooldown=10.0))
    await world.run(world.studio(Reply(502)))
    world.clock.advance(10)
    with pytest.raises(asyncio.CancelledError):
        await world.run(world.studio(asyncio.CancelledError()))
    assert (None, "succeeded", 1) == ending(await world.run(world.studio(DONE)))


async def test_an_open_circuit_ends_the_repetitions() -> None:
    """R23: what is left alone is left alone by retries, too."""
    world = World(tolerance=Tolerance(failures=2, ratio=0.1), policy=Policy(9, 0.1, 1.0))
    workflow = world.studio(fault(Cause.UNREACHABLE))
    assert ("upstream_unreachable", "not_run", 2) == ending(await world.run(workflow))
