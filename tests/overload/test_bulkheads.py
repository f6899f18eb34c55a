"""Bulkheads: faults of one provider or client do not affect others, and excess load is shed."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers, post_run
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import LAYER_RUN, STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.load_generator import at_constant_rate, concurrently, count_codes, median, p95
from tests.support.process import metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun, ReceivedResponse
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

pytestmark = pytest.mark.slow

DONE = prompt_studio_reply({"completion": "because"})
PROVIDER_SECONDS = 0.2  # seconds: duration at the provider, a tenth of a realistic one
TOLERANCE = 1.2  # "the other's p99 grows < 20 %"
TRIES = 3  # other load may disturb one comparison; missing isolation disturbs all of them


async def side_by_side(run: PostRun, *gateways: GatewayProcess) -> list[list[ReceivedResponse]]:
    """Send the same 10 runs per second to each for 3 s, concurrently."""
    return await asyncio.gather(*(at_constant_rate(10, 3, partial(run, each, PROMPT_STUDIO_BODY)) for each in gateways))


async def test_a_provider_that_hangs_does_not_slow_the_other(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R24: compared with an unloaded gateway: 80 hanging PromptLayer runs do not slow Prompt Studio."""
    upstream.always("POST", LAYER_RUN, faults.hang)
    upstream.always("POST", STUDIO_RUN, faults.delayed(PROVIDER_SECONDS, DONE))
    quiet, busy = await asyncio.gather(
        gateway(), gateway(workflows={"layer": {"timeout": "60s", "max_timeout": "60s"}})
    )
    hanging = asyncio.gather(*(run(busy, PROMPTLAYER_BODY) for _ in range(80)), return_exceptions=True)
    while metric_sum(await busy.metrics(), "runward_requests_in_flight") < 80:
        assert not hanging.done(), "they do not hang"
        await asyncio.sleep(0.02)
    slowdowns: list[float] = []
    while len(slowdowns) < TRIES and min(slowdowns, default=TOLERANCE) >= TOLERANCE:
        alone, beside = await side_by_side(run, quiet, busy)
        assert {None: 30} == count_codes(alone) == count_codes(beside)
        assert not hanging.done(), "they hang all the time"
        slowdowns.append(p95(beside) / p95(alone))
    assert min(slowdowns) < TOLERANCE, slowdowns
    await busy.kill()
    assert all(isinstance(each, aiohttp.ClientError) for each in await hanging)


