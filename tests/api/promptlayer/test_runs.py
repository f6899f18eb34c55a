"""Handlers of runs with the tests' own store and clock: responses before and after a run is stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from multidict import CIMultiDict

from gateway.api.promptlayer.execution_ids import ExecutionIds
from gateway.api.promptlayer.result_formats import RESULT_FORMATS, callback_payload, final_output
from gateway.api.promptlayer.runs import PromptLayerRunHandlers
from gateway.auth.client import Client
from gateway.byte_budget import ByteBudget, Hold
from gateway.errors import GatewayError, RunError
from gateway.http.request import Request, RequestHead
from gateway.http.response import Response
from gateway.http.router import UNKNOWN_ROUTE
from gateway.json import strict_json
from gateway.problems import PROBLEMS, Problem
from gateway.runs.catalog import Catalog
from gateway.runs.durable.background_limit import BackgroundLimit
from gateway.runs.durable.uncollected_results import COLLECTION_TIME
from gateway.runs.run_reader import RunReader
from gateway.store.run_filter import RunFilter
from providers.contract import Cause, JsonValue, Reply
from tests.runs.durable.durable_harness import (
    BlockedUpstream,
    DurableRunsHarness,
    FrozenClock,
    yield_to_loop,
    yield_until,
)
from tests.runs.executor_harness import DONE, STARTED, fault, upstream_of
from tests.support.clock import ManualClock
from tests.support.process import metric_sum, parse_metrics


def handlers_for(harness: DurableRunsHarness, clock: ManualClock | None = None) -> PromptLayerRunHandlers:
    """Return handlers that wait for starts without a limit, unless `clock` advances."""
    no_check = cast("Callable[[str, str], Awaitable[None]]", None)
    return PromptLayerRunHandlers(
        harness.runs,
        RunReader(harness.store, clock or FrozenClock()),
        Catalog(harness.workflows, {}),
        ExecutionIds(b"s"),
        no_check,
        clock or FrozenClock(),
        1000,
        1.0,
    )


def post(name: str, **body: JsonValue) -> Request:
    raw = strict_json.write(body)
    head = RequestHead("POST", ("/", ""), CIMultiDict({"Content-Type": "application/json"}), UNKNOWN_ROUTE)
    found = {"hold": None, "path_param": name, "head": head, "content_length": len(raw), "body": raw}
    return cast("Request", SimpleNamespace(client=Client("one", ("*",)), client_name="one", span=None, **found))


async def results(harness: DurableRunsHarness, run: Response, hold: Hold | None = None) -> tuple[int, Any]:
    query = {"workflow_version_execution_id": str(execution_id(run))}
    request = cast("Request", SimpleNamespace(query=query, client_name="one", hold=hold))
    answered = await handlers_for(harness).get_results(request)
    assert isinstance(answered.body, bytes)
    return answered.status, json.loads(answered.body)


async def test_a_result_is_shown_after_the_response_was_written() -> None:
    """A push on a channel cannot precede the response that names the run."""
    harness = await DurableRunsHarness().open()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    answered = await handlers_for(harness).start(post(workflow.alias))
    await yield_to_loop()
    assert (201, 1) == (answered.status, upstream_of(workflow).starts)
    assert isinstance(answered, Response)
    assert answered.on_sent is not None
    status, found = await results(harness, answered)
    assert (202, "RUNNING") == (status, found["Output"]["status"])
    answered.on_sent()
    await yield_to_loop()
    assert 200 == (await results(harness, answered))[0]


async def test_a_result_that_no_client_fetched_is_counted() -> None:
    """Of two runs, one is asked for."""
    harness = await DurableRunsHarness().open()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    for asks in (True, False):
        answered = await handlers_for(harness).start(post(workflow.alias, channel_name_suffix=str(asks)))
        assert isinstance(answered, Response)
        assert answered.on_sent is not None
        answered.on_sent()
        await yield_to_loop()
        if asks:
            assert 200 == (await results(harness, answered))[0]
    harness.clock.advance(COLLECTION_TIME)
    await harness.runs.collection.report_due()
    samples = parse_metrics(harness.harness.metrics.render().decode())
    assert 1 == metric_sum(samples, "runward_uncollected_results_total", provider="studio")
    assert 2 == metric_sum(samples, "runward_runs_total")


async def test_a_result_without_room_in_the_byte_budget_is_refused_for_now() -> None:
    harness = await DurableRunsHarness().open()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    answered = await handlers_for(harness).start(post(workflow.alias))
    assert isinstance(answered, Response)
    assert answered.on_sent is not None
    answered.on_sent()
    await yield_to_loop()
    budget = ByteBudget(limit=10)
    with Hold(budget) as other:
        other.add(10)
        with pytest.raises(Problem) as refused:
            await results(harness, answered, Hold(budget))
        assert ("overloaded", 503) == (refused.value.code, refused.value.status)
    assert 200 == (await results(harness, answered, Hold(budget)))[0]


async def test_a_start_that_takes_long_is_accepted_after_three_seconds() -> None:
    """Python's SDK waits five seconds for the response."""
    harness = await DurableRunsHarness().open()
    clock = ManualClock()
    workflow = harness.add_workflow(harness.harness.layer(), BlockedUpstream(harness.clock))
    answered = await handlers_for(harness, clock).start(post(workflow.alias))
    assert (201, [3.0]) == (answered.status, clock.slept)
    await harness.runs.close()


