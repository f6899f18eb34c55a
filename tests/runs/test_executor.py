"""Executor: a run from its submission to its end, with fallbacks and limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import RunError
from gateway.http.problem_mapping import problem_from_error
from gateway.limits.config import ClientLimitsConfig, RateLimit, ResourceLimitsConfig
from gateway.problems import PROBLEMS
from gateway.runs.catalog import Workflow
from gateway.runs.model import RunRecord
from gateway.runs.resilience.circuit_breaker import BreakerConfig
from gateway.runs.resilience.retry import RetryPolicy
from providers.contract import UNREADABLE, Cause, Reply
from tests.runs.executor_harness import (
    DONE,
    ENDED,
    NEVER_OPENS,
    RUNNING,
    STARTED,
    DelayedReply,
    ExecutorHarness,
    ScriptStep,
    ending_of_run,
    fault,
    upstream_of,
)
from tests.support.examples import examples

REFUSED = fault(Cause.UNREACHABLE)

# Fallbacks.


async def test_a_fallback_is_tried_where_nothing_was_run() -> None:
    """The response names the workflow used; starts of both are counted, the run once."""
    harness = ExecutorHarness()
    other = harness.studio(DONE)
    first = harness.layer(REFUSED, fallbacks=(other,))
    record, problem = await harness.run(first)
    assert (None, "succeeded", "studio", 4) == (problem, record.status, record.provider, record.attempts)
    assert (3, 1) == (upstream_of(first).starts, upstream_of(other).starts)
    assert 1 == harness.metric_value("runward_fallbacks_total", workflow="layer", fallback="studio")
    assert 1 == harness.metric_value("runward_runs_total", workflow="layer", provider="studio", outcome="succeeded")
    assert 1 == harness.metric_value("runward_runs_total")


@pytest.mark.parametrize(
    ("step", "falls_back"),
    [
        (REFUSED, True),
        (fault(Cause.MISCONFIGURED), True),
        (Reply(429), True),
        (Reply(429, retry_after=999), True),
        (Reply(503, retry_after=999), True),
        (Reply(401), True),
        (Reply(404), True),
        (Reply(422), False),  # invalid input is invalid at every provider
        (Reply(500), False),  # it was run
        (Reply(502), False),
        (fault(Cause.DISCONNECTED), False),
        (fault(Cause.INVALID_REPLY), False),
        (DelayedReply(1e9), False),
    ],
)
async def test_only_a_run_that_was_not_started_falls_back(step: ScriptStep, *, falls_back: bool) -> None:
    """A fallback after a possible start could be a second run."""
    harness = ExecutorHarness()
    other = harness.layer(STARTED, ENDED)
    record, _ = await harness.run(harness.studio(step, fallbacks=(other,)))
    assert (1 if falls_back else 0) == upstream_of(other).starts
    assert falls_back is (record.status == "succeeded")


@pytest.mark.parametrize("step", [Reply(502), fault(Cause.DISCONNECTED), fault(Cause.INVALID_REPLY), REFUSED])
async def test_a_repeatable_workflow_falls_back_after_any_dispatch(step: ScriptStep) -> None:
    harness = ExecutorHarness()
    other = harness.layer(STARTED, ENDED)
    record, _ = await harness.run(harness.studio(step, repeatable=True, fallbacks=(other,)))
    assert ("succeeded", 1) == (record.status, upstream_of(other).starts)


async def test_a_failed_run_never_falls_back() -> None:
    """It was executed; a repetition elsewhere is the client's decision."""
    harness = ExecutorHarness()
    other = harness.layer(STARTED, ENDED)
    result = await harness.run(harness.studio(Reply(500), repeatable=True, fallbacks=(other,)))
    assert (("run_failed", "failed", 1), 0) == (ending_of_run(result), upstream_of(other).starts)


async def test_the_last_workflow_tried_determines_the_ending() -> None:
    harness = ExecutorHarness()
    chain = (harness.layer(Reply(401)), harness.workflow(harness.studio().provider.adapter, Reply(502)))
    record, problem = await harness.run(harness.studio(REFUSED, fallbacks=chain))
    assert problem is not None
    assert ("upstream_error", "unknown", "other", 5) == (
        problem.code,
        record.status,
        problem.run and problem.run.provider,
        record.attempts,
    )


