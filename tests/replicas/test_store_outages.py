"""Outages of the shared server: no run is started twice, and no response is false."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.replicas.client_load import ClientLoad
from tests.replicas.replica_pair import TAKEOVER_TIMEOUT, ReplicaPair, post_until_answered, suspended
from tests.support.callback_receiver import CALLBACK_PATH, deliveries, message_ids
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.valkey import start_server
from tests.support.waiting import WAIT_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.slow

LONGER_THAN_LEASE = 3.5  # seconds: than the short lease


@pytest.fixture
def restarted() -> Iterator[list[ValkeyServer]]:
    """Servers that a test has started in place of the first."""
    later: list[ValkeyServer] = []
    yield later
    for each in later:
        each.kill()


async def test_a_server_that_is_killed_and_comes_back(
    upstream: FakeUpstream,
    receiver: FakeUpstream,
    replicas: ReplicaPair,
    server: ValkeyServer,
    restarted: list[ValkeyServer],
) -> None:
    """R45, R54, R55, R99: an outage longer than the lease, under load: one start and callback each, all end."""
    load = ClientLoad(upstream, receiver, replicas)
    await replicas.start_with_short_lease()
    sending = asyncio.create_task(load.send_until_stopped())
    await asyncio.sleep(0.7)
    server.kill()
    await asyncio.sleep(LONGER_THAN_LEASE)
    restarted.append(start_server(server.directory, port=server.port))
    await asyncio.sleep(0.7)
    load.stop()
    await asyncio.wait_for(sending, 2 * WAIT_TIMEOUT)
    assert load.records.refused, "the load went on while the server was away"
    await load.assert_consistent()


async def test_a_result_that_comes_while_the_server_hangs(
    upstream: FakeUpstream, replicas: ReplicaPair, server: ValkeyServer
) -> None:
    """R44, R45: the client gets its result; after the outage the store has the same result.

    The leases are over by then, and both replicas live: the one that is heard first takes nothing from the other.
    """
    upstream.always("POST", STUDIO_RUN, faults.delayed(1.0, prompt_studio_reply("because")))
    await replicas.start_with_short_lease()
    waiting = asyncio.create_task(replicas.one.post(PROMPT_STUDIO_BODY, Idempotency_Key="one"))
    await wait_until(lambda: upstream.requests("POST"))
    with suspended(server.process.pid):
        await asyncio.sleep(LONGER_THAN_LEASE)
    here = await asyncio.wait_for(waiting, TAKEOVER_TIMEOUT)
    assert (200, "because") == (here.status, here.json["output"])
    for replica in replicas.both:
        assert (
            here.body
            == (
                await asyncio.wait_for(post_until_answered((replica,), PROMPT_STUDIO_BODY, "one"), TAKEOVER_TIMEOUT)
            ).body
        )
        assert "succeeded" == (await replica.wait_for_end(str(here.json["id"])))["status"]
    assert 1 == len(upstream.requests("POST"))
    assert [] == replicas.two.current.logs("adopted") + replicas.one.current.logs("lease_lost")


async def test_a_run_that_goes_on_while_the_server_hangs_stays_with_its_owner(
    upstream: FakeUpstream, replicas: ReplicaPair, server: ValkeyServer
) -> None:
    """R45: a run is not ended as unknown while its replica waits for the response."""
    upstream.always("POST", STUDIO_RUN, faults.delayed(LONGER_THAN_LEASE + 3, prompt_studio_reply("because")))
    await replicas.start_with_short_lease()
    waiting = asyncio.create_task(replicas.one.post(PROMPT_STUDIO_BODY, Idempotency_Key="one"))
    left = await replicas.two.submit_async(PROMPT_STUDIO_BODY)
    await wait_until(lambda: len(upstream.requests("POST")) == 2)
    with suspended(replicas.one.current.pid):
        with suspended(server.process.pid):
            await asyncio.sleep(LONGER_THAN_LEASE)
        await asyncio.sleep(0.3)  # it renews its leases a little later than the other one
    here = await asyncio.wait_for(waiting, TAKEOVER_TIMEOUT)
    assert (200, "because") == (here.status, here.json["output"])
    ends = [await replica.wait_for_end(run) for replica in replicas.both for run in (left, str(here.json["id"]))]
    assert ["succeeded"] * 4 == [end["status"] for end in ends]
    assert 2 == len(upstream.requests("POST"))


async def test_the_runs_of_a_replica_killed_while_the_server_hangs_are_found_afterwards(
    upstream: FakeUpstream, receiver: FakeUpstream, replicas: ReplicaPair, server: ValkeyServer
) -> None:
    """R49, R55: the survivor ends it as unknown after a pause for live replicas to renew their leases; one callback."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    await replicas.start_with_short_lease()
    run_id = await replicas.one.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    await wait_until(lambda: upstream.requests("POST"))
    with suspended(server.process.pid):
        await replicas.one.current.kill()
        await asyncio.sleep(LONGER_THAN_LEASE)
    assert "unknown" == (await asyncio.wait_for(replicas.two.wait_for_end(run_id), TAKEOVER_TIMEOUT))["status"]
    assert {"state": "delivered"} == await replicas.two.wait_for_callback(run_id)
    assert ({f"msg_{run_id}"}, 1) == (message_ids(receiver), len(deliveries(receiver)))
    assert 1 == len(upstream.requests("POST"))
