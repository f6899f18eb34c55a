"""A run from its order to its end, over fallbacks and limits: never paid for twice, never lied about, nothing kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.access.limits import ClientLimits, Rate, SharedLimits
from gateway.problems import PROBLEMS, Problem
from gateway.runs.breaker import Tolerance
from gateway.runs.catalog import Workflow
from gateway.runs.record import RunRecord
from gateway.runs.retry import Policy
from providers.contract import UNREADABLE, Cause, Reply
from tests.runs.scripted import (
    DONE,
    ENDED,
    NEVER_OPENS,
    RUNNING,
    STARTED,
    Act,
    Late,
    World,
    door_of,
    ending,
    fault,
)

REFUSED = fault(Cause.UNREACHABLE)

# Fallbacks.


async def test_a_fallback_is_tried_where_nothing_was_run() -> None:
    """The answer says where it ran; the starts of both are counted, and the run once."""
    world = World()
    other = world.studio(DONE)
    first = world.layer(REFUSED, fallbacks=(other,))
    record, problem = await world.run(first)
    assert (None, "succeeded", "studio", 4) == (problem, record.status, record.provider, record.attempts)
    assert (3, 1) == (door_of(first).starts, door_of(other).starts)
    assert 1 == world.counted("runward_fallbacks_total", workflow="layer", fallback="studio")
    assert 1 == world.counted("runward_runs_total", workflow="layer", provider="studio", outcome="succeeded")
    assert 1 == world.counted("runward_runs_total")


@pytest.mark.parametrize(
    ("act", "handed_on"),
    [
        (REFUSED, True),
        (fault(Cause.MISCONFIGURED), True),
        (Reply(429), True),
        (Reply(429, retry_after=999), True),
        (Reply(503, retry_after=999), True),
        (Reply(401), True),
        (Reply(404), True),
        (Reply(422), False),  # the input is wrong: it is wrong elsewhere, too
        (Reply(500), False),  # it was run
        (Reply(502), False),
        (fault(Cause.DISCONNECTED), False),
        (fault(Cause.INVALID_REPLY), False),
        (Late(1e9), False),
    ],
)
async def test_only_what_was_not_run_is_handed_on(act: Act, *, handed_on: bool) -> None:
    """A fallback after a run that may have started would be the second run."""
    world = World()
    other = world.layer(STARTED, ENDED)
    record, _ = await world.run(world.studio(act, fallbacks=(other,)))
    assert (1 if handed_on else 0) == door_of(other).starts
    assert handed_on is (record.status == "succeeded")


@pytest.mark.parametrize("act", [Reply(502), fault(Cause.DISCONNECTED), fault(Cause.INVALID_REPLY), REFUSED])
async def test_a_repeatable_workflow_is_handed_on_whatever_was_sent(act: Act) -> None:
    world = World()
    other = world.layer(STARTED, ENDED)
    record, _ = await world.run(world.studio(act, repeatable=True, fallbacks=(other,)))
    assert ("succeeded", 1) == (record.status, door_of(other).starts)


async def test_a_failed_run_is_never_handed_on() -> None:
    """It was run; to run it elsewhere is the client's decision."""
    world = World()
    other = world.layer(STARTED, ENDED)
    result = await world.run(world.studio(Reply(500), repeatable=True, fallbacks=(other,)))
    assert (("run_failed", "failed", 1), 0) == (ending(result), door_of(other).starts)


async def test_the_last_one_tried_says_how_it_ended() -> None:
    world = World()
    chain = (world.layer(Reply(401)), world.workflow(world.studio().provider.adapter, Reply(502)))
    record, problem = await world.run(world.studio(REFUSED, fallbacks=chain))
    assert problem is not None
    assert ("upstream_error", "unknown", "other", 5) == (
        problem.code,
        record.status,
        problem.extra["provider"],
        record.attempts,
    )


async def test_what_may_have_run_first_is_not_forgotten_by_a_fallback() -> None:
    """Repeatable or not: the first start may have run, so the run is unknown, however the fallback was refused."""
    world = World()
    other = world.layer(Reply(401))
    record, problem = await world.run(world.studio(Reply(502), repeatable=True, fallbacks=(other,)))
    assert problem is not None
    assert ("upstream_credentials", "unknown", "unknown") == (
        problem.code,
        record.status,
        problem.extra["outcome"],
    )


