"""`POST /run`: replay of a stored response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import pytest
from multidict import CIMultiDict

from gateway.api.prompt_studio.handlers import PromptStudioHandlers
from gateway.api.start_run import RunHandler, stored_response
from gateway.auth.client import Client
from gateway.byte_budget import ByteBudget, Hold
from gateway.errors import IdempotencyInFlight
from gateway.http.request import Request, RequestHead
from gateway.http.response import Response
from gateway.http.router import UNKNOWN_ROUTE
from gateway.json import strict_json
from gateway.runs.catalog import Catalog
from gateway.runs.history import HistoryRecorder
from gateway.store.records import StoredResponse
from tests.runs.durable.durable_harness import DurableRunsHarness
from tests.runs.executor_harness import DONE, upstream_of


def test_a_stored_response_keeps_every_header() -> None:
    """R38: a name may occur twice, such as RateLimit for two policies."""
    headers = (("Content-Type", "application/json"), ("RateLimit", "a"), ("X-Own", "1"), ("RateLimit", "b"))
    given = stored_response(StoredResponse(200, headers, b"{}"), (("Idempotent-Replayed", "true"),))
    assert ["a", "b"] == given.headers.getall("RateLimit")
    assert ("application/json", "1", "true") == (
        given.content_type,
        given.headers["X-Own"],
        given.headers["Idempotent-Replayed"],
    )
    assert "Content-Type" not in given.headers


@pytest.mark.parametrize("api", ["run", "prompt_studio"])
async def test_a_replay_without_room_in_the_byte_budget_does_not_say_that_nothing_was_run(api: str) -> None:
    """The same key gets the response once there is room, and causes no second start."""
    harness = await DurableRunsHarness().open()
    workflow = harness.add_workflow(harness.harness.studio(DONE))
    handle = _start_handler(api, harness)
    budget = ByteBudget(limit=10)

    async def post() -> int:
        with Hold(budget) as hold:  # as the server does for each request
            return (await handle(_request(workflow.alias, hold))).status

    assert 200 == await post()
    with Hold(budget) as other:
        other.add(10)
        with pytest.raises(IdempotencyInFlight) as refused:
            await post()
        assert 1 == refused.value.retry_after
    assert (200, 0) == (await post(), budget.held)
    assert 1 == upstream_of(workflow).starts
    await harness.runs.close()


def _start_handler(api: str, harness: DurableRunsHarness) -> Callable[[Request], Awaitable[Response]]:
    catalog = Catalog(harness.workflows, {})
    if api == "prompt_studio":
        return PromptStudioHandlers(harness.runs, catalog, harness.clock, 1000, 1.0).run_workflow
    unused = cast("Callable[[str, str], Awaitable[None]]", None)
    history = HistoryRecorder(harness.store, harness.clock, harness.runs.log, lambda _: None)
    return RunHandler(harness.runs.executor, history, harness.runs, catalog, unused, harness.clock, 1000, 1.0).start


def _request(workflow: str, hold: Hold) -> Request:
    """Return a request of either API with a key."""
    raw = strict_json.write({"workflow": workflow, "input": {}})
    headers = CIMultiDict({"Content-Type": "application/json", "Idempotency-Key": "k"})
    return cast(
        "Request",
        SimpleNamespace(
            client=Client("one", ("*",)),
            client_name="one",
            connection_check=lambda: lambda: True,
            body=raw,
            content_length=len(raw),
            head=RequestHead("POST", ("/run", ""), headers, UNKNOWN_ROUTE),
            hold=hold,
            path_param=workflow,
            discard_input=lambda: None,
            request_id="req_1",
            run=None,
            span=None,
        ),
    )
