"""Peak memory of the process while a client within its limits asks for much: at most 300 MB in each scenario."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY, auth_headers
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.raw_client import build_get, raw_connection
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MOST = 300 * 10**6
WAITERS = 1_900
RUNS = 100
OUTPUT: dict[str, JsonValue] = {"completion": "x" * 9_000_000}


@pytest.fixture
def restartable(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream, tmp_path: Path
) -> RestartableGateway:
    """Gateway that is not started yet; Prompt Studio returns an output of 9 MB."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(OUTPUT))
    large: JsonValue = {"prompt_studio": {"max_response": "10MB"}}
    return RestartableGateway(gateway, session, tmp_path / "runward.db", providers=large)


async def test_waiters_for_a_run_with_a_large_input(upstream: FakeUpstream, restartable: RestartableGateway) -> None:
    """1 900 long polls of one run with an input of 950 kB, which is still running."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    running = await restartable.start()
    run_id = await restartable.submit_async({**PROMPT_STUDIO_BODY, "input": {"text": "x" * 950_000}})
    async with AsyncExitStack() as stack:
        for _ in range(WAITERS):
            connection = await stack.enter_async_context(raw_connection(running.url))
            await connection.send(build_get(f"/runs/{run_id}?wait=40", auth_headers("one")))
        await asyncio.sleep(8)
        assert not running.logs("request")[1:]  # all of them wait
    assert running.peak_rss_bytes() < MOST


async def run_all(restartable: RestartableGateway, **more: str) -> None:
    """Run a hundred workflows one after another, without reading their outputs."""
    for number in range(RUNS):
        await restartable.submit_async({**PROMPT_STUDIO_BODY, **more})
        await wait_until(partial(_have_ended, restartable, number + 1))
    assert {"succeeded"} == {line["outcome"] for line in restartable.current.logs("run_ended")}


def _have_ended(restartable: RestartableGateway, count: int) -> bool:
    return len(restartable.current.logs("run_ended")) == count


async def test_lists_of_runs_with_large_outputs(restartable: RestartableGateway) -> None:
    """Five clients list a hundred runs of 9 MB, and read nothing."""
    await restartable.start()
    await run_all(restartable)
    await restartable.current.stop()
    running = await restartable.start()
    async with AsyncExitStack() as stack:
        for _ in range(5):
            connection = await stack.enter_async_context(raw_connection(running.url))
            connection.pause_reading()
            await connection.send(build_get("/runs?limit=100", auth_headers("one")))
        await wait_until(lambda: len(running.logs("request")) >= 5)
    assert running.peak_rss_bytes() < MOST


async def test_large_callbacks_to_a_receiver_that_hangs(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """A hundred bodies of 9 MB; the callback of a run to another receiver is delivered meanwhile."""
    receiver.always("POST", "/hangs", faults.hang)
    running = await restartable.start(callbacks={"allow": ["127.0.0.0/8"], "schedule": ["0s", "1h"]})
    await run_all(restartable, callback_url=receiver.url + "/hangs")
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "short"}))
    url = receiver.url.replace("127.0.0.1", "localhost") + "/answers"
    run_id = await restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": url})
    assert {"state": "delivered"} == await restartable.wait_for_callback(run_id)
    await asyncio.sleep(20)  # until the first deliveries have timed out, and others have followed
    hanging = receiver.requests("POST", "/hangs")
    assert len(hanging) > 1
    assert all(len(request.body) > 9_000_000 for request in hanging)
    assert running.peak_rss_bytes() < MOST