async def test_a_fallback_says_nothing_of_the_run_before_it() -> None:
    """The id at one provider means nothing, or something else, at another."""
    world = World()
    first = world.layer(STARTED, Reply(401), repeatable=True, fallbacks=(world.studio(DONE),))
    record, problem = await world.run(first)
    assert (None, "studio", None) == (problem, record.provider, record.provider_run_id)


async def test_a_fallback_that_would_ignore_the_label_is_passed_over() -> None:
    """Rather no answer than one of another version."""
    world = World()
    versionless, pinned = world.studio(DONE), world.layer(STARTED, ENDED, version=2, alias="pinned")
    free = world.layer(STARTED, ENDED, alias="free")
    first = world.layer(REFUSED, fallbacks=(versionless, pinned, free))
    record, _ = await world.run(first, world.order(label="beta"))
    assert (0, 0, 2) == tuple(len(door_of(w).sent) for w in (versionless, pinned, free))
    assert "succeeded" == record.status


async def test_one_deadline_holds_for_all() -> None:
    """R29: fallbacks do not begin anew."""
    world = World()
    other = world.layer(STARTED, RUNNING)
    record = world.order(timeout=10)
    await world.run(world.studio(Late(6.0, Reply(401)), fallbacks=(other,)), record)
    assert ("unknown", record.deadline) == (record.status, world.clock.monotonic())


# Limits.


async def test_a_client_that_is_over_its_limit_is_refused_before_anything_is_sent() -> None:
    """R86: with its own headers; a fallback would meet the same limit."""
    world = World(client=ClientLimits(rate=Rate(1, 60.0), burst=1))
    other = world.layer(STARTED, ENDED)
    workflow = world.studio(DONE, fallbacks=(other,))
    record, problem = await world.run(workflow)
    assert problem is None
    assert {"RateLimit", "RateLimit-Policy"} == {name for name, _ in record.limit_headers}
    refused, problem = await world.run(workflow)
    assert problem is not None
    assert ("rate_limited", "not_run", 0) == ending((refused, problem))
    assert (1, 0) == (door_of(workflow).starts, door_of(other).starts)
    assert {"RateLimit", "RateLimit-Policy"} <= {name for name, _ in problem.headers}
    assert 1 == world.counted("runward_runs_total", outcome="not_run")


async def test_a_provider_that_is_full_is_passed_over() -> None:
    """`overloaded` is not_run: another provider may have a place."""
    world = World(providers={"studio": SharedLimits(concurrency=1, max_wait=0.0)})
    other = world.layer(STARTED, ENDED)
    workflow = world.studio(DONE, fallbacks=(other,))
    async with await world.limits.admit("one", "studio", "studio", deadline=1e9):
        record, _ = await world.run(workflow)
    assert ("layer", "succeeded", 0) == (record.provider, record.status, door_of(workflow).starts)
    assert 0 == world.running()


@pytest.mark.parametrize(
    "acts",
    [
        [DONE],
        [Reply(500)],
        [Reply(422)],
        [REFUSED],
        [Late(1e9)],
        [RuntimeError("ours")],
        [asyncio.CancelledError()],
        [REFUSED, asyncio.CancelledError()],
    ],
)
@pytest.mark.parametrize("fallback", [True, False])
async def test_every_slot_is_free_again_however_a_run_ends(acts: list[Act], *, fallback: bool) -> None:
    """R33, R90: success, failure, refusal, timeout, our own mistake, cancellation."""
    limits = {name: SharedLimits(concurrency=1, max_wait=0.0) for name in ("studio", "layer")}
    world = World(providers=limits, client=ClientLimits(concurrency=1))
    for _ in range(3):
        others = (world.layer(Reply(401)),) if fallback else ()
        try:
            await world.run(world.studio(*acts, fallbacks=others))
        except asyncio.CancelledError:
            assert any(isinstance(act, asyncio.CancelledError) for act in acts)
        assert 0 == world.running()
    assert (None, "succeeded", 1) == ending(await world.run(world.studio(DONE)))


