"""A provider that is suspended at one replica gets no start from the other either, within two seconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.operations_port import get_providers, set_mode
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    import aiohttp

    from tests.replicas.replica_pair import ReplicaPair
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.gateway_restarts import RestartableGateway


async def seconds_until(replica: RestartableGateway, status: int) -> float:
    """Return the time until runs get this status at the replica."""
    clock = asyncio.get_running_loop().time
    started = clock()
    async with asyncio.timeout(WAIT_TIMEOUT):
        while (await replica.post(PROMPT_STUDIO_BODY)).status != status:
            await asyncio.sleep(0.05)
    return clock() - started


async def test_an_override_is_in_force_at_every_replica(
    replicas: ReplicaPair, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """And at one that starts later; each can undo it. The store's outage keeps it in force."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    await replicas.start()
    await set_mode(session, replicas.one.current.ops_url, "prompt_studio", "suspended", "by one")
    assert "provider_suspended" == (await replicas.one.post(PROMPT_STUDIO_BODY)).json["code"]
    assert await seconds_until(replicas.two, 503) < 2
    starts = len(upstream.requests("POST", STUDIO_RUN))
    await replicas.two.kill_and_restart()
    assert "provider_suspended" == (await replicas.two.post(PROMPT_STUDIO_BODY)).json["code"]
    assert "by one" == (await get_providers(session, replicas.two.current.ops_url))["prompt_studio"]["note"]
    waiting = await replicas.one.submit_async(PROMPT_STUDIO_BODY)
    assert starts == len(upstream.requests("POST", STUDIO_RUN))
    await set_mode(session, replicas.two.current.ops_url, "prompt_studio", "auto")
    assert await seconds_until(replicas.one, 200) < 2
    assert "succeeded" == (await replicas.one.wait_for_end(waiting))["status"]


async def test_a_lost_server_does_not_end_a_suspension(
    replicas: ReplicaPair, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    await replicas.start()
    await set_mode(session, replicas.one.current.ops_url, "prompt_studio", "suspended")
    await seconds_until(replicas.two, 503)
    starts = len(upstream.requests("POST", STUDIO_RUN))
    replicas.server.kill()
    await asyncio.sleep(2.5)  # more than the interval at which overrides are read
    answers = [await each.post(PROMPT_STUDIO_BODY) for each in replicas.both]
    assert ["provider_suspended"] * 2 == [answer.json["code"] for answer in answers]
    assert starts == len(upstream.requests("POST", STUDIO_RUN))
