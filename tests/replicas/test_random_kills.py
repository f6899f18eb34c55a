"""Power cuts of one replica after the other, under load. RUNWARD_KILLS says how many."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING

from tests.durable.lives import PATIENCE
from tests.durable.receiver import HOOK
from tests.faults.answers import reply
from tests.replicas.crowd import Crowd

if TYPE_CHECKING:
    from tests.faults.upstream import Upstream
    from tests.replicas.fleet import Fleet

KILLS = int(os.environ.get("RUNWARD_KILLS", "8"))
LONGEST_LIFE = 0.6  # seconds


async def test_kills_at_random(upstream: Upstream, receiver: Upstream, fleet: Fleet) -> None:
    """R38, R44, R45, R47..R49, R55: clients go elsewhere; one start each, everything ends, and is as it was told."""
    crowd = Crowd(upstream, receiver, fleet)
    receiver.script("POST", HOOK, [reply(500)] * KILLS)
    await fleet.begin_short()
    load = asyncio.create_task(crowd.keep_coming())
    for kill in range(KILLS):
        victim = fleet.both[kill % 2]
        await asyncio.sleep(random.uniform(0, LONGEST_LIFE))
        assert -9 == await victim.now.kill()
        await asyncio.sleep(random.uniform(0, LONGEST_LIFE))
        await victim.begin()
    crowd.enough()
    await asyncio.wait_for(load, 2 * PATIENCE)
    assert len(crowd.told.promised) > KILLS
    assert len(crowd.told.answers) > KILLS
    await crowd.check()