async def test_a_possible_start_before_a_fallback_keeps_the_run_unknown() -> None:
    """Repeatable or not: the first start may have run, whatever the fallback returns."""
    harness = ExecutorHarness()
    other = harness.layer(Reply(401))
    record, problem = await harness.run(harness.studio(Reply(502), repeatable=True, fallbacks=(other,)))
    assert problem is not None
    assert ("upstream_credentials", "unknown", "unknown") == (
        problem.code,
        record.status,
        problem.ending,
    )


async def test_a_fallback_resets_the_provider_run_id() -> None:
    """Ids of one provider are not valid at another."""
    harness = ExecutorHarness()
    first = harness.layer(STARTED, Reply(401), repeatable=True, fallbacks=(harness.studio(DONE),))
    record, problem = await harness.run(first)
    assert (None, "studio", None) == (problem, record.provider, record.provider_run_id)


async def test_a_fallback_that_would_ignore_the_label_is_skipped() -> None:
    """It would execute another version."""
    harness = ExecutorHarness()
    versionless, pinned = harness.studio(DONE), harness.layer(STARTED, ENDED, version=2, alias="pinned")
    free = harness.layer(STARTED, ENDED, alias="free")
    first = harness.layer(REFUSED, fallbacks=(versionless, pinned, free))
    record, _ = await harness.run(first, harness.new_run(label="beta"))
    assert (0, 0, 2) == tuple(len(upstream_of(w).sent) for w in (versionless, pinned, free))
    assert "succeeded" == record.status


async def test_one_deadline_holds_for_all() -> None:
    """R29: fallbacks do not restart it."""
    harness = ExecutorHarness()
    other = harness.layer(STARTED, RUNNING)
    record = harness.new_run(timeout=10)
    await harness.run(harness.studio(DelayedReply(6.0, Reply(401)), fallbacks=(other,)), record)
    assert ("unknown", record.deadline) == (record.status, harness.clock.monotonic())


# Limits.


async def test_a_client_that_is_over_its_limit_is_refused_before_anything_is_sent() -> None:
    """R86: with its headers; the limit also applies to fallbacks."""
    harness = ExecutorHarness(client=ClientLimitsConfig(rate=RateLimit(1, 60.0), burst=1))
    other = harness.layer(STARTED, ENDED)
    workflow = harness.studio(DONE, fallbacks=(other,))
    record, problem = await harness.run(workflow)
    assert problem is None
    assert {"RateLimit", "RateLimit-Policy"} == {name for name, _ in record.limit_headers}
    refused, problem = await harness.run(workflow)
    assert problem is not None
    assert ("rate_limited", "not_run", 0) == ending_of_run((refused, problem))
    assert (1, 0) == (upstream_of(workflow).starts, upstream_of(other).starts)
    assert {"RateLimit", "RateLimit-Policy"} <= {name for name, _ in problem.headers}
    assert 1 == harness.metric_value("runward_runs_total", outcome="not_run")


async def test_a_provider_without_free_slots_is_skipped() -> None:
    """`overloaded` is not_run: another provider may have a free slot."""
    harness = ExecutorHarness(providers={"studio": ResourceLimitsConfig(concurrency=1, max_wait=0.0)})
    other = harness.layer(STARTED, ENDED)
    workflow = harness.studio(DONE, fallbacks=(other,))
    async with await harness.limiter.admit("one", "studio", "studio", deadline=1e9):
        record, _ = await harness.run(workflow)
    assert ("layer", "succeeded", 0) == (record.provider, record.status, upstream_of(workflow).starts)
    assert 0 == harness.slots_in_use()


@pytest.mark.parametrize(
    "script",
    [
        [DONE],
        [Reply(500)],
        [Reply(422)],
        [REFUSED],
        [DelayedReply(1e9)],
        [RuntimeError("ours")],
        [asyncio.CancelledError()],
        [REFUSED, asyncio.CancelledError()],
    ],
)
@pytest.mark.parametrize("fallback", [True, False])
async def test_every_slot_is_free_again_however_a_run_ends(script: list[ScriptStep], *, fallback: bool) -> None:
    """R33, R90: success, failure, refusal, timeout, internal error, cancellation."""
    limits = {name: ResourceLimitsConfig(concurrency=1, max_wait=0.0) for name in ("studio", "layer")}
    harness = ExecutorHarness(providers=limits, client=ClientLimitsConfig(concurrency=1))
    for _ in range(3):
        others = (harness.layer(Reply(401)),) if fallback else ()
        try:
            await harness.run(harness.studio(*script, fallbacks=others))
        except asyncio.CancelledError:
            assert any(isinstance(step, asyncio.CancelledError) for step in script)
        assert 0 == harness.slots_in_use()
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(harness.studio(DONE)))


