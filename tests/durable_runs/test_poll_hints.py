"""Poll hints: a gateway and a provider that calls back, with valid and forged hints."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.support.client import PROMPTLAYER_BODY, ReceivedResponse
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    promptlayer_done,
    promptlayer_running,
)
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.process import metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

ACCEPTED = reply(202, {"success": True, "workflow_version_execution_id": 787})
# Long enough that without a hint the end of a run is not seen within the test.
RARE_POLLING: Mapping[str, JsonValue] = {
    "server": {"public_url": "https://runward.example.com/gateway/", "grace": "500ms"},
    "polling": {"first": "30s", "max": "30s"},
    "workflows": {"layer": {"timeout": "60s", "max_timeout": "60s"}},
}
HINT_TIMEOUT = 10.0  # seconds: far less than 30, sufficient on a busy machine


class FakePromptLayer:
    """Fake PromptLayer that records the callback URL it receives."""

    def __init__(self, upstream: FakeUpstream, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._session = session
        upstream.always("POST", LAYER_RUN, ACCEPTED)
        upstream.always("GET", LAYER_RESULTS, promptlayer_running())

    @property
    def poll_count(self) -> int:
        return len(self._upstream.requests("GET", LAYER_RESULTS))

    async def callback_path(self) -> str:
        """Path of the received callback URL; waits for it."""
        await wait_until(lambda: bool(self._upstream.requests("POST", LAYER_RUN)))
        url = str(json.loads(self._upstream.requests("POST", LAYER_RUN)[-1].body)["callback_url"])
        assert url.startswith("https://runward.example.com/gateway/hints/run_")
        return urlsplit(url).path.removeprefix("/gateway")

    def finish_run(self) -> None:
        """Let the run end."""
        self._upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))

    async def send_hint(
        self, gateway: GatewayProcess, path: str, body: bytes = b"{}"
    ) -> tuple[int, bytes, dict[str, str]]:
        """POST a hint; returns the response without request id and date."""
        async with self._session.post(gateway.url + path, data=body) as answer:
            headers = {
                name: value for name, value in answer.headers.items() if name.lower() not in {"x-request-id", "date"}
            }
            return answer.status, await answer.read(), headers


@pytest.fixture
def provider(upstream: FakeUpstream, session: aiohttp.ClientSession) -> FakePromptLayer:
    return FakePromptLayer(upstream, session)


async def start_slow_polling_gateway(gateway: StartGateway) -> GatewayProcess:
    """Start a gateway with a long poll interval."""
    return await gateway(None, PROVIDER_SECRETS, **RARE_POLLING)


async def output_of(running: asyncio.Task[ReceivedResponse]) -> JsonValue:
    return (await asyncio.wait_for(running, HINT_TIMEOUT)).json.get("output")


async def test_a_hint_ends_the_wait_for_a_run(gateway: StartGateway, run: PostRun, provider: FakePromptLayer) -> None:
    """R21: one start and one poll, however long the interval, and the body of the hint is ignored."""
    one = await start_slow_polling_gateway(gateway)
    running = asyncio.create_task(run(one, PROMPTLAYER_BODY))
    path = await provider.callback_path()
    provider.finish_run()
    lie = b'{"workflow_version_execution_id": 787, "final_output": "a lie"}'
    assert 204 == (await provider.send_hint(one, path, lie))[0]
    assert ("because", 1) == (await output_of(running), provider.poll_count)
    samples = await one.metrics()
    assert 1 == metric_sum(samples, "runward_hints_used_total")
    assert 1 == metric_sum(samples, "runward_hints_total", result="genuine")
    assert [] == [line for line in one.stdout.splitlines() if path[-20:] in line]


async def test_every_hint_gets_the_same_answer(gateway: StartGateway, run: PostRun, provider: FakePromptLayer) -> None:
    """Valid, repeated, forged, for an ended or unknown run: the response is the same."""
    one = await start_slow_polling_gateway(gateway)
    running = asyncio.create_task(run(one, PROMPTLAYER_BODY))
    path = await provider.callback_path()
    run_id = path.removeprefix("/hints/").partition(".")[0]
    paths = [path, path, path[:-1] + "!", f"/hints/{run_id}", f"/hints/{run_id}.", "/hints/x", "/hints/", path + "%FF"]
    answers = [await provider.send_hint(one, each) for each in paths]
    provider.finish_run()
    assert [(204, b"")] * len(paths) == [answer[:2] for answer in answers]
    assert answers[0][2:] * len(paths) == tuple(answer[2] for answer in answers)
    await wait_until(lambda: provider.poll_count == 1)
    running.cancel()


async def test_repeated_hints_cause_one_poll(gateway: StartGateway, run: PostRun, provider: FakePromptLayer) -> None:
    """The holder of a token cannot cause further polls."""
    one = await start_slow_polling_gateway(gateway)
    running = asyncio.create_task(run(one, PROMPTLAYER_BODY))
    path = await provider.callback_path()
    for _ in range(20):
        assert 204 == (await provider.send_hint(one, path))[0]
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    assert 1 == provider.poll_count
    running.cancel()


async def test_a_body_is_not_waited_for(gateway: StartGateway, provider: FakePromptLayer) -> None:
    """The response is sent before the body, which may be large or incomplete."""
    one = await start_slow_polling_gateway(gateway)
    host, port = urlsplit(one.url).hostname, urlsplit(one.url).port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"POST /hints/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nxxx")
    assert b"HTTP/1.1 204 No Content\r\n" == await asyncio.wait_for(reader.readline(), HINT_TIMEOUT)
    writer.close()
    assert 0 == provider.poll_count


async def test_a_hint_is_accepted_after_a_restart(
    gateway: StartGateway, session: aiohttp.ClientSession, provider: FakePromptLayer, tmp_path: Path
) -> None:
    """R48: the secret is in the store, so a hint for a run of another process is valid at its adopter."""
    restartable = RestartableGateway(gateway, session, tmp_path / "runward.db", **RARE_POLLING)
    await restartable.start()
    run_id = await restartable.submit_async(PROMPTLAYER_BODY)
    path = await provider.callback_path()
    async with asyncio.timeout(HINT_TIMEOUT):
        while (await restartable.get_run(run_id))["provider_run_id"] is None:
            await asyncio.sleep(0.02)
    await restartable.kill_and_restart()
    provider.finish_run()
    ending = asyncio.create_task(restartable.wait_for_end(run_id))
    async with asyncio.timeout(HINT_TIMEOUT):
        while not ending.done():  # a hint before its waiter counts for one second only
            assert 204 == (await provider.send_hint(restartable.current, path))[0]
            await asyncio.sleep(0.3)
    assert "succeeded" == (await ending)["status"]


async def test_without_a_public_url_no_notify_url_is_sent(
    gateway: StartGateway, run: PostRun, provider: FakePromptLayer, upstream: FakeUpstream
) -> None:
    """The route does not exist either."""
    one = await gateway()
    provider.finish_run()
    assert 200 == (await run(one, PROMPTLAYER_BODY)).status
    assert "callback_url" not in json.loads(upstream.requests("POST", LAYER_RUN)[0].body)
    assert 404 == (await provider.send_hint(one, "/hints/x"))[0]
