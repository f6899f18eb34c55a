"""What can go wrong between an SDK and a result: the SDK gets it all the same, or raises; and nothing starts twice.

Starts are counted at the fake upstream. The SDKs repeat a request that is answered with a 5xx or a 429, some of them
four times: so no start of theirs is ever answered so once it may have begun.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.conftest import StartGateway
from tests.faults.answers import reply
from tests.faults.faults import rst_after_request
from tests.faults.upstream import Upstream
from tests.sdk.cable import cable
from tests.sdk.sdks import ALL, JAVASCRIPT, PYTHON, Made, Sdk, require

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.faults.faults import Script
    from tests.faults.wire import Wire

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
HELLO = Made("hello")
UNCLEAR = "Whether the workflow ran is not known."
WRONG: dict[str, tuple[Script, str]] = {
    "five-hundred": (reply(500, {"success": False, "message": "boom"}), UNCLEAR),
    "busy": (reply(503, {"success": False, "message": "later"}), UNCLEAR),
    "cut": (rst_after_request, UNCLEAR),
    "nonsense": (reply(200, b"<html>"), UNCLEAR),
    "refused": (reply(400, {"success": False, "message": "no such thing"}), "no such thing"),
}
"""What a start is answered, and what the SDK hears."""
NEWEST = (PYTHON[0], PYTHON[1], JAVASCRIPT)


@pytest.fixture(params=ALL, ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """Each of them."""
    require(request.param)
    chosen: Sdk = request.param
    return chosen


@pytest.fixture(params=NEWEST, ids=lambda sdk: sdk.name)
def newest(request: pytest.FixtureRequest) -> Sdk:
    """Each of the newest."""
    require(request.param)
    chosen: Sdk = request.param
    return chosen


def runs_until(upstream: Upstream, ended: asyncio.Event, *, start: Script = STARTED) -> None:
    """Let every run go on until the event is set."""

    async def poll(wire: Wire) -> None:
        await (DONE if ended.is_set() else RUNNING)(wire)

    upstream.always("POST", RUN, start)
    upstream.always("GET", RESULTS, poll)


async def until_polled(upstream: Upstream) -> None:
    """Wait until a run is on its way."""
    async with asyncio.timeout(30):
        while not upstream.requests("GET", RESULTS):
            await asyncio.sleep(0.01)


def starts(upstream: Upstream) -> int:
    """How often a run was started."""
    return len(upstream.requests("POST"))


async def test_a_connection_that_is_cut_is_made_again(sdk: Sdk, gateway: StartGateway, upstream: Upstream) -> None:
    """The run ends while nobody listens; whoever comes back, with the same ticket, is told."""
    ended = asyncio.Event()
    runs_until(upstream, ended)
    running = await gateway(workflows={"layer": {"timeout": "30s", "max_timeout": "30s"}})
    async with cable(running.url) as between:
        call = asyncio.create_task(sdk.run_one(between.url, "layer"))
        async with asyncio.timeout(30):
            await until_polled(upstream)
            while not between.sockets:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # for the SDK to say what it waits for
        between.hold.clear()
        assert 1 == between.cut()
        ended.set()
        async with asyncio.timeout(30):
            while not running.logs("run_ended"):
                await asyncio.sleep(0.01)
        between.hold.set()
        assert HELLO == await call
        assert 2 <= between.sockets
    assert 1 == starts(upstream)


async def test_a_run_that_ends_before_anybody_listens(gateway: StartGateway, upstream: Upstream) -> None:
    """The SDK for JavaScript starts the run first, and subscribes when it may have ended long ago."""
    require(JAVASCRIPT)
    ended = asyncio.Event()
    ended.set()
    runs_until(upstream, ended)
    running = await gateway()
    async with cable(running.url) as between:
        between.hold.clear()
        call = asyncio.create_task(JAVASCRIPT.run_one(between.url, "layer"))
        async with asyncio.timeout(30):
            while not running.logs("run_ended"):
                await asyncio.sleep(0.01)
        between.hold.set()
        assert HELLO == await call
    assert 1 == starts(upstream)


async def test_a_start_that_goes_wrong_is_one_start(newest: Sdk, gateway: StartGateway, upstream: Upstream) -> None:
    """The SDK hears of it as a run that failed, not as a request that did."""
    workflows: dict[str, JsonValue] = {name: {"provider": "promptlayer", "name": name} for name in WRONG}
    for name, (start, _) in WRONG.items():
        upstream.always("POST", f"/workflows/{name}/run", start)
    running = await gateway(workflows=workflows)
    made = await newest.run(running.url, *({"workflow_id_or_name": name} for name in WRONG))
    for (name, (_, words)), one in zip(WRONG.items(), made, strict=True):
        assert words in (one.text if newest.raises else one.result["Output"]["error_message"]), name
        assert 1 == len(upstream.requests("POST", f"/workflows/{name}/run")), name


@pytest.mark.parametrize("python", PYTHON[:2], ids=lambda sdk: sdk.name)
async def test_an_sdk_that_waits_no_longer(python: Sdk, gateway: StartGateway, upstream: Upstream) -> None:
    """It raises its own time-out. The run goes on, and is there for whoever looks it up."""
    require(python)
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
    assert 1 == starts(upstream)


async def test_a_gateway_that_is_told_to_stop_sends_them_elsewhere(gateway: StartGateway, upstream: Upstream) -> None:
    """While it drains it still takes WebSockets; then it closes them so that the client comes back, to another one."""
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
    assert 1 == starts(upstream)
