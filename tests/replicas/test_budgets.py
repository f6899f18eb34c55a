"""One budget of three replicas: it is never exceeded, also while one of them is killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import aiohttp

from tests.budgets.ledger_client import amounts, settled_sums, spend, sums_of
from tests.replicas.replica_pair import SHORT_LEASE
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.faults import delayed
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.gateway_restarts import RestartableGateway

if TYPE_CHECKING:
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.valkey import ValkeyServer

AFFORDED = 10
PRICE = Decimal("0.04")
SETTINGS: dict[str, JsonValue] = {
    "server": {"drain": 0, "max_in_flight": 4000, "header_timeout": "60s", "body_timeout": "60s"},
    "workflows": {"studio": {"price": 0.04, "timeout": "90s", "max_timeout": "90s"}, "layer": {"price": 0}},
    "providers": {"prompt_studio": {"connect_timeout": "60s"}},
    "breaker": {"failures": 1000},
    "clients": {"one": {"budget": {"amount": "0.4", "per": "month"}}},
}


async def start_three(
    start: StartGateway, session: aiohttp.ClientSession, folder: Path, server: ValkeyServer
) -> list[RestartableGateway]:
    store: dict[str, JsonValue] = {"url": server.url, "lease": SHORT_LEASE}
    replicas = [RestartableGateway(start, session, folder / "unused.db", store=store) for _ in range(3)]
    await asyncio.gather(*(replica.start(**SETTINGS) for replica in replicas))
    return replicas


async def test_a_thousand_runs_over_three_replicas_start_what_the_budget_pays(
    server: ValkeyServer,
    gateway: StartGateway,
    upstream: FakeUpstream,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """1 000 runs at once on a budget for 10 start exactly 10, counted at the provider."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    replicas = await start_three(gateway, session, tmp_path, server)
    answers = await asyncio.gather(*(replicas[number % 3].post(PROMPT_STUDIO_BODY) for number in range(1000)))
    assert {200: AFFORDED, 402: 1000 - AFFORDED} == Counter(each.status for each in answers)
    assert AFFORDED == len(upstream.requests("POST", STUDIO_RUN))
    assert amounts("0.4", "0", "0", "0") == await settled_sums(session, replicas[0].current, "client:one")
    spent = [await spend(each.current, client="one", certainty="spent") for each in replicas]
    assert AFFORDED * PRICE == sum(spent)


async def test_a_killed_replica_neither_renews_nor_loses_the_budget(
    server: ValkeyServer,
    gateway: StartGateway,
    upstream: FakeUpstream,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """Through kill -9 in the middle: what was started, or may have been, stays charged; the rest is used by others.

    The runs are durable, so the others settle those of the killed replica as soon as they have adopted them.
    """
    upstream.always("POST", STUDIO_RUN, delayed(0.4, prompt_studio_reply("because")))
    replicas = await start_three(gateway, session, tmp_path, server)
    ids: set[str] = set()

    async def submit(number: int) -> None:
        for attempt in range(200):
            replica = replicas[(number + attempt) % 3]
            try:
                ids.add(await replica.submit_async(PROMPT_STUDIO_BODY, Idempotency_Key=f"k{number}"))
            except (aiohttp.ClientError, AssertionError):  # it was killed, or the run is being deleted
                await asyncio.sleep(0.1)
            else:
                return

    submitting = asyncio.gather(*(submit(number) for number in range(150)))
    async with asyncio.timeout(30):
        while len(upstream.requests("POST", STUDIO_RUN)) < AFFORDED // 2:
            await asyncio.sleep(0.01)
    assert -9 == await replicas[1].current.kill()
    replicas = [replicas[0], replicas[2], replicas[0]]
    await submitting
    ends = await asyncio.gather(*(replicas[0].wait_for_end(run_id) for run_id in ids))
    outcomes = Counter(str(each["status"]) for each in ends)
    spent, unknown, reserved, remaining = await settled_sums(session, replicas[0].current, "client:one")
    assert (150, 150) == (len(ids), outcomes["succeeded"] + outcomes["unknown"] + outcomes["not_run"])
    assert (outcomes["succeeded"] * PRICE, outcomes["unknown"] * PRICE, Decimal()) == (spent, unknown, reserved)
    started = len(upstream.requests("POST", STUDIO_RUN))
    assert outcomes["succeeded"] <= started <= outcomes["succeeded"] + outcomes["unknown"] <= AFFORDED
    assert 0 == remaining


async def test_runs_that_die_with_their_replica_stay_charged(
    server: ValkeyServer,
    gateway: StartGateway,
    upstream: FakeUpstream,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """They are not durable, so no replica knows their outcome: what they reserved is not given back."""
    upstream.always("POST", STUDIO_RUN, delayed(2.0, prompt_studio_reply("because")))
    replicas = await start_three(gateway, session, tmp_path, server)
    requests = [asyncio.create_task(replicas[number % 3].post(PROMPT_STUDIO_BODY)) for number in range(300)]
    async with asyncio.timeout(30):
        while len(upstream.requests("POST", STUDIO_RUN)) < AFFORDED:
            await asyncio.sleep(0.01)
    assert -9 == await replicas[1].current.kill()
    answers = await asyncio.gather(*requests, return_exceptions=True)
    statuses = Counter(each.status for each in answers if not isinstance(each, BaseException))
    later = await asyncio.gather(*(replicas[number].post(PROMPT_STUDIO_BODY) for number in (0, 2)))
    assert {402: 2} == Counter(each.status for each in later)
    assert AFFORDED == len(upstream.requests("POST", STUDIO_RUN))
    async with asyncio.timeout(20):
        while (sums := await sums_of(session, replicas[0].current, "client:one"))[0] < statuses[200] * PRICE:
            await asyncio.sleep(0.05)
    lost = (AFFORDED - statuses[200]) * PRICE
    assert (statuses[200] * PRICE, Decimal(), lost, Decimal()) == sums
