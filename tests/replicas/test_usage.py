"""Usage of two replicas on one server: each reads the same, and it is the sum of the records after kills."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.replicas.client_load import ClientLoad
from tests.support.usage import recorded, usage_of
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue
    from tests.replicas.replica_pair import ReplicaPair
    from tests.support.fake_upstream.upstream import FakeUpstream

PRICE = Decimal("0.04")
KILLS = 2


async def test_usage_is_the_sum_of_the_records_after_kills(
    upstream: FakeUpstream, receiver: FakeUpstream, replicas: ReplicaPair, session: aiohttp.ClientSession
) -> None:
    """Of both replicas. What the providers executed is between what was paid and what may have been."""
    clients = ClientLoad(upstream, receiver, replicas)
    workflows: dict[str, JsonValue] = {name: {"price": str(PRICE)} for name in ("studio", "layer")}
    await replicas.start_with_short_lease(workflows=workflows)
    load = asyncio.create_task(clients.send_until_stopped())
    for kill in range(KILLS):
        victim = replicas.both[kill % 2]
        await asyncio.sleep(random.uniform(0.3, 0.6))
        assert -9 == await victim.current.kill()
        await asyncio.sleep(random.uniform(0, 0.3))
        await victim.start()
    clients.stop()
    await asyncio.wait_for(load, 2 * WAIT_TIMEOUT)
    await clients.assert_consistent()
    await wait_for_ends(session, replicas)
    usage = await usage_of(session, replicas.one.current)
    assert usage == await usage_of(session, replicas.two.current)
    assert usage == await recorded(session, replicas.one.current)
    assert usage.runs["succeeded"] * PRICE == usage.spent
    assert usage.spent <= clients.paid_starts * PRICE <= usage.spent + usage.unknown


async def wait_for_ends(session: aiohttp.ClientSession, replicas: ReplicaPair) -> None:
    """Wait until no run is unfinished."""
    async with asyncio.timeout(2 * WAIT_TIMEOUT):
        while True:
            count = 0
            for status in ("queued", "running"):
                url = f"{replicas.one.current.ops_url}/api/runs?status={status}"
                async with session.get(url) as answer:
                    count += len((await answer.json())["runs"])
            if not count:
                return
            await asyncio.sleep(0.1)