async def test_a_refused_start_is_refused_and_leaves_no_run() -> None:
    """A second request with the same channel, while the first is held, gets the same refusal."""
    harness = await DurableRunsHarness().open()
    upstream = BlockedUpstream(harness.clock, fault(Cause.NOT_FOUND))
    workflow = harness.add_workflow(harness.harness.layer(), upstream)
    handlers = handlers_for(harness)
    held = [
        asyncio.create_task(handlers.start(post(workflow.alias, channel_name_suffix="a", **more)))
        for more in ({}, {}, {"callback_url": None})
    ]
    await yield_to_loop()
    assert [False] * 3 == [task.done() for task in held]
    upstream.unblocked.set()
    await yield_to_loop()
    refusals = [task.exception() for task in held]
    assert ["workflow_not_found"] * 3 == [isinstance(r, GatewayError) and r.code for r in refusals]
    run_id = handlers.execution_ids.run_id("one", handlers.execution_ids.for_channel("one", "a"))
    assert (None, 1) == (await harness.store.get_run(run_id), upstream.starts)


async def test_a_store_failure_before_the_run_is_stored_is_a_503() -> None:
    """Nothing was sent, so a retry of the SDK is safe."""
    harness = await DurableRunsHarness().open()
    harness.store.fail_before = {"create_run"}
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    with pytest.raises(GatewayError) as refused:
        await handlers_for(harness).start(post(workflow.alias))
    await yield_to_loop(200)
    assert ("store_unavailable", 503, 0) == (
        refused.value.code,
        PROBLEMS[refused.value.code].status,
        upstream_of(workflow).starts,
    )


async def test_a_store_failure_after_the_run_is_stored_changes_no_response() -> None:
    """R37: the run is not sent while the store is unavailable, and is started once it is available."""
    harness = await DurableRunsHarness().open()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    harness.store.fail_before = {"advance", "finish"}
    answered = await handlers_for(harness, ManualClock()).start(post(workflow.alias))
    assert isinstance(answered, Response)
    assert answered.on_sent is not None
    answered.on_sent()
    await yield_until(lambda: harness.clock.monotonic() > 1005)
    assert (201, 202, 0) == (answered.status, (await results(harness, answered))[0], upstream_of(workflow).starts)
    harness.store.fail_before = set()
    await yield_to_loop(200)
    status, found = await results(harness, answered)
    assert (200, "because", 1) == (status, found, upstream_of(workflow).starts)


async def test_a_refusal_that_the_store_can_not_record_is_told_as_unknown() -> None:
    """Another process may find the run and start it, as long as it is not deleted."""
    harness = await DurableRunsHarness().open()
    workflow = harness.add_workflow(harness.harness.layer(), BlockedUpstream(harness.clock, fault(Cause.NOT_FOUND)))
    cast("BlockedUpstream", upstream_of(workflow)).unblocked.set()
    harness.store.fail_before = {"discard_run"}
    with pytest.raises(RunError) as refused:
        await handlers_for(harness).start(post(workflow.alias))
    assert ("store_unavailable", "unknown") == (refused.value.code, refused.value.ending)
    harness.store.fail_before = set()
    await yield_to_loop(200)
    assert (1, []) == (upstream_of(workflow).starts, (await harness.store.list_runs(RunFilter("one", limit=9))).runs)


async def test_a_client_over_its_background_limit_is_refused_before_the_run_is_stored() -> None:
    harness = await DurableRunsHarness(background_limit=BackgroundLimit(1)).open()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    await handlers_for(harness).start(post(workflow.alias))
    with pytest.raises(GatewayError) as refused:
        await handlers_for(harness).start(post(workflow.alias))
    assert ("overloaded", 503) == (refused.value.code, PROBLEMS[refused.value.code].status)
    await yield_to_loop()
    await harness.runs.close()


def execution_id(answered: Response) -> int:
    assert isinstance(answered.body, bytes)
    return int(json.loads(answered.body)["workflow_version_execution_id"])


async def test_a_key_goes_with_the_deepest_input_that_is_taken() -> None:
    """R67: input that is accepted without an Idempotency-Key is accepted with one."""
    harness = await DurableRunsHarness().open()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    deep = post(workflow.alias, input_variables={"a": strict_json.read(b"[" * 199 + b"]" * 199)})
    deep.head.idempotency_keys = ["k"]
    answered = await handlers_for(harness).start(deep)
    await yield_to_loop()
    await harness.runs.close()
    assert 201 == answered.status


async def test_the_deepest_result_that_is_taken_is_shown() -> None:
    """R48: an unreadable result would be requested forever."""
    harness = await DurableRunsHarness(callback_renderers={"promptlayer": callback_payload}).open()
    value = "[" * 199 + "]" * 199
    answer = {"status": "SUCCESS", "value": json.loads(value), "is_output_node": True}
    ended = Reply(200, strict_json.read(strict_json.write({"Answer": answer})))
    workflow = harness.add_workflow(harness.harness.layer(STARTED, ended))
    run = harness.new_run(workflow, synchronous=False, api="promptlayer", return_all_outputs=True)
    await harness.persist(run, None, callback_url="https://example.com/")
    harness.runs.run_in_background(harness.durable[run.id], workflow)
    await yield_until(lambda: run.finished_at is not None)
    await yield_to_loop()
    stored = await harness.store.get_run(run.id)
    assert stored is not None
    assert stored.document is not None
    assert ("succeeded", "pending") == (stored.status, stored.callback_state)
    assert json.loads(value) == final_output(stored.document, RESULT_FORMATS[False])
