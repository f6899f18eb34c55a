"""Keys that begin, end and follow each other (R77); and addresses that are believed, or not (R82)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.access.keys import hash_key, new_key
from gateway.clock import SystemClock
from providers.contract import JsonValue
from tests.edge.raw import ask, calling, post
from tests.edge.world import World, expect_problem, serving

OLD, NEW = new_key(SystemClock()), new_key(SystemClock())
BURST = 20


def owner_of(*keys: JsonValue) -> JsonValue:
    """A client that has these keys."""
    return {"rotating": {"keys": list(keys), "workflows": ["*"]}}


async def statuses(world: World, keys: Sequence[str]) -> list[int]:
    """What a run with each of the keys is answered."""
    asked = [post(headers={"Authorization": f"Bearer {key}"}, client=None) for key in keys]
    return [(await ask(world.url, data)).status for data in asked]


async def test_a_key_ends_at_its_moment(tmp_path: Path) -> None:
    """R77: it works until then, and gets the 401 of an unknown key afterwards; nothing has to be restarted."""
    end = datetime.now(UTC) + timedelta(seconds=2.5)
    keys = owner_of({"hash": hash_key(OLD), "expires": end.isoformat()}, {"hash": hash_key(NEW)})
    async with serving(tmp_path, clients=keys) as world:
        assert [200, 200] == await statuses(world, [OLD, NEW])
        await asyncio.sleep((end - datetime.now(UTC)).total_seconds() + 0.01)
        assert [401, 200] == await statuses(world, [OLD, NEW])
        data = [post(headers={"X-API-KEY": key}, client=None) for key in (OLD, new_key(SystemClock()))]
        expired, unknown = [await ask(world.url, each) for each in data]
        assert unknown.shape == expired.shape
        assert '"why":"expired"' in world.said


async def test_a_key_that_has_ended_before_the_start_is_no_key(tmp_path: Path) -> None:
    """R77: a date means its first moment, in UTC."""
    today = datetime.now(UTC).date().isoformat()
    keys = owner_of({"hash": hash_key(OLD), "expires": today}, {"hash": hash_key(NEW), "expires": "2999-01-01"})
    async with serving(tmp_path, clients=keys) as world:
        assert [401, 200] == await statuses(world, [OLD, NEW])


async def test_a_key_is_replaced_without_a_gap(tmp_path: Path) -> None:
    """R77: first both work; once the old one is taken out, it is unknown from the next start on."""
    both, one = tmp_path / "both", tmp_path / "one"
    both.mkdir()
    one.mkdir()
    async with serving(both, clients=owner_of({"hash": hash_key(OLD)}, {"hash": hash_key(NEW)})) as world:
        assert [200, 200, 200] == await statuses(world, [OLD, NEW, OLD])
        assert {"rotating"} == {line["client"] for line in await world.lines("run", 3)}
    async with serving(one, clients=owner_of({"hash": hash_key(NEW)})) as world:
        assert [401, 200] == await statuses(world, [OLD, NEW])


async def guess(world: World, source: str, forwarded: Sequence[str]) -> list[int]:
    """A run with a bad key for each of these X-Forwarded-For, from that address."""
    asked = [post(headers={"X-Forwarded-For": each}, client=None) for each in forwarded]
    async with calling(world.url, source) as caller:
        await caller.send(b"".join(asked))
        return [(await caller.reply()).status for _ in asked]


MANY = [f"192.0.2.{number}" for number in range(BURST + 5)]
"""More addresses than one may have failures."""


async def test_an_address_is_believed_where_a_trusted_proxy_says_it(tmp_path: Path) -> None:
    """R82: behind it each address has failures of its own; what stands before a stranger's address is his word."""
    async with serving(tmp_path, server={"trusted_proxies": ["127.0.4.0/24"]}) as world:
        proxy = "127.0.4.1"
        assert {401} == set(await guess(world, proxy, MANY))
        assert 429 == (await guess(world, proxy, [f"{each}, 198.51.100.1" for each in MANY]))[-1]
        assert [429] == await guess(world, "127.0.4.2", ["198.51.100.1, 127.0.4.9"])
        assert [401] == await guess(world, proxy, ["198.51.100.2"])
        assert '"peer":"198.51.100.1"' in world.said


async def test_an_address_is_not_believed_from_anybody_else(tmp_path: Path) -> None:
    """R82: whoever is not a trusted proxy is counted himself, and can bring nobody into disrepute."""
    async with serving(tmp_path, server={"trusted_proxies": ["127.0.4.0/24"]}) as world:
        assert 429 == (await guess(world, "127.0.5.1", MANY))[-1]
        assert 429 == (await guess(world, "127.0.5.2", ["127.0.5.3"] * len(MANY)))[-1]
        assert [401] == await guess(world, "127.0.5.3", ["127.0.5.1"])
        assert '"peer":"192.0.2' not in world.said
        data = post(headers={"X-Forwarded-For": "127.0.4.1"}, client=None)
        expect_problem(await ask(world.url, data, "127.0.5.1"), 429, "too_many_failures")


async def test_without_trusted_proxies_nobody_is_believed(tmp_path: Path) -> None:
    """R82: which is how it is where nothing is configured."""
    async with serving(tmp_path) as world:
        assert 429 == (await guess(world, "127.0.4.1", MANY))[-1]
