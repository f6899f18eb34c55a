"""Client disconnects and timeouts: no start for a disconnected client, and no leaked resources."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers, post_run
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.load_generator import concurrently, count_codes
from tests.support.process import metric_sum

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess, LogLine

pytestmark = pytest.mark.slow

DONE = prompt_studio_reply({"completion": "because"})
ONE_SLOT: JsonValue = {"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "10s"}}}


async def disconnect(*client_task: asyncio.Task[object]) -> None:
    """Close the connection of each client."""
    for task in client_task:
        task.cancel()
    await asyncio.gather(*client_task, return_exceptions=True)


async def run_log_entries(running: GatewayProcess, count: int) -> list[LogLine]:
    """Return the first entries about runs. Raises TimeoutError if there are fewer."""
    for _ in range(250):
        found = [line for line in running.logs("request") if line["route"] == "run"]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.02)  # a process writes when it does
    raise TimeoutError


async def test_a_client_that_leaves_the_queue_costs_no_call(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R32: of five requests that wait for one slot three disconnect: the provider receives the other two only."""
    upstream.default = faults.delayed(0.8, DONE)
    running = await gateway(providers=ONE_SLOT)
    first = asyncio.ensure_future(run(running, PROMPT_STUDIO_BODY))
    await asyncio.sleep(0.2)
    waiting = [asyncio.ensure_future(run(running, {**PROMPT_STUDIO_BODY, "input": {"n": n}})) for n in range(5)]
    await asyncio.sleep(0.3)
    await disconnect(*waiting[:3])
    assert [200] * 3 == [answered.status for answered in await asyncio.gather(first, *waiting[3:])]
    assert 3 == len(upstream.received)
    entries = await run_log_entries(running, 6)
    gone = [(line["status"], line["code"], line["outcome"]) for line in entries if line["status"] != 200]
    assert [(499, "client_closed_request", "not_run")] * 3 == gone


async def test_a_client_that_leaves_during_a_back_off_costs_no_call(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R32: the backoff ends without a second attempt."""
    upstream.default = reply(429, {}, [("Retry-After", "1")])
    running = await gateway()
    client_task = asyncio.ensure_future(run(running, PROMPT_STUDIO_BODY))
    await asyncio.sleep(0.3)
    await disconnect(client_task)
    [entries] = await run_log_entries(running, 1)
    assert ("client_closed_request", "not_run", 1) == (entries["code"], entries["outcome"], entries["attempts"])
    assert 1 == len(upstream.received)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (faults.delayed(0.6, DONE), (200, "succeeded")),
        (faults.delayed(0.6, reply(500, {})), (502, "failed")),
        (faults.hang, (504, "unknown")),
    ],
    ids=["done", "failed", "hangs"],
)
async def test_the_outcome_of_an_abandoned_run_is_logged(
    upstream: FakeUpstream,
    gateway: StartGateway,
    run: PostRun,
    answer: faults.ResponseScript,
    expected: tuple[int, str],
) -> None:
    """R32: a start that was sent is paid for, so its outcome is logged; its slot is released."""
    upstream.default = answer
    running = await gateway(providers=ONE_SLOT)
    client_task = asyncio.ensure_future(run(running, {**PROMPT_STUDIO_BODY, "timeout": 1.0}))
    await asyncio.sleep(0.3)
    await disconnect(client_task)
    [line] = await run_log_entries(running, 1)
    assert expected == (line["status"], line["outcome"])
    upstream.default = DONE
    assert (200, 2) == ((await run(running, PROMPT_STUDIO_BODY)).status, len(upstream.received))
    assert 0 == metric_sum(await running.metrics(), "runward_requests_in_flight")


async def test_an_abandoned_run_is_polled_to_its_end(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R32: polls are free, so a started PromptLayer run is still polled."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    running = await gateway()
    client_task = asyncio.ensure_future(run(running, PROMPTLAYER_BODY))
    await asyncio.sleep(0.3)
    await disconnect(client_task)
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    [line] = await run_log_entries(running, 1)
    assert (200, "succeeded", 1) == (line["status"], line["outcome"], len(upstream.requests("POST")))


class ConcurrencyProbe:
    """Slow response that counts concurrent requests; `most` is the maximum."""

    def __init__(self) -> None:
        self.peak = self._now = 0

    async def __call__(self, connection: UpstreamConnection) -> None:
        self._now += 1
        self.peak = max(self.peak, self._now)
        await asyncio.sleep(0.3)
        self._now -= 1
        await DONE(connection)


async def test_disconnects_and_timeouts_leave_no_slot_and_no_descriptor(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R33 with 200 + 200: afterwards no request is in flight, all slots are free, and no descriptor is open."""
    running = await gateway(
        providers={"prompt_studio": {"limits": {"concurrency": 40, "max_wait": "10s"}}},
        clients={"one": {"limits": {"concurrency": 100}}},
    )
    capacity = ConcurrencyProbe()
    upstream.always("POST", STUDIO_RUN, capacity)
    assert {None: 80} == count_codes(await concurrently(80, partial(run, running, PROMPT_STUDIO_BODY)))
    descriptors = running.open_fds()
    upstream.always("POST", STUDIO_RUN, faults.hang)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as others:
        patient, short = (
            partial(post_run, others, running.url, {**PROMPT_STUDIO_BODY, "timeout": seconds}, auth_headers("one"))
            for seconds in (3, 0.8)
        )
        leaving = [asyncio.ensure_future(patient()) for _ in range(200)]
        while metric_sum(await running.metrics(), "runward_requests_in_flight") < 200:
            await asyncio.sleep(0.02)
        await disconnect(*leaving)
        late = await concurrently(200, short)
    assert {"upstream_timeout", "deadline_exceeded", "upstream_unreachable"} >= set(count_codes(late))
    await run_log_entries(running, 80 + 400)
    after = ConcurrencyProbe()
    upstream.always("POST", STUDIO_RUN, after)
    assert {None: 80} == count_codes(await concurrently(80, partial(run, running, PROMPT_STUDIO_BODY)))
    assert (40, 40) == (capacity.peak, after.peak)
    assert 0 == metric_sum(await running.metrics(), "runward_requests_in_flight")
    assert running.open_fds() <= descriptors + 4
