"""Stored keys at two replicas: a creation, a rotation and a revocation hold at both within two seconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.key_administration import KeyAdministration
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    import aiohttp

    from tests.replicas.replica_pair import ReplicaPair
    from tests.support.fake_upstream.upstream import FakeUpstream


async def seconds_until(keys: KeyAdministration, text: str, status: int) -> float:
    """Return the time until runs with the key get this status at the replica."""
    clock = asyncio.get_running_loop().time
    started = clock()
    async with asyncio.timeout(WAIT_TIMEOUT):
        while (await keys.run(text)).status != status:
            await asyncio.sleep(0.05)
    return clock() - started


@pytest.fixture
async def both(
    replicas: ReplicaPair, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> tuple[KeyAdministration, KeyAdministration]:
    """Both replicas, whose runs at Prompt Studio succeed."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    await replicas.start()
    one, two = (KeyAdministration(session, each.current) for each in replicas.both)
    return one, two


async def test_changes_hold_at_every_replica(
    both: tuple[KeyAdministration, KeyAdministration], replicas: ReplicaPair
) -> None:
    """And at one that starts later, which knows all keys before its port is open."""
    one, two = both
    created = await one.create()
    assert 200 == (await one.run(created["key"])).status
    assert await seconds_until(two, created["key"], 200) < 2
    rotated = await two.change(created["id"], "rotate", {"grace": "0s"})
    assert await seconds_until(one, created["key"], 401) < 2
    assert 200 == (await one.run(rotated["key"])).status
    two.gateway = await replicas.two.kill_and_restart()
    assert 200 == (await two.run(rotated["key"])).status
    await one.change(created["id"], "revoke")
    assert 401 == (await one.run(rotated["key"])).status
    assert await seconds_until(two, rotated["key"], 401) < 2


async def test_concurrent_rotations_at_two_replicas_give_one_key(
    both: tuple[KeyAdministration, KeyAdministration],
) -> None:
    created = await both[0].create()
    path = f"/{created['id']}/rotate"
    answers = await asyncio.gather(*(each.send("POST", path, {}) for each in both * 3))
    assert [200, *[409] * 5] == sorted(status for status, _ in answers)


async def test_an_outage_of_the_store_ends_no_key_and_revives_none(
    both: tuple[KeyAdministration, KeyAdministration], replicas: ReplicaPair
) -> None:
    """Keys cannot be changed meanwhile; those that are known work for five minutes."""
    one, two = both
    created, revoked = await one.create(), await one.create()
    await one.change(revoked["id"], "revoke")
    assert await seconds_until(two, created["key"], 200) < 2
    replicas.server.kill()
    await asyncio.sleep(2.5)  # more than the interval at which changes are read
    for each in both:
        assert [200, 401] == [(await each.run(key["key"])).status for key in (created, revoked)]
        for path, body in (("", {"client": "one", "name": "app"}), (f"/{created['id']}/revoke", {})):
            status, document = await each.send("POST", path, body)
            assert (503, "store_unavailable") == (status, document["code"])
