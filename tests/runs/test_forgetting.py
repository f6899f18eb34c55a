"""What a client was told that it was not run is not run, whatever the store does; and nothing else is dropped."""

from __future__ import annotations

import asyncio

import pytest

from gateway.problems import Problem
from gateway.store.contract import Claim, Key, StoredRun, StoreUnavailable
from tests.runs.kept import Held, Office, turns, until
from tests.runs.scripted import DONE, door_of


async def test_what_was_refused_is_dropped_before_another_replica_can_start_it() -> None:
    """R54: the client read `not_run`; then this process is told to stop, before it could drop the run in peace."""
    office = await Office().open()
    workflow = office.knows(office.world.studio(DONE))
    run = office.order(workflow, waits=False)
    office.store.lost = {"begin"}
    with pytest.raises(Problem, match="store_unavailable"):
        await office.desk.keep(run, None, callback_url=None)
    assert "queued" == await office.status(run)
    await office.desk.close()
    await office.store.renew("me", 0.0)
    other = Office("other", before=office)
    other.knows(other.world.studio(DONE))
    await other.recovery.look_once()
    await turns()
    assert (None, 0) == (await office.status(run), door_of(other.workflows["studio"]).starts)


async def test_a_run_that_another_request_has_kept_is_not_dropped() -> None:
    """R47: the same id at the same time: one was promised its run, of the other nobody knew whether it was kept."""
    office = await Office().open()
    door = Held(office.clock, DONE)
    workflow = office.knows(office.world.studio(), door)
    first, second = (office.order(workflow, waits=False) for _ in range(2))
    second.id = first.id
    go = asyncio.Event()
    begin = office.store.begin
    tries = 0

    async def slow(run: StoredRun, key: Key | None) -> Claim | None:
        nonlocal tries
        tries += 1
        if tries == 1:  # it is held up on its way, and given up
            await go.wait()
            raise StoreUnavailable
        return await begin(run, key)

    office.store.begin = slow  # type: ignore[method-assign]  # the first one is
    refused = asyncio.create_task(office.desk.keep(first, None, callback_url=None))
    await turns()
    await office.start(workflow, second)
    await until(lambda: bool(door.sent))
    go.set()
    with pytest.raises(Problem, match="store_unavailable"):
        await refused
    await turns()
    assert "running" == await office.status(second)
    door.go.set()
    await until(lambda: second.finished_at is not None)
    await turns()
    assert "succeeded" == await office.status(second)
