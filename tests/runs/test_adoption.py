"""What is adopted while it is worked on here, or while the limits, the configuration or the store speak against it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.access.hold import Hold
from gateway.access.limits import ClientLimits
from gateway.runs.catalog import Catalog
from gateway.runs.record import RunRecord
from gateway.runs.recovery import Recovery
from gateway.store.contract import Finish, Phase, StoredRun
from tests.access.virtual_clock import VirtualClock
from tests.runs.kept import LEASE, Held, Office, turns, until
from tests.runs.scripted import DONE, ENDED, RUNNING, STARTED, Act, World
from tests.runs.test_recovery import left_behind, successor


async def stalled(how: str, *acts: Act) -> tuple[Office, Held, RunRecord]:
    """A replica with a run that waits for its turn, and that nobody heard of for longer than a lease.

    Another one took the run over meanwhile, brought it so far, and went.
    """
    office = await Office("stalled").open()
    door = Held(office.clock, *acts)
    workflow = office.knows(office.world.layer(), door)
    admit = office.world.limits.admit

    async def late(*names: str, **more: Any) -> Hold:
        await door.go.wait()
        return await admit(*names, **more)

    office.world.limits.admit = late  # type: ignore[method-assign]  # it takes its time
    run = await office.start(workflow, office.order(workflow, waits=False, timeout=1e6))
    await turns()
    office.clock.advance(LEASE + 1)
    other = Office("other", before=office)
    its = Held(office.clock, STARTED, RUNNING)
    other.knows(other.world.layer(), its)
    other.desk.closing = how == "queued"  # then it is told to stop before it starts anything
    await other.recovery.look_once()
    await until(lambda: bool(its.sent) or how == "queued")
    if how == "following":
        its.go.set()
        await until(lambda: len(its.sent) > 1)
    await other.desk.close()
    office.clock.advance(LEASE + 1)
    return office, door, run


async def test_a_run_that_comes_back_to_whoever_still_works_on_it_is_started_once() -> None:
    """R45: our lease was over, another replica took the run and went; it is ours again, and we never stopped."""
    office, door, run = await stalled("queued", STARTED, RUNNING, ENDED)
    await office.recovery.look_once()
    await turns()
    door.go.set()
    await until(lambda: run.finished_at is not None)
    await turns()
    assert (1, "succeeded", False) == (door.starts, await office.status(run), office.desk.holds(run.id))


@pytest.mark.parametrize(("how", "status"), [("sending", "unknown"), ("following", "succeeded")])
async def test_a_run_that_comes_back_after_another_replica_sent_it_is_not_sent_again(how: str, status: str) -> None:
    """R45: it was still queued here; what the other one wrote down counts."""
    office, door, run = await stalled(how, RUNNING, ENDED)
    await office.recovery.look_once()
    door.go.set()
    await until(lambda: not office.desk.holds(run.id))
    await turns()
    assert (0, status) == (door.starts, await office.status(run))


@pytest.mark.parametrize("limits", [ClientLimits(daily=1), ClientLimits(concurrency=1)])
@pytest.mark.parametrize("waits", [True, False])
async def test_no_limit_keeps_a_started_run_from_being_asked_about(limits: ClientLimits, waits: bool) -> None:  # noqa: FBT001 - a value
    """R48: it was charged when it was started, and goes on whether its client has anything left or not."""
    before, run = await left_behind("following", waits=waits)
    office, _ = successor(before, RUNNING, ENDED)
    world = World(clock=office.clock, client=limits)
    await world.limits.admit("one", "other", "other", deadline=office.clock.monotonic() + 1.0)
    office.desk.engine = world.engine
    await office.recovery.look_once()
    await until(lambda: not office.desk.holds(run.id))
    await turns()
    assert "succeeded" == await office.status(run)


async def test_a_started_run_is_asked_about_though_its_workflow_is_gone() -> None:
    """R48: the provider is still there, and knows the run by its own id."""
    before, run = await left_behind("following")
    office, door = successor(before, RUNNING, ENDED)
    workflow = office.workflows.pop("layer")
    catalog = Catalog({}, {"layer": workflow.provider})
    recovery = Recovery(office.desk, office.store, catalog, office.clock, office.desk.log)
    await recovery.look_once()
    await turns()
    assert ("succeeded", 0) == (await office.status(run), door.starts)


async def test_whoever_takes_up_much_keeps_its_own() -> None:
    """R45: a slow store and many runs to end: the leases are renewed in between, and nobody takes ours away."""
    clock = VirtualClock()
    dead = await Office("dead", clock=clock).open()
    workflow = dead.knows(dead.world.studio(DONE))
    for _ in range(300):
        lost = dead.order(workflow, waits=False)
        assert None is await dead.desk.keep(lost, None, callback_url=None)
        stored = replace(dead.desk.kept(lost), phase=Phase.SENDING)
        assert await dead.store.advance(stored)
    clock.advance(LEASE + 1)
    alive = Office("alive", before=dead)
    door = Held(clock, DONE)
    own = alive.knows(alive.world.studio(), door)
    run = await alive.start(own, alive.order(own, waits=False, timeout=1e6))
    write = alive.store.finish

    async def slow(run_id: str, finish: Finish) -> bool:
        await clock.sleep(2.0)
        return await write(run_id, finish)

    alive.store.finish = slow  # type: ignore[method-assign]  # it is slow, and the same otherwise
    watching = asyncio.create_task(alive.recovery.keep_watch())
    longest = 0.0
    for _ in range(120):
        await clock.run_for(1.0)
        kept: StoredRun | None = await alive.store.run(run.id)
        assert kept is not None
        longest = max(longest, clock.now().timestamp() - kept.leased_until_at)
    watching.cancel()
    assert 0.0 == longest
    await alive.desk.close()


async def test_a_mistake_does_not_end_the_watch() -> None:
    """R45: without it every lease of this replica would run out."""
    before, run = await left_behind("queued", waits=False, allowed=1e6)
    office, _ = successor(before, STARTED, ENDED)
    adopt, mistakes = office.store.adopt, [RuntimeError("CANARY")]

    async def clumsy(owner: str, **more: object) -> list[StoredRun]:
        if mistakes:
            raise mistakes.pop()
        return await adopt(owner, **more)  # type: ignore[arg-type]  # whatever it was

    office.store.adopt = clumsy  # type: ignore[method-assign]  # it makes a mistake, once
    watching = asyncio.create_task(office.recovery.keep_watch())
    await turns()
    watching.cancel()
    assert "succeeded" == await office.status(run)
    assert "mistake" in [entry["event"] for entry in office.log.entries]
