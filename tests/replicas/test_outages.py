"""The server that replicas share is lost for a while: nothing is doubled, nobody is told what is not so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.client import STUDIO
from tests.durable.lives import PATIENCE, until
from tests.durable.receiver import HOOK, deliveries, message_ids
from tests.faults import faults
from tests.faults.provider_answers import STUDIO_RUN, prompt_studio_reply
from tests.replicas.crowd import Crowd
from tests.replicas.fleet import SOON, Fleet, frozen, insist
from tests.valkey import start_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.upstream import Upstream
    from tests.valkey import Valkey

LONGER = 3.5  # seconds: than the short lease


@pytest.fixture
def restarted() -> Iterator[list[Valkey]]:
    """Servers that a test has started in the place of the first."""
    later: list[Valkey] = []
    yield later
    for each in later:
        each.kill()


async def test_a_server_that_is_killed_and_comes_back(
    upstream: Upstream, receiver: Upstream, fleet: Fleet, server: Valkey, restarted: list[Valkey]
) -> None:
    """R45, R54, R55, R99: away for longer than the lease, under load: one start each, everything ends, one callback."""
    crowd = Crowd(upstream, receiver, fleet)
    await fleet.begin_short()
    load = asyncio.create_task(crowd.keep_coming())
    await asyncio.sleep(0.7)
    server.kill()
    await asyncio.sleep(LONGER)
    restarted.append(start_server(server.directory, port=server.port))
    await asyncio.sleep(0.7)
    crowd.enough()
    await asyncio.wait_for(load, 2 * PATIENCE)
    assert crowd.told.refused, "the load went on while the server was away"
    await crowd.check()


async def test_a_result_that_comes_while_the_server_hangs(upstream: Upstream, fleet: Fleet, server: Valkey) -> None:
    """R44, R45: the client is told; once the server speaks again, the store says the same as the client was told.

    The leases are over by then, and both replicas live: the one that is heard first takes nothing from the other.
    """
    upstream.always("POST", STUDIO_RUN, faults.after(1.0, prompt_studio_reply("because")))
    await fleet.begin_short()
    waiting = asyncio.create_task(fleet.one.post(STUDIO, Idempotency_Key="one"))
    await until(lambda: upstream.requests("POST"))
    with frozen(server.process.pid):
        await asyncio.sleep(LONGER)
    here = await asyncio.wait_for(waiting, SOON)
    assert (200, "because") == (here.status, here.json["output"])
    for replica in fleet.both:
        assert here.body == (await asyncio.wait_for(insist((replica,), STUDIO, "one"), SOON)).body
        assert "succeeded" == (await replica.ended(str(here.json["id"])))["status"]
    assert 1 == len(upstream.requests("POST"))
    assert [] == fleet.two.now.logs("adopted") + fleet.one.now.logs("taken_over")


async def test_a_run_that_goes_on_while_the_server_hangs_stays_with_who_works_on_it(
    upstream: Upstream, fleet: Fleet, server: Valkey
) -> None:
    """R45: it is not ended as unknown behind the back of the replica that waits for its answer."""
    upstream.always("POST", STUDIO_RUN, faults.after(LONGER + 3, prompt_studio_reply("because")))
    await fleet.begin_short()
    waiting = asyncio.create_task(fleet.one.post(STUDIO, Idempotency_Key="one"))
    left = await fleet.two.accepted(STUDIO)
    await until(lambda: len(upstream.requests("POST")) == 2)
    with frozen(fleet.one.now.pid):
        with frozen(server.process.pid):
            await asyncio.sleep(LONGER)
        await asyncio.sleep(0.3)  # it renews its leases a little later than the other one
    here = await asyncio.wait_for(waiting, SOON)
    assert (200, "because") == (here.status, here.json["output"])
    ends = [await replica.ended(run) for replica in fleet.both for run in (left, str(here.json["id"]))]
    assert ["succeeded"] * 4 == [end["status"] for end in ends]
    assert 2 == len(upstream.requests("POST"))


async def test_what_dies_while_the_server_hangs_is_found_afterwards(
    upstream: Upstream, receiver: Upstream, fleet: Fleet, server: Valkey
) -> None:
    """R49, R55: the survivor ends it as unknown once the others had time to say that they live; one callback."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    await fleet.begin_short()
    run_id = await fleet.one.accepted({**STUDIO, "callback_url": receiver.url + HOOK})
    await until(lambda: upstream.requests("POST"))
    with frozen(server.process.pid):
        await fleet.one.now.kill()
        await asyncio.sleep(LONGER)
    assert "unknown" == (await asyncio.wait_for(fleet.two.ended(run_id), SOON))["status"]
    assert {"state": "delivered"} == await fleet.two.told(run_id)
    assert ({f"msg_{run_id}"}, 1) == (message_ids(receiver), len(deliveries(receiver)))
    assert 1 == len(upstream.requests("POST"))