# How a run ends.


async def test_a_cancelled_run_is_counted_as_what_is_known() -> None:
    """Before its start nothing was run; after it nobody knows."""
    world = World()
    for act, status in ((asyncio.CancelledError(), "unknown"), (DONE, "not_run")):
        record = world.order(wanted=cancelling if status == "not_run" else lambda: True)
        with pytest.raises(asyncio.CancelledError):
            await world.run(world.studio(act), record)
        assert status == record.status
        assert record.finished_at is not None
        assert 1 == world.counted("runward_runs_total", outcome=status)


def cancelling() -> bool:
    """Whoever asks is cancelled."""
    raise asyncio.CancelledError


async def test_a_mistake_of_ours_is_a_problem_that_says_what_is_known() -> None:
    """The words of the mistake stay inside; it is there for the log."""
    world = World()
    record, problem = await world.run(world.studio(RuntimeError("CANARY")))
    assert problem is not None
    assert ("internal", "unknown", 1) == ending((record, problem))
    assert isinstance(problem.__cause__, RuntimeError)
    assert b"CANARY" not in problem.document("")


@pytest.mark.parametrize("act", [Reply(422), Reply(502), Reply(500), REFUSED])
async def test_a_problem_has_the_members_of_its_run(act: Act) -> None:
    world = World()
    record, problem = await world.run(world.studio(act))
    assert problem is not None
    assert {
        "run_id": record.id,
        "provider": "studio",
        "attempts": record.attempts,
        "outcome": record.status,
    }.items() <= dict(problem.extra).items()


async def test_an_open_circuit_is_told_at_once_and_costs_nothing() -> None:
    """R23: no call, no charge, a hint; and the fallback has its turn."""
    world = World(tolerance=Tolerance(failures=1, ratio=0.1, cooldown=30.0), client=ClientLimits(daily=2))
    workflow = world.studio(Reply(502))
    await world.run(workflow)
    for _ in range(5):
        _, problem = await world.run(workflow)
        assert problem is not None
        assert ("circuit_open", "not_run") == (problem.code, problem.extra["outcome"])
        assert 29 < (problem.retry_after or 0) <= 30
    assert 1 == door_of(workflow).starts
    assert (None, "succeeded", 1) == ending(await world.run(world.studio(fallbacks=(world.layer(STARTED, ENDED),))))


async def test_the_duration_is_the_clients() -> None:
    """From the order on, fallbacks and waits included."""
    world = World()
    record, _ = await world.run(
        world.studio(Late(2.0, Reply(401)), fallbacks=(world.layer(Late(3.0, STARTED), ENDED),))
    )
    assert record.duration >= 5.0
    assert record.duration == world.counted("runward_run_duration_seconds_sum", workflow="studio", provider="layer")


# Any sequence of faults.

OUTCOMES: Mapping[str, Act] = {
    **{cause.value: fault(cause) for cause in (Cause.UNREACHABLE, Cause.EXHAUSTED, Cause.MISCONFIGURED)},
    **{
        cause.value: fault(cause) for cause in (Cause.DISCONNECTED, Cause.TIMEOUT, Cause.INVALID_REPLY, Cause.TOO_LARGE)
    },
    **{str(status): Reply(status, {"message": "no"}) for status in (400, 401, 404, 408, 422, 429, 500, 502, 503, 504)},
    "429 later": Reply(429, retry_after=3.0),
    "429 too late": Reply(429, retry_after=1000.0),
    "503 later": Reply(503, retry_after=2.0),
    "no json": Reply(200, UNREADABLE),
    "no shape": Reply(200, {"what": 1}),
    "done": DONE,
    "started": STARTED,
    "running": RUNNING,
    "ended": ENDED,
    "late": Late(7.0, ENDED),
    "too late": Late(1e9),
    "our mistake": RuntimeError("ours"),
    "cancelled": asyncio.CancelledError(),
}
# What did certainly not start a run. Of everything else it must be assumed that it may have.
HARMLESS = {"unreachable", "exhausted", "misconfigured"}
HARMLESS |= {"400", "401", "404", "422", "429", "429 later", "429 too late", "503 later"}
SCRIPT = st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=8)