async def test_a_flood_of_one_client_does_not_reach_the_other(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R88: client two sends a hundred times its limit; all runs of client one succeed without a delay."""
    upstream.default = faults.delayed(PROVIDER_SECONDS, DONE)
    limited: JsonValue = {"two": {"limits": {"rate": "1/s", "burst": 1}}}
    quiet, flooded = await asyncio.gather(gateway(), gateway(clients=limited))
    slowdowns: list[float] = []
    while len(slowdowns) < TRIES and min(slowdowns, default=TOLERANCE) >= TOLERANCE:
        upstream.received.clear()
        flood = at_constant_rate(100, 3, partial(run, flooded, PROMPT_STUDIO_BODY, client="two"))
        (alone, beside), surplus = await asyncio.gather(side_by_side(run, quiet, flooded), flood)
        assert {None: 30} == count_codes(alone) == count_codes(beside)
        assert len(upstream.received) == 60 + count_codes(surplus)[None]
        assert count_codes(surplus)["rate_limited"] > 10 * count_codes(surplus)[None]
        slowdowns.append(p95(beside) / p95(alone))
    assert min(slowdowns) < TOLERANCE, slowdowns


async def test_a_flood_does_not_starve_another_client(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R88 at the provider's limit: client two sends three times the capacity; all runs of client one succeed."""
    upstream.default = faults.delayed(PROVIDER_SECONDS, DONE)
    running = await gateway(providers={"prompt_studio": {"limits": {"concurrency": 10, "max_wait": "1s"}}})
    flood = at_constant_rate(150, 3, partial(run, running, PROMPT_STUDIO_BODY, client="two"))
    [mine], others = await asyncio.gather(side_by_side(run, running), flood)
    assert {None: 30} == count_codes(mine)
    assert {None, "overloaded"} == set(count_codes(others))
    assert count_codes(others)["overloaded"] > count_codes(others)[None]


async def test_long_polls_and_event_streams_of_one_client_do_not_keep_the_other_out(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """R88 in the process: client two holds every place; all 20 of 20 runs of client one succeed."""
    upstream.always("POST", STUDIO_RUN, DONE)
    upstream.always("POST", LAYER_RUN, faults.hang)
    running = await gateway(server={"max_in_flight": 40}, workflows={"layer": {"timeout": "60s", "max_timeout": "60s"}})
    accepted = await run(running, PROMPTLAYER_BODY, client="two", Prefer="respond-async")
    url = f"{running.url}{accepted.headers['Location']}"

    async def wait_for_run(*, stream: bool) -> None:
        accept = {"Accept": "text/event-stream"} if stream else {}
        async with session.get(url, params={"wait": "60"}, headers={**auth_headers("two"), **accept}) as answer:
            await answer.read()

    waiting = [asyncio.create_task(wait_for_run(stream=number % 2 == 0)) for number in range(60)]
    while metric_sum(await running.metrics(), "runward_requests_in_flight") < 40:
        await asyncio.sleep(0.02)
    answers = await asyncio.gather(*(run(running, PROMPT_STUDIO_BODY) for _ in range(20)))
    assert {None: 20} == count_codes(answers)
    assert 40 == sum(not task.done() for task in waiting), "the surplus of client two is refused"
    await running.kill()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_load_over_the_limit_is_shed_and_the_rest_is_served(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R30 for 3 s: limit of 16 requests in flight, ten times the load: 503 at once, and all 16 are in use."""
    took = 2 * PROVIDER_SECONDS
    in_work, peak = 0, 0

    async def count_in_work(connection: UpstreamConnection) -> None:
        nonlocal in_work, peak
        in_work += 1
        peak = max(peak, in_work)
        await asyncio.sleep(took)
        in_work -= 1
        await DONE(connection)

    upstream.default = count_in_work
    running = await gateway(server={"max_in_flight": 16})
    answers = await at_constant_rate(10 * 16 / took, 3, partial(run, running, PROMPT_STUDIO_BODY))
    served = [answered for answered in answers if answered.status == 200]
    refused = [answered for answered in answers if answered.status != 200]
    assert {(503, "overloaded", "not_run")} == {answered.summary for answered in refused}
    assert {"1"} == {answered.headers["Retry-After"] for answered in refused}
    assert median(refused) < median(served), "a refusal does not wait for a run"
    assert 16 == peak
    assert len(served) == len(upstream.received)


async def test_a_queue_with_too_long_a_wait_refuses_new_requests(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R30 at the provider's rate: requests with an estimated wait above `max_wait` are refused with Retry-After."""
    upstream.default = DONE
    limits: JsonValue = {"rate": "40/s", "burst": 1, "max_wait": "500ms"}
    running = await gateway(providers={"prompt_studio": {"limits": limits}})
    peak_in_flight = 0.0

    async def watch() -> None:
        nonlocal peak_in_flight
        while True:
            peak_in_flight = max(peak_in_flight, metric_sum(await running.metrics(), "runward_requests_in_flight"))
            await asyncio.sleep(0.1)

    watching = asyncio.create_task(watch())
    answers = await at_constant_rate(400, 2, partial(run, running, PROMPT_STUDIO_BODY))
    watching.cancel()
    served = [answered for answered in answers if answered.status == 200]
    refused = [answered for answered in answers if answered.status != 200]
    assert {(503, "overloaded", "not_run")} == {answered.summary for answered in refused}
    assert median(refused) < median(served), "a refusal does not wait in vain"
    assert 40 <= len(served) == len(upstream.received)
    assert peak_in_flight > 0


async def test_descriptor_exhaustion_is_overload_and_recovers(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R36: 64 descriptors and 200 clients: 503 or no connection, no crash, and no open circuit."""
    upstream.default = faults.delayed(0.1, DONE)
    running = await gateway()
    before = running.open_fds()
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (64, 64))

    async def one() -> str:
        async with asyncio.timeout(10), aiohttp.ClientSession() as session:
            try:
                return str((await post_run(session, running.url, PROMPT_STUDIO_BODY, auth_headers("one"))).summary)
            except aiohttp.ClientConnectionError:
                return "no connection"

    seen = Counter(await concurrently(200, one))
    assert set() == set(seen) - {"no connection", str((503, "overloaded", "not_run")), str((200, None, None))}
    assert seen[str((503, "overloaded", "not_run"))] > 0
    assert {None: 10} == count_codes(await concurrently(10, partial(run, running, PROMPT_STUDIO_BODY)))
    assert None is running.exit_code
    pooled = [connection for connection in upstream.connections if connection.eof_at is None]
    kept_alive = 10  # connections of the last ten requests
    assert running.open_fds() <= before + len(pooled) + kept_alive + 5  # the file watcher starts after the listener


async def test_a_providers_rate_holds_over_all_clients_and_retries(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R89 for 2 s: two clients above the limit, and every third response requests a retry."""
    busy = reply(429, {}, [("Retry-After", "0")])
    upstream.script("POST", STUDIO_RUN, [DONE, DONE, busy] * 100)
    limits: JsonValue = {"rate": "20/s", "burst": 5, "max_wait": "500ms"}
    running = await gateway(providers={"prompt_studio": {"limits": limits}})
    began = time.monotonic()
    both = [
        at_constant_rate(30, 2, partial(run, running, PROMPT_STUDIO_BODY, client=client)) for client in ("one", "two")
    ]
    await asyncio.gather(*both)
    early = [n for n, r in enumerate(upstream.received, 1) if n > 5 + 20 * (r.complete_at - began) + 1]
    assert [] == early
    assert len(upstream.received) > 25, "it is used, too"


async def test_a_deadline_that_passes_in_the_queue_costs_no_call(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R31: 504 deadline_exceeded at the deadline, not_run, without a call."""
    go = asyncio.Event()

    async def held(connection: UpstreamConnection) -> None:
        await go.wait()
        await DONE(connection)

    upstream.default = held
    running = await gateway(
        providers={"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "60s"}}},
        workflows={"studio": {"timeout": "60s", "max_timeout": "60s"}},
    )
    first = asyncio.ensure_future(run(running, PROMPT_STUDIO_BODY))
    await wait_until(lambda: upstream.received)
    answers = await concurrently(5, partial(run, running, {**PROMPT_STUDIO_BODY, "timeout": 0.5}))
    assert {(504, "deadline_exceeded", "not_run")} == {answered.summary for answered in answers}
    assert not first.done()
    assert [] == [answered.elapsed for answered in answers if answered.elapsed < 0.5]
    go.set()
    assert (200, 1) == ((await first).status, len(upstream.received))