# How a run ends.


async def test_a_cancelled_run_is_counted_as_what_is_known() -> None:
    """Before its start not_run, after it unknown."""
    harness = ExecutorHarness()
    for step, status in ((asyncio.CancelledError(), "unknown"), (DONE, "not_run")):
        record = harness.new_run(client_connected=cancelling if status == "not_run" else lambda: True)
        with pytest.raises(asyncio.CancelledError):
            await harness.run(harness.studio(step), record)
        assert status == record.status
        assert record.finished_at is not None
        assert 1 == harness.metric_value("runward_runs_total", outcome=status)
    assert 1 == harness.metric_value("runward_run_errors_total", code="draining", fault="gateway")


async def test_a_defect_that_ends_a_run_counts_against_the_gateway() -> None:
    harness = ExecutorHarness()
    broken = replace(harness.studio(DONE), fallbacks=None)  # type: ignore[arg-type]  # a defect of the catalog
    with pytest.raises(TypeError):
        await harness.run(broken)
    assert 1 == harness.metric_value("runward_runs_total", outcome="not_run")
    assert 1 == harness.metric_value("runward_run_errors_total", code="internal", fault="gateway")


def cancelling() -> bool:
    """Raise CancelledError."""
    raise asyncio.CancelledError


async def test_an_unexpected_error_becomes_a_problem_with_the_known_outcome() -> None:
    """The text of the exception is not disclosed; the log has its type."""
    harness = ExecutorHarness()
    record, problem = await harness.run(harness.studio(RuntimeError("CANARY")))
    assert problem is not None
    assert ("internal", "unknown", 1) == ending_of_run((record, problem))
    assert isinstance(problem.__cause__, RuntimeError)
    assert b"CANARY" not in problem_from_error(problem).document("")


@pytest.mark.parametrize("step", [Reply(422), Reply(502), Reply(500), REFUSED])
async def test_a_problem_has_the_members_of_its_run(step: ScriptStep) -> None:
    harness = ExecutorHarness()
    record, problem = await harness.run(harness.studio(step))
    assert problem is not None
    assert {
        "run_id": record.id,
        "provider": "studio",
        "attempts": record.attempts,
        "outcome": record.status,
    }.items() <= dict(problem_from_error(problem).extra).items()


async def test_an_open_circuit_is_reported_at_once_and_costs_nothing() -> None:
    """R23: no call, no charge, Retry-After; and the fallback is tried."""
    harness = ExecutorHarness(
        breaker_config=BreakerConfig(min_failures=1, failure_ratio=0.1, cooldown=30.0),
        client=ClientLimitsConfig(daily=2),
    )
    workflow = harness.studio(Reply(502))
    await harness.run(workflow)
    for _ in range(5):
        _, problem = await harness.run(workflow)
        assert problem is not None
        assert ("circuit_open", "not_run") == (problem.code, problem.ending)
        assert 29 < (problem.retry_after or 0) <= 30
    assert 1 == upstream_of(workflow).starts
    assert (None, "succeeded", 1) == ending_of_run(
        await harness.run(harness.studio(fallbacks=(harness.layer(STARTED, ENDED),)))
    )


async def test_the_duration_includes_fallbacks_and_waits() -> None:
    """From the submission on."""
    harness = ExecutorHarness()
    record, _ = await harness.run(
        harness.studio(DelayedReply(2.0, Reply(401)), fallbacks=(harness.layer(DelayedReply(3.0, STARTED), ENDED),))
    )
    assert record.duration >= 5.0
    assert record.duration == harness.metric_value(
        "runward_run_duration_seconds_sum", workflow="studio", provider="layer"
    )


# Any sequence of faults.

OUTCOMES: Mapping[str, ScriptStep] = {
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
    "late": DelayedReply(7.0, ENDED),
    "too late": DelayedReply(1e9),
    "our mistake": RuntimeError("ours"),
    "cancelled": asyncio.CancelledError(),
}
# Faults that certainly did not start a run; any other may have.
HARMLESS = {"unreachable", "exhausted", "misconfigured"}
HARMLESS |= {"400", "401", "404", "422", "429", "429 later", "429 too late", "503 later"}
SCRIPT = st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=8)


