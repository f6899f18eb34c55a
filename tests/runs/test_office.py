"""What is behind the desk ends: what it leaves is there for others, at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.runs.callbacks import Callbacks
from gateway.runs.office import BackOffice
from gateway.store.contract import Delivery, StoredRun, StoreUnavailable
from gateway.upstream.courier import Courier
from gateway.upstream.egress import Egress
from tests.access.virtual_clock import VirtualClock
from tests.runs.kept import LEASE, Held, Office, turns, until
from tests.runs.scripted import DONE, ENDED, STARTED, Door, door_of


def _behind(office: Office) -> BackOffice:
    clock: Clock = office.clock
    courier = Courier(Egress((), own=list), clock, user_agent="test")
    callbacks = Callbacks(office.store, courier, [], [0.0], clock, Metrics(), office.desk.log)
    return BackOffice(office.desk, office.store, office.recovery, callbacks, clock, office.desk.log, retention=60.0)


async def test_who_stops_gives_its_runs_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """R98: another replica takes them up at once, rather than when the lease is over; nothing is started twice."""
    leaving = await Office("leaving").open()
    monkeypatch.setattr(leaving.store, "close", turns)  # for others it stays open
    door = Held(leaving.clock)
    run = await leaving.start(leaving.knows(leaving.world.layer(), door))
    leaving.desk.closing = True  # before anything is sent
    await turns()
    await _behind(leaving).close()
    other = Office("other", before=leaving)
    heir = Door(other.clock, (STARTED, ENDED))
    other.knows(other.world.layer(), heir)
    await other.recovery.look_once()
    await turns()
    assert ("succeeded", 0, 1) == (await other.status(run), door.starts, heir.starts)


async def test_who_stays_is_told_that_somebody_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """R98: it looks then, and not only when it would have looked by itself; it goes on renewing as before."""
    clock = VirtualClock()
    leaving = await Office("leaving", clock=clock).open()
    monkeypatch.setattr(leaving.store, "close", turns)  # for others it stays open
    run = await leaving.start(leaving.knows(leaving.world.layer(), Held(clock)))
    leaving.desk.closing = True  # before anything is sent
    await turns()
    other = Office("other", before=leaving)
    heir = Door(clock, (STARTED, ENDED))
    other.knows(other.world.layer(), heir)
    watching = asyncio.create_task(other.recovery.keep_watch())
    await clock.run_for(LEASE / 3 - 5)
    assert 0 == heir.starts
    await _behind(leaving).close()
    await clock.run_for(1)
    stored = await other.store.run(run.id)
    assert stored is not None
    assert ("other", 1) == (stored.owner, heir.starts)
    watching.cancel()


async def test_a_store_that_fails_stops_nobody_from_stopping() -> None:
    """And twice is once."""
    office = await Office().open()
    office.knows(office.world.studio(DONE))
    behind = _behind(office)
    await office.store.close()
    await behind.close()
    await behind.close()


async def test_another_retention_holds_from_the_next_time_on() -> None:
    """R100."""
    office = await Office().open()
    workflow = office.knows(office.world.studio(DONE))
    run = await office.start(workflow)
    await turns()
    assert "succeeded" == await office.status(run)
    office.clock.advance(61)
    behind = _behind(office)
    for retention, kept in ((3600.0, True), (60.0, False)):
        behind.reconfigure(retention)
        forgetting = asyncio.create_task(behind._keep_forgetting())
        await turns(5)
        forgetting.cancel()
        assert kept == (await office.store.run(run.id) is not None)


async def test_a_store_that_fails_while_runs_are_taken_up_stops_no_start() -> None:
    """R49: the first of them may be on their way to a provider; the others are found later."""
    before = await Office("dead").open()
    workflow = before.knows(before.world.studio(DONE))
    for _ in range(150):
        await before.desk.keep(before.order(workflow, waits=False, timeout=1e6), None, callback_url=None)
    before.clock.advance(LEASE + 1)
    office = Office("next", before=before)
    office.knows(office.world.studio(DONE))
    adopt, batches = office.store.adopt, 0

    async def worse(owner: str, **more: Any) -> list[StoredRun]:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise StoreUnavailable
        return await adopt(owner, **more)

    office.store.adopt = worse  # type: ignore[method-assign]  # it fails once
    behind = _behind(office)
    await behind.begin()
    await until(lambda: door_of(office.workflows["studio"]).starts == 150)
    await turns(300)
    await behind.close()


async def test_a_mistake_does_not_end_the_deliveries() -> None:
    """R55: what is due later is still delivered."""
    office = await Office().open()
    behind = _behind(office)
    behind.callbacks.keys = [b"k" * 32]
    due: list[object] = [RuntimeError("CANARY"), [], []]

    async def clumsy(**_: object) -> list[Delivery]:
        found = due.pop(0) if due else []
        if isinstance(found, Exception):
            raise found
        return []

    office.store.due = clumsy  # type: ignore[method-assign]  # it makes a mistake, once
    delivering = asyncio.create_task(behind.callbacks.keep_delivering())
    await until(lambda: not due)
    delivering.cancel()
    [mistake] = [entry for entry in office.log.entries if entry["event"] == "mistake"]
    assert "CANARY" not in str(mistake)