def may_have_started(workflow: Workflow, script: list[str]) -> list[bool]:
    """Of each start that was sent to this workflow, whether it may have started a run."""
    names = [script[min(at, len(script) - 1)] for at in range(len(door_of(workflow).sent))]
    calls = [call for call, _, _ in door_of(workflow).sent]
    return [name not in HARMLESS for name, call in zip(names, calls, strict=True) if not call.safe]


@settings(max_examples=400, deadline=None)
@given(
    scripts=st.lists(st.tuples(st.sampled_from(["studio", "layer"]), SCRIPT, st.booleans()), min_size=1, max_size=3),
    attempts=st.integers(1, 4),
    timeout=st.sampled_from([0.2, 5.0, 60.0]),
    tolerance=st.sampled_from([NEVER_OPENS, Tolerance(failures=2, ratio=0.1)]),
    leaves_after=st.none() | st.integers(0, 4),
)
@example([("studio", ["502", "429 later"], True)], 2, 60.0, NEVER_OPENS, None)
@example([("layer", ["started", "401"], True), ("studio", ["done"], False)], 3, 60.0, NEVER_OPENS, None)
@example([("studio", ["unreachable"], False), ("layer", ["started", "too late"], False)], 3, 5.0, NEVER_OPENS, 4)
def test_no_sequence_of_faults_costs_a_second_run_or_makes_the_ending_lie(
    scripts: list[tuple[str, list[str], bool]],
    attempts: int,
    timeout: float,
    tolerance: Tolerance,
    leaves_after: int | None,
) -> None:
    """R21, R29, R32, R33, R92 at once, over fallbacks, repeatable or not, with clients that leave."""
    world = World(policy=Policy(attempts, 0.1, 2.0), tolerance=tolerance)
    chain: list[Workflow] = []
    for number, (kind, script, repeatable) in enumerate(scripts):
        make = world.studio if kind == "studio" else world.layer
        acts = [OUTCOMES[name] for name in script]
        chain.append(make(*acts, alias=f"{kind}{number}", repeatable=repeatable))
    first = replace(chain[0], fallbacks=tuple(chain[1:]))
    asked = [0]

    def wanted() -> bool:
        asked[0] += 1
        return leaves_after is None or asked[0] <= leaves_after

    record = world.order(timeout=timeout, wanted=wanted)
    problem = asyncio.run(ended(world, first, record))

    sent = [may_have_started(workflow, script) for workflow, (_, script, _) in zip(chain, scripts, strict=True)]
    # Every start is counted, none too many.
    assert record.attempts == sum(map(len, sent))
    assert all(len(starts) <= attempts for starts in sent)
    # What may have started a run is followed by a start only where its workflow is repeatable.
    for at, (starts, (_, _, repeatable)) in enumerate(zip(sent, scripts, strict=True)):
        if not repeatable and any(starts):
            assert [True] == [start for start in starts if start]
            assert starts[-1]
            assert not any(sent[at + 1 :])
    # The ending claims no more than is known, and problem, record and metrics say the same.
    if record.status == "not_run":
        assert not any(any(starts) for starts in sent)
    if record.status in {"succeeded", "failed"}:
        assert any(any(starts) for starts in sent)
    assert 1 == world.counted("runward_runs_total", outcome=record.status) == world.counted("runward_runs_total")
    if problem is not None:
        assert record.status == problem.extra["outcome"]
        assert record.status in {"failed", "unknown", "not_run"}
        assert problem.retry_after is None or record.status == "not_run"
        assert PROBLEMS[problem.code].status == problem.status
    # The deadline holds for everything, and everything is given back.
    assert world.clock.monotonic() <= record.deadline
    assert all(deadline <= record.deadline for w in chain for _, _, deadline in door_of(w).sent)
    assert 0 == world.running()
    assert 0 <= record.waited <= record.duration + 1e-9


async def ended(world: World, workflow: Workflow, record: RunRecord) -> Problem | None:
    """Bring a run to its end; None where it succeeded or was cancelled, and nothing else is ever raised."""
    with contextlib.suppress(asyncio.CancelledError):
        return (await world.run(workflow, record))[1]
    return None
