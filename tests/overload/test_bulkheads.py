"""What one provider or client does wrong is not felt by another, and the surplus is refused in place of all."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import aiohttp

from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers, post_run
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import LAYER_RUN, STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.load_generator import at_constant_rate, concurrently, count_codes, p95
from tests.support.process import metric_sum

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun, ReceivedResponse
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

DONE = prompt_studio_reply({"completion": "because"})
PROVIDER_SECONDS = 0.2  # seconds: a provider's own time, a tenth of what real ones take
TOLERANCE = 1.2  # "the other's p99 grows < 20 %"


async def side_by_side(run: PostRun, *gateways: GatewayProcess) -> list[list[ReceivedResponse]]:
    """The same 10 runs a second for 3 s on each of them, at the same time."""
    return await asyncio.gather(*(at_constant_rate(10, 3, partial(run, each, PROMPT_STUDIO_BODY)) for each in gateways))


async def test_a_provider_that_hangs_does_not_slow_the_other(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R24: beside a gateway where 80 runs hang at PromptLayer, one where none does: Prompt Studio answers alike."""
    upstream.always("POST", LAYER_RUN, faults.hang)
    upstream.always("POST", STUDIO_RUN, faults.delayed(PROVIDER_SECONDS, DONE))
    quiet, busy = await asyncio.gather(gateway(), gateway(workflows={"layer": {"timeout": "4s", "max_timeout": "4s"}}))
    hanging = asyncio.ensure_future(concurrently(80, partial(run, busy, PROMPTLAYER_BODY)))
    while metric_sum(await busy.metrics(), "runward_requests_in_flight") < 80:
        assert not hanging.done(), "they do not hang"
        await asyncio.sleep(0.02)
    alone, beside = await side_by_side(run, quiet, busy)
    assert {None: 30} == count_codes(alone) == count_codes(beside)
    assert p95(beside) < TOLERANCE * p95(alone)
    assert {"upstream_timeout": 80} == count_codes(await hanging)


async def test_a_flood_of_one_client_does_not_reach_the_other(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R88: client two sends a hundred times what it may; of client one's runs all succeed, as fast as elsewhere."""
    upstream.default = faults.delayed(PROVIDER_SECONDS, DONE)
    limited: JsonValue = {"two": {"limits": {"rate": "3/s", "burst": 3}}}
    quiet, flooded = await asyncio.gather(gateway(), gateway(clients=limited))
    flood = at_constant_rate(300, 3, partial(run, flooded, PROMPT_STUDIO_BODY, client="two"))
    (alone, beside), surplus = await asyncio.gather(side_by_side(run, quiet, flooded), flood)
    assert {None: 30} == count_codes(alone) == count_codes(beside)
    assert p95(beside) < TOLERANCE * p95(alone)
    assert count_codes(surplus)["rate_limited"] >= 900 - 3 - 3 * 3 - 1
    assert len(upstream.received) == 60 + count_codes(surplus)[None]


async def test_a_flood_does_not_starve_another_client(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R88 where the provider is what is short: three times its capacity from client two; one's runs all succeed."""
    upstream.default = faults.delayed(PROVIDER_SECONDS, DONE)
    running = await gateway(providers={"prompt_studio": {"limits": {"concurrency": 10, "max_wait": "1s"}}})
    flood = at_constant_rate(150, 3, partial(run, running, PROMPT_STUDIO_BODY, client="two"))
    [mine], others = await asyncio.gather(side_by_side(run, running), flood)
    assert {None: 30} == count_codes(mine)
    assert {None, "overloaded"} == set(count_codes(others))
    assert count_codes(others)["overloaded"] > count_codes(others)[None]


async def test_load_over_the_limit_is_shed_and_the_rest_is_served(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R30 for 3 s: 16 requests at once may be in work, ten times as many come: 503 at once, and 90 % of the goodput."""
    took = 2 * PROVIDER_SECONDS
    upstream.default = faults.delayed(took, DONE)
    running = await gateway(server={"max_in_flight": 16})
    began = time.monotonic()
    answers = await at_constant_rate(10 * 16 / took, 3, partial(run, running, PROMPT_STUDIO_BODY))
    served = [answered for answered in answers if answered.status == 200]
    refused = [answered for answered in answers if answered.status != 200]
    assert {(503, "overloaded", "not_run")} == {answered.summary for answered in refused}
    assert {"1"} == {answered.headers["Retry-After"] for answered in refused}
    assert p95(refused) < took / 2, "a refusal does not wait for anybody's run"
    assert len(served) >= 0.9 * 16 / took * (time.monotonic() - began - took)
    assert len(served) == len(upstream.received)


async def test_a_queue_with_too_long_a_wait_refuses_new_requests(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R30 where the provider's rate decides: who would wait longer than `max_wait` hears so at once, with the time."""
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
    assert p95(refused) < 0.5 / 2, "it does not wait in vain"
    assert 0.9 * 40 * 2 <= len(served) == len(upstream.received)
    assert 0 < peak_in_flight <= 40 * 0.5 + 10


async def test_descriptor_exhaustion_is_overload_and_recovers(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R36: with 64 descriptors and 200 clients: 503 or no connection, no crash, and no circuit opened for it."""
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
    assert running.open_fds() <= before + 2 * 10 + 5  # it begins to watch its configuration after it listens


async def test_a_providers_rate_holds_over_all_clients_and_retries(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R89 for 2 s: two clients, each with more than the cap, and every third answer asks to come again."""
    busy = reply(429, {}, [("Retry-After", "0")])
    upstream.script("POST", STUDIO_RUN, [DONE, DONE, busy] * 100)
    limits: JsonValue = {"rate": "20/s", "burst": 5, "max_wait": "500ms"}
    running = await gateway(providers={"prompt_studio": {"limits": limits}})
    both = [
        at_constant_rate(30, 2, partial(run, running, PROMPT_STUDIO_BODY, client=client)) for client in ("one", "two")
    ]
    await asyncio.gather(*both)
    timestamps = [request.complete_at for request in upstream.received]
    seconds = [sum(at <= other < at + 1 for other in timestamps) for at in timestamps]
    assert 20 < max(seconds) <= 20 + 5 + 1
    assert [] == [gap for gap in upstream.request_gaps() if gap > 0.5], "it is used, too"


async def test_a_deadline_that_passes_in_the_queue_costs_no_call(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R31: 504 deadline_exceeded at the deadline, not_run, and the provider never hears of it."""
    upstream.default = faults.delayed(1.5, DONE)
    running = await gateway(providers={"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "10s"}}})
    first = asyncio.ensure_future(run(running, PROMPT_STUDIO_BODY))
    await asyncio.sleep(0.2)
    answers = await concurrently(5, partial(run, running, {**PROMPT_STUDIO_BODY, "timeout": 0.5}))
    assert {(504, "deadline_exceeded", "not_run")} == {answered.summary for answered in answers}
    assert not first.done()
    assert all(0.5 <= answered.elapsed < 1.0 for answered in answers)
    assert (200, 1) == ((await first).status, len(upstream.received))
