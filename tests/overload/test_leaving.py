"""Clients that leave, or whose time runs out: nothing is started for nobody, nothing is kept for them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.client import LAYER, STUDIO, bearer, post_run
from tests.faults import faults
from tests.faults.answers import reply
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.overload.load import at_once, codes
from tests.process import total

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.client import RunWorkflow
    from tests.conftest import StartGateway
    from tests.faults.upstream import Upstream
    from tests.faults.wire import Wire
    from tests.process import Gateway, LogLine

DONE = prompt_studio_reply({"completion": "because"})
ONE_SLOT: JsonValue = {"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "10s"}}}


async def leave(*asking: asyncio.Task[object]) -> None:
    """Close the connection of each."""
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)


async def lines(running: Gateway, count: int) -> list[LogLine]:
    """The first so many lines about runs; TimeoutError where they do not come."""
    for _ in range(250):
        found = [line for line in running.logs("request") if line["route"] == "run"]
        if len(found) >= count:
            return found
        await asyncio.sleep(0.02)  # a process writes when it does
    raise TimeoutError


async def test_a_client_that_leaves_the_line_costs_no_call(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R32: of five that wait for one slot three leave: when it is free the provider hears of the other two only."""
    upstream.default = faults.after(0.8, DONE)
    running = await gateway(providers=ONE_SLOT)
    first = asyncio.ensure_future(run(running, STUDIO))
    await asyncio.sleep(0.2)
    waiting = [asyncio.ensure_future(run(running, {**STUDIO, "input": {"n": n}})) for n in range(5)]
    await asyncio.sleep(0.3)
    await leave(*waiting[:3])
    assert [200] * 3 == [answered.status for answered in await asyncio.gather(first, *waiting[3:])]
    assert 3 == len(upstream.log)
    told = await lines(running, 6)
    gone = [(line["status"], line["code"], line["outcome"]) for line in told if line["status"] != 200]
    assert [(499, "client_closed_request", "not_run")] * 3 == gone


async def test_a_client_that_leaves_during_a_back_off_costs_no_call(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R32: the wait for a second attempt ends without one."""
    upstream.default = reply(429, {}, [("Retry-After", "1")])
    running = await gateway()
    asking = asyncio.ensure_future(run(running, STUDIO))
    await asyncio.sleep(0.3)
    await leave(asking)
    [told] = await lines(running, 1)
    assert ("client_closed_request", "not_run", 1) == (told["code"], told["outcome"], told["attempts"])
    assert 1 == len(upstream.log)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (faults.after(0.6, DONE), (200, "succeeded")),
        (faults.after(0.6, reply(500, {})), (502, "failed")),
        (faults.hang, (504, "unknown")),
    ],
    ids=["done", "failed", "hangs"],
)
async def test_what_became_of_a_run_that_nobody_waits_for_is_still_told(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow, answer: faults.Script, told: tuple[int, str]
) -> None:
    """R32: left after it was sent: it was paid for, so its outcome stands in the log, and its slot is free again."""
    upstream.default = answer
    running = await gateway(providers=ONE_SLOT)
    asking = asyncio.ensure_future(run(running, {**STUDIO, "timeout": 1.0}))
    await asyncio.sleep(0.3)
    await leave(asking)
    [line] = await lines(running, 1)
    assert told == (line["status"], line["outcome"])
    upstream.default = DONE
    assert (200, 2) == ((await run(running, STUDIO)).status, len(upstream.log))
    assert 0 == total(await running.metrics(), "runward_requests_in_flight")


async def test_a_run_is_followed_to_its_end_though_nobody_waits(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R32: asking is free, so a started PromptLayer run is still asked about."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    running = await gateway()
    asking = asyncio.ensure_future(run(running, LAYER))
    await asyncio.sleep(0.3)
    await leave(asking)
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    [line] = await lines(running, 1)
    assert (200, "succeeded", 1) == (line["status"], line["outcome"], len(upstream.requests("POST")))


class Capacity:
    """A slow answer that counts how many wait for it together; `most` is the highest."""

    def __init__(self) -> None:
        self.most = self._now = 0

    async def __call__(self, wire: Wire) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(0.3)
        self._now -= 1
        await DONE(wire)


async def test_nothing_is_left_of_those_that_left_or_ran_out_of_time(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R33 with 200 + 200: afterwards nobody is in flight, the capacity is as before, no descriptor is kept."""
    running = await gateway(
        providers={"prompt_studio": {"limits": {"concurrency": 40, "max_wait": "10s"}}},
        clients={"one": {"limits": {"concurrency": 100}}},
    )
    capacity = Capacity()
    upstream.always("POST", STUDIO_RUN, capacity)
    assert {None: 80} == codes(await at_once(80, partial(run, running, STUDIO)))
    descriptors = running.open_fds()
    upstream.always("POST", STUDIO_RUN, faults.hang)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as others:
        short = partial(post_run, others, running.url, {**STUDIO, "timeout": 0.8}, bearer("one"))
        leaving = [asyncio.ensure_future(short()) for _ in range(200)]
        await asyncio.sleep(0.5)
        await leave(*leaving)
        late = await at_once(200, short)
    assert {"upstream_timeout", "deadline_exceeded", "upstream_unreachable"} >= set(codes(late))
    await lines(running, 80 + 400)
    after = Capacity()
    upstream.always("POST", STUDIO_RUN, after)
    assert {None: 80} == codes(await at_once(80, partial(run, running, STUDIO)))
    assert (40, 40) == (capacity.most, after.most)
    assert 0 == total(await running.metrics(), "runward_requests_in_flight")
    assert running.open_fds() <= descriptors + 4
