"""Random kills of one replica after the other, under load; RUNWARD_KILLS is their number."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.replicas.client_load import ClientLoad
from tests.support.callback_receiver import CALLBACK_PATH
from tests.support.fake_upstream.responses import reply
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    from tests.replicas.replica_pair import ReplicaPair
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("RUNWARD_KILLS", "8"))
MAX_LIFETIME = 0.6  # seconds


async def test_kills_at_random(upstream: FakeUpstream, receiver: FakeUpstream, replicas: ReplicaPair) -> None:
    """R38, R44, R45, R47..R49, R55: clients use the other replica; one start for each run, and consistent responses."""
    clients = ClientLoad(upstream, receiver, replicas)
    receiver.script("POST", CALLBACK_PATH, [reply(500)] * KILLS)
    await replicas.start_with_short_lease()
    load = asyncio.create_task(clients.send_until_stopped())
    for kill in range(KILLS):
        victim = replicas.both[kill % 2]
        await asyncio.sleep(random.uniform(0, MAX_LIFETIME))
        assert -9 == await victim.current.kill()
        await asyncio.sleep(random.uniform(0, MAX_LIFETIME))
        await victim.start()
    clients.stop()
    await asyncio.wait_for(load, 2 * WAIT_TIMEOUT)
    assert len(clients.records.accepted) > KILLS
    assert len(clients.records.answers) > KILLS
    await clients.assert_consistent()
