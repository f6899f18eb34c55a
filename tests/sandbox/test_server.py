"""Server of the sandbox: addresses, refusals, shutdown."""

from __future__ import annotations

import asyncio
import gzip

import aiohttp
import pytest
from aiohttp import web
from typing_extensions import override

from gateway.clock import SystemClock
from gateway.sandbox import Deployment, SandboxCatalog, create_application, serve
from gateway.sandbox.canned_outputs import echo
from tests.sandbox.clients import KEYS, Client, PromptLayerClient, request
from tests.support.clock import ManualClock


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "", "127.0.0.1.nip.io"])
async def test_only_loopback_is_served(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        await serve(create_application(SystemClock(), keys=KEYS), host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_it_answers_at_its_url_until_it_is_closed(host: str, session: aiohttp.ClientSession) -> None:
    try:
        running = await serve(create_application(SystemClock(), keys=KEYS), host, 0)
    except OSError:
        pytest.skip("this machine has no such address")
    async with session.get(f"{running.url}/_sandbox/calls") as response:
        assert 200 == response.status
    await running.close()
    with pytest.raises(aiohttp.ClientConnectorError):
        await session.get(f"{running.url}/_sandbox/calls")


async def test_a_taken_port_is_an_error_that_leaves_nothing_behind() -> None:
    first = await serve(create_application(SystemClock(), keys=KEYS), "127.0.0.1", 0)
    second = create_application(SystemClock(), keys=KEYS)
    cleaned: list[web.Application] = []

    async def note(served: web.Application) -> None:
        cleaned.append(served)

    second.on_cleanup.append(note)
    with pytest.raises(OSError, match="address already in use"):
        await serve(second, "127.0.0.1", int(first.url.rpartition(":")[2]))
    await first.close()
    assert [second] == cleaned


class HangingClock(ManualClock):
    """Clock that stands still; `reached` is set at the first sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.left = asyncio.Event()

    @override
    async def sleep(self, seconds: float) -> None:
        self.reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()


async def test_a_hanging_request_ends_with_its_caller(session: aiohttp.ClientSession) -> None:
    clock = HangingClock()
    running = await serve(create_application(clock, keys=KEYS), "127.0.0.1", 0)
    asking = asyncio.create_task(hang(session, running.url))
    await clock.reached.wait()
    asking.cancel()
    await asyncio.wait_for(clock.left.wait(), 20)
    await running.close()


async def test_a_hanging_request_ends_with_the_server(session: aiohttp.ClientSession) -> None:
    """Closing does not wait for pending requests."""
    clock = HangingClock()
    running = await serve(create_application(clock, keys=KEYS), "127.0.0.1", 0)
    asking = asyncio.create_task(hang(session, running.url))
    await clock.reached.wait()
    await asyncio.wait_for(running.close(), 20)
    with pytest.raises(aiohttp.ClientError):
        await asking


async def hang(session: aiohttp.ClientSession, url: str) -> int:
    """Send a request that gets no response."""
    headers = {"API_KEY": KEYS.prompt_studio}
    async with session.post(f"{url}/v1/workflows/dep_hang/run", headers=headers, data=b'{"input": {}}') as response:
        return response.status


async def test_a_body_of_more_than_a_mebibyte_is_refused(promptlayer: PromptLayerClient) -> None:
    assert 413 == (await promptlayer.post("/workflows/echo/run", b" " * (1024 * 1024 + 1))).status


async def test_a_body_of_another_encoding_is_empty(client: Client) -> None:
    headers = {"API_KEY": KEYS.prompt_studio, "Content-Encoding": "gzip"}
    body = gzip.compress(b'{"input": {}}')
    path = "/v1/workflows/dep_echo/run"
    assert 200 == (await request(client, "POST", path, headers, body)).status
    assert 400 == (await request(client, "POST", path, headers, b"\x00" + body)).status


async def test_a_custom_catalog_replaces_the_defaults(session: aiohttp.ClientSession) -> None:
    served = create_application(SystemClock(), keys=KEYS, workflows=SandboxCatalog((), (Deployment("mine", echo),)))
    running = await serve(served, "127.0.0.1", 0)
    headers = {"API_KEY": KEYS.prompt_studio}
    statuses = []
    for name in ("mine", "dep_echo"):
        async with session.post(
            f"{running.url}/v1/workflows/{name}/run", headers=headers, data=b'{"input": {}}'
        ) as response:
            statuses.append(response.status)
    await running.close()
    assert [200, 404] == statuses