def may_have_started(workflow: Workflow, script: list[str]) -> list[bool]:
    """Return for each sent start of this workflow whether it may have started a run."""
    names = [script[min(at, len(script) - 1)] for at in range(len(upstream_of(workflow).sent))]
    client = [call for call, _, _ in upstream_of(workflow).sent]
    return [name not in HARMLESS for name, call in zip(names, client, strict=True) if not call.safe]


@settings(max_examples=examples(400), deadline=None)
@given(
    scripts=st.lists(st.tuples(st.sampled_from(["studio", "layer"]), SCRIPT, st.booleans()), min_size=1, max_size=3),
    attempts=st.integers(1, 4),
    timeout=st.sampled_from([0.2, 5.0, 60.0]),
    breaker_config=st.sampled_from([NEVER_OPENS, BreakerConfig(min_failures=2, failure_ratio=0.1)]),
    leaves_after=st.none() | st.integers(0, 4),
)
@example([("studio", ["502", "429 later"], True)], 2, 60.0, NEVER_OPENS, None)
@example([("layer", ["started", "401"], True), ("studio", ["done"], False)], 3, 60.0, NEVER_OPENS, None)
@example([("studio", ["unreachable"], False), ("layer", ["started", "too late"], False)], 3, 5.0, NEVER_OPENS, 4)
def test_no_sequence_of_faults_causes_a_second_run_or_a_false_ending(
    scripts: list[tuple[str, list[str], bool]],
    attempts: int,
    timeout: float,
    breaker_config: BreakerConfig,
    leaves_after: int | None,
) -> None:
    """R21, R29, R32, R33, R92: over fallbacks, repeatable or not, with disconnecting clients."""
    harness = ExecutorHarness(retry_policy=RetryPolicy(attempts, 0.1, 2.0), breaker_config=breaker_config)
    chain: list[Workflow] = []
    for number, (kind, script, repeatable) in enumerate(scripts):
        make = harness.studio if kind == "studio" else harness.layer
        acts = [OUTCOMES[name] for name in script]
        chain.append(make(*acts, alias=f"{kind}{number}", repeatable=repeatable))
    first = replace(chain[0], fallbacks=tuple(chain[1:]))
    checks = [0]

    def client_connected() -> bool:
        checks[0] += 1
        return leaves_after is None or checks[0] <= leaves_after

    record = harness.new_run(timeout=timeout, client_connected=client_connected)
    problem = asyncio.run(run_to_end(harness, first, record))

    sent = [may_have_started(workflow, script) for workflow, (_, script, _) in zip(chain, scripts, strict=True)]
    # Every start is counted, none too many.
    assert record.attempts == sum(map(len, sent))
    assert all(len(starts) <= attempts for starts in sent)
    # A possible start is followed by another start only if its workflow is repeatable.
    for at, (starts, (_, _, repeatable)) in enumerate(zip(sent, scripts, strict=True)):
        if not repeatable and any(starts):
            assert [True] == [start for start in starts if start]
            assert starts[-1]
            assert not any(sent[at + 1 :])
    # The ending equals what is known; problem, record and metrics agree.
    if record.status == "not_run":
        assert not any(any(starts) for starts in sent)
    if record.status in {"succeeded", "failed"}:
        assert any(any(starts) for starts in sent)
    assert (
        1
        == harness.metric_value("runward_runs_total", outcome=record.status)
        == harness.metric_value("runward_runs_total")
    )
    if problem is not None:
        assert record.status == problem.ending
        assert record.status in {"failed", "unknown", "not_run"}
        assert problem.retry_after is None or record.status == "not_run"
        assert problem.code in PROBLEMS
    # The deadline bounds the run, and all slots are released.
    assert harness.clock.monotonic() <= record.deadline
    assert all(deadline <= record.deadline for w in chain for _, _, deadline in upstream_of(w).sent)
    assert 0 == harness.slots_in_use()
    assert 0 <= record.external_wait <= record.duration + 1e-9


async def run_to_end(harness: ExecutorHarness, workflow: Workflow, record: RunRecord) -> RunError | None:
    """Execute a run to its end; returns None if it succeeded or was cancelled. No other exception is allowed."""
    with contextlib.suppress(asyncio.CancelledError):
        return (await harness.run(workflow, record))[1]
    return None
