"""Failures between an SDK and a result: the SDK gets the result or raises, and no run is started twice.

Starts are counted at the fake upstream. The SDKs repeat a request that is answered with a 5xx or a 429, some of them
four times: so no start of theirs is ever answered so once it may have begun.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.conftest import StartGateway
from tests.sdk.official_sdks import ALL_SDKS, JAVASCRIPT, PYTHON, OfficialSdk, SdkResult, require_sdk
from tests.sdk.websocket_proxy import running_proxy
from tests.support.fake_upstream.faults import rst_after_request
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.faults import ResponseScript

RUN = "/workflows/layer-test/run"
RESULTS = "/workflow-version-execution-results"
STARTED = reply(201, {"success": True, "message": "", "warning": None, "workflow_version_execution_id": 5})
NODE: dict[str, JsonValue] = {
    "status": "SUCCESS",
    "value": "hello",
    "error_message": None,
    "raw_error_message": None,
    "is_output_node": True,
}
DONE = reply(200, {"Out": NODE})
RUNNING = reply(202, {"Out": {**NODE, "status": "RUNNING", "value": None}})
SUCCEEDED = SdkResult("hello")
UNKNOWN_OUTCOME = "Whether the workflow ran is not known."
START_FAULTS: dict[str, tuple[ResponseScript, str]] = {
    "five-hundred": (reply(500, {"success": False, "message": "boom"}), UNKNOWN_OUTCOME),
    "busy": (reply(503, {"success": False, "message": "later"}), UNKNOWN_OUTCOME),
    "cut": (rst_after_request, UNKNOWN_OUTCOME),
    "nonsense": (reply(200, b"<html>"), UNKNOWN_OUTCOME),
    "refused": (reply(400, {"success": False, "message": "no such thing"}), "no such thing"),
}
"""What a start is answered, and what the SDK hears."""
NEWEST = (PYTHON[0], PYTHON[1], JAVASCRIPT)


@pytest.fixture(params=ALL_SDKS, ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest) -> OfficialSdk:
    """Every official SDK."""
    require_sdk(request.param)
    chosen: OfficialSdk = request.param
    return chosen


@pytest.fixture(params=NEWEST, ids=lambda sdk: sdk.name)
def newest(request: pytest.FixtureRequest) -> OfficialSdk:
    """The newest version of each SDK."""
    require_sdk(request.param)
    chosen: OfficialSdk = request.param
    return chosen


def runs_until(upstream: FakeUpstream, ended: asyncio.Event, *, start: ResponseScript = STARTED) -> None:
    """Let every run continue until the event is set."""

    async def poll(connection: UpstreamConnection) -> None:
        await (DONE if ended.is_set() else RUNNING)(connection)

    upstream.always("POST", RUN, start)
    upstream.always("GET", RESULTS, poll)


async def until_polled(upstream: FakeUpstream) -> None:
    """Wait until a run was polled."""
    async with asyncio.timeout(30):
        while not upstream.requests("GET", RESULTS):
            await asyncio.sleep(0.01)


def start_count(upstream: FakeUpstream) -> int:
    """Return the number of starts."""
    return len(upstream.requests("POST"))


async def test_a_connection_that_is_cut_is_made_again(
    sdk: OfficialSdk, gateway: StartGateway, upstream: FakeUpstream
) -> None:
    """The run ends during the disconnection; the client reconnects with the same token and gets the result."""
    ended = asyncio.Event()
    runs_until(upstream, ended)
    running = await gateway(workflows={"layer": {"timeout": "30s", "max_timeout": "30s"}})
    async with running_proxy(running.url) as proxy:
        call = asyncio.create_task(sdk.run_one(proxy.url, "layer"))
        async with asyncio.timeout(30):
            await until_polled(upstream)
            while not proxy.websocket_count:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # for the SDK to say what it waits for
        proxy.accepting.clear()
        assert 1 == proxy.reset_websockets()
        ended.set()
        async with asyncio.timeout(30):
            while not running.logs("run_ended"):
                await asyncio.sleep(0.01)
        proxy.accepting.set()
        assert SUCCEEDED == await call
        assert 2 <= proxy.websocket_count
    assert 1 == start_count(upstream)


async def test_a_run_that_ends_before_the_subscription(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """The JavaScript SDK starts the run first and subscribes later."""
    require_sdk(JAVASCRIPT)
    ended = asyncio.Event()
    ended.set()
    runs_until(upstream, ended)
    running = await gateway()
    async with running_proxy(running.url) as proxy:
        proxy.accepting.clear()
        call = asyncio.create_task(JAVASCRIPT.run_one(proxy.url, "layer"))
        async with asyncio.timeout(30):
            while not running.logs("run_ended"):
                await asyncio.sleep(0.01)
        proxy.accepting.set()
        assert SUCCEEDED == await call
    assert 1 == start_count(upstream)


async def test_a_start_that_goes_wrong_is_one_start(
    newest: OfficialSdk, gateway: StartGateway, upstream: FakeUpstream
) -> None:
    """The SDK is told that the start was refused, as by PromptLayer: Python raises, JavaScript resolves."""
    workflows: dict[str, JsonValue] = {name: {"provider": "promptlayer", "name": name} for name in START_FAULTS}
    for name, (start, _) in START_FAULTS.items():
        upstream.always("POST", f"/workflows/{name}/run", start)
    running = await gateway(workflows=workflows)
    made = await newest.run(running.url, *({"workflow_id_or_name": name} for name in START_FAULTS))
    for (name, (_, words)), one in zip(START_FAULTS.items(), made, strict=True):
        assert words in (one.result["message"] if newest.javascript else one.text), name
        assert one.result["success"] is False if newest.javascript else one.error == "PromptLayerAPIError", name
        assert 1 == len(upstream.requests("POST", f"/workflows/{name}/run")), name


@pytest.mark.parametrize("python", PYTHON[:2], ids=lambda sdk: sdk.name)
async def test_an_sdk_that_waits_no_longer(python: OfficialSdk, gateway: StartGateway, upstream: FakeUpstream) -> None:
    """The SDK raises its own timeout. The run continues and can be looked up."""
    require_sdk(python)
    ended = asyncio.Event()
    runs_until(upstream, ended)
    running = await gateway(workflows={"layer": {"timeout": "30s", "max_timeout": "30s"}})
    made = await python.run_one(running.url, "layer", timeout=3)
    assert ("PromptLayerAPITimeoutError", "Workflow execution timed out") == (made.error, made.text)
    assert not running.logs("run_ended")
    ended.set()
    async with asyncio.timeout(30):
        while not running.logs("run_ended"):
            await asyncio.sleep(0.01)
    assert ["succeeded"] == [line["outcome"] for line in running.logs("run_ended")]
    assert 1 == start_count(upstream)


async def test_a_stopping_gateway_closes_websockets_for_reconnection(
    gateway: StartGateway, upstream: FakeUpstream
) -> None:
    """During drain WebSockets are accepted; then they are closed so that clients reconnect to another replica."""
    ended = asyncio.Event()
    runs_until(upstream, ended)
    running = await gateway(workflows={"layer": {"timeout": "30s", "max_timeout": "30s"}})
    call = asyncio.create_task(PYTHON[1].run_one(running.url, "layer", timeout=5))
    await until_polled(upstream)
    await asyncio.sleep(0.3)
    assert 0 == await running.stop()
    assert "PromptLayerAPITimeoutError" == (await call).error
    [line] = [line for line in running.logs("request") if line["route"] == "promptlayer_socket"]
    assert 101 == line["status"]
    assert 1 == start_count(upstream)
