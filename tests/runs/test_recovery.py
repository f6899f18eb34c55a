"""Runs that nobody works on any more: how far each was decides what becomes of it, and nothing is started twice."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from gateway.runs.record import RunRecord
from gateway.store.contract import Phase, StoreUnavailable
from providers.contract import Reply
from tests.access.virtual_clock import VirtualClock
from tests.runs.kept import KEY, LEASE, Held, Office, turns, until
from tests.runs.scripted import DONE, ENDED, RUNNING, STARTED, Act, Door, door_of


async def left_behind(how: str, *, waits: bool = False, allowed: float = 60.0) -> tuple[Office, RunRecord]:
    """A process that ended, and the run that it had brought so far; its lease is over."""
    office = await Office("dead").open()
    door = Held(office.clock, STARTED, RUNNING)
    workflow = office.knows(office.world.layer(), door)
    run = office.order(workflow, waits=waits, timeout=allowed)
    assert None is await office.desk.keep(run, KEY, callback_url=None)
    if how != "queued":
        office.desk.start(run, workflow)
        await until(lambda: bool(door.sent))
    if how == "following":
        door.go.set()
        await until(lambda: len(door.sent) > 1)
    await office.desk.close()
    office.clock.advance(LEASE + 1)
    return office, run


def successor(of: Office, *acts: Act) -> tuple[Office, Door]:
    """The process that comes after, and its door to the provider."""
    office = Office("next", before=of)
    workflow = office.world.layer()
    door = Door(office.clock, acts)
    office.knows(workflow, door)
    return office, door


async def test_a_queued_run_is_started_once() -> None:
    """R47: whoever was told 202 gets its run; looking again starts nothing more."""
    before, run = await left_behind("queued")
    office, door = successor(before, STARTED, RUNNING, ENDED)
    await office.recovery.look_once()
    await office.recovery.look_once()
    await turns()
    assert ("succeeded", 1) == (await office.status(run), door.starts)


async def test_a_queued_run_whose_client_waited_is_dropped() -> None:
    """R44: it got no answer and nothing was sent, so its key is free to start it."""
    before, run = await left_behind("queued", waits=True)
    office, door = successor(before, STARTED)
    await office.recovery.look_once()
    await turns()
    assert (None, None, []) == (await office.status(run), await office.claim(), door.sent)


@pytest.mark.parametrize("waits", [True, False])
async def test_a_run_that_was_being_sent_ends_as_unknown(waits: bool) -> None:  # noqa: FBT001 - a value
    """R44, R49: it is never sent again, and its key has an answer that says so."""
    before, run = await left_behind("sending", waits=waits)
    office, door = successor(before, STARTED)
    await office.recovery.look_once()
    await turns()
    assert ("unknown", []) == (await office.status(run), door.sent)
    claim = await office.claim()
    assert claim is not None
    assert claim.answer is not None
    if not waits:
        assert (202, f"/runs/{run.id}") == (claim.answer.status, dict(claim.answer.headers)["Location"])
        return
    assert b'"outcome":"unknown"' in claim.answer.body
    assert b'"retryable":false' in claim.answer.body


@pytest.mark.parametrize("waits", [True, False])
async def test_a_run_that_can_be_asked_about_is_followed(waits: bool) -> None:  # noqa: FBT001 - a value
    """R48: the same execution id, no second start, and a key that waited has its answer."""
    before, run = await left_behind("following", waits=waits)
    office, door = successor(before, RUNNING, ENDED)
    await office.recovery.look_once()
    await until(lambda: len(door.sent) > 1)
    await turns()
    assert ("succeeded", 0) == (await office.status(run), door.starts)
    assert all("787" in call.path for call, _, _ in door.sent)
    claim = await office.claim()
    assert claim is not None
    assert claim.answer is not None
    assert (200 if waits else 202) == claim.answer.status


async def test_a_run_that_is_found_late_is_still_asked_about() -> None:
    """R48: its deadline passed while nobody was there; a result that exists is worth a look."""
    before, run = await left_behind("following")
    before.clock.advance(10_000)
    office, _ = successor(before, RUNNING, ENDED)
    await office.recovery.look_once()
    await turns()
    assert "succeeded" == await office.status(run)


async def test_a_queued_run_that_is_found_too_late_is_not_started() -> None:
    """Its deadline passed: not_run, and nobody pays."""
    before, run = await left_behind("queued")
    before.clock.advance(10_000)
    office, door = successor(before, STARTED, ENDED)
    await office.recovery.look_once()
    await turns()
    assert ("not_run", 0) == (await office.status(run), door.starts)


@pytest.mark.parametrize(("how", "status"), [("queued", "not_run"), ("following", "unknown")])
async def test_a_run_whose_workflow_is_gone_ends(how: str, status: str) -> None:
    """The configuration changed in between: its client is told what is known."""
    before, run = await left_behind(how)
    office = Office("next", before=before)
    await office.recovery.look_once()
    await turns()
    stored = await office.store.run(run.id)
    assert stored is not None
    assert stored.document is not None
    assert status == stored.status
    assert b"workflow_not_found" in stored.document


async def test_a_lease_that_is_not_over_is_respected() -> None:
    """R45: somebody else works on it."""
    alive = await Office("alive").open()
    door = Held(alive.clock, DONE)
    workflow = alive.knows(alive.world.studio(), door)
    run = await alive.start(workflow)
    other = Office("other", before=alive)
    other.knows(other.world.studio(DONE))
    alive.clock.advance(LEASE - 1)
    await other.recovery.look_once()
    await turns()
    assert [] == door_of(other.workflows["studio"]).sent
    door.go.set()
    await turns()
    assert "succeeded" == await alive.status(run)


async def test_leases_are_renewed_for_as_long_as_the_process_lives() -> None:
    """R45: a run that takes longer than a lease is not taken away."""
    alive = await Office("alive").open()
    door = Held(alive.clock, DONE)
    workflow = alive.knows(alive.world.studio(), door)
    run = await alive.start(workflow, alive.order(workflow, waits=False, timeout=1000.0))
    other = Office("other", before=alive)
    began = alive.clock.monotonic()
    watching = asyncio.create_task(alive.recovery.keep_watch())
    await until(lambda: alive.clock.monotonic() > began + 3 * LEASE)
    await other.recovery.look_once()
    watching.cancel()
    stored = await alive.store.run(run.id)
    assert stored is not None
    assert "alive" == stored.owner
    await alive.desk.close()


async def test_one_of_several_adopts_a_run() -> None:
    """R45: two replicas find it at once, one start is made."""
    before, run = await left_behind("queued")
    first, one = successor(before, STARTED, ENDED)
    second = Office("third", before=before)
    other = Door(before.clock, (STARTED, ENDED))
    second.knows(second.world.layer(), other)
    await asyncio.gather(first.recovery.look_once(), second.recovery.look_once())
    await turns()
    assert ("succeeded", 1) == (await first.status(run), one.starts + other.starts)


@pytest.mark.parametrize("how", ["in doubt", "refused"])
async def test_what_was_adopted_unheard_is_taken_up_at_the_next_look(how: str) -> None:
    """R48: the store took it over and could not say so. It is ours then, and somebody must work on it."""
    before, run = await left_behind("queued", allowed=1e6)
    office, door = successor(before, STARTED, ENDED)
    (office.store.lost if how == "in doubt" else office.store.down).add("adopt")
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await office.recovery.look_once()
    stored = await office.store.run(run.id)
    assert stored is not None
    assert ("queued", how == "in doubt") == (stored.status, stored.owner == office.desk.owner)
    office.store.lost, office.store.down = set(), set()
    for _ in range(3):
        await office.recovery.look_once()
        await turns()
    assert ("succeeded", 1) == (await office.status(run), door.starts)


async def test_all_that_was_left_is_adopted() -> None:
    """However many batches that takes."""
    before = await Office("dead").open()
    workflow = before.knows(before.world.studio(DONE))
    for _ in range(250):
        await before.desk.keep(before.order(workflow, waits=False), None, callback_url=None)
    before.clock.advance(LEASE + 1)
    office = Office("next", before=before)
    office.knows(office.world.studio(DONE))
    await office.recovery.look_once()
    await turns(300)
    assert 250 == door_of(office.workflows["studio"]).starts


async def test_a_store_that_fails_in_between_loses_no_run() -> None:
    """Those that were adopted are this process's: it must bring each to its end."""
    before = await Office("dead").open()
    workflow = before.knows(before.world.studio(DONE))
    dropped = before.order(workflow)
    await before.desk.keep(dropped, KEY, callback_url=None)
    before.clock.advance(1)
    run = before.order(workflow, waits=False)
    await before.desk.keep(run, None, callback_url=None)
    before.clock.advance(LEASE + 1)
    office = Office("next", before=before)
    office.knows(office.world.studio(DONE))
    office.store.down = {"drop"}
    with contextlib.suppress(StoreUnavailable):
        await office.recovery.look_once()
    office.store.down = set()
    await turns()
    assert ("succeeded", None) == (await office.status(run), await office.status(dropped))


async def test_a_desk_that_closes_adopts_nothing() -> None:
    """R98: it renews what it is finishing, and leaves the rest to those that stay."""
    before, run = await left_behind("queued")
    office, door = successor(before, STARTED, ENDED)
    office.desk.closing = True
    watching = asyncio.create_task(office.recovery.keep_watch())
    await turns()
    watching.cancel()
    stored = await office.store.run(run.id)
    assert stored is not None
    assert ("dead", Phase.QUEUED, []) == (stored.owner, stored.phase, door.sent)


async def test_a_key_of_a_run_that_was_adopted_is_in_flight_until_it_ends() -> None:
    """R44: nothing is started twice in the meantime."""
    before, run = await left_behind("following", waits=True)
    office = Office("next", before=before)
    door = Held(office.clock, ENDED)
    workflow = office.knows(office.world.layer(), door)
    await office.recovery.look_once()
    claim = await office.desk.keep(office.order(workflow), KEY, callback_url=None)
    assert claim is not None
    assert (run.id, None) == (claim.run_id, claim.answer)
    door.go.set()
    await turns()
    claim = await office.claim()
    assert claim is not None
    assert None is not claim.answer


async def test_a_provider_that_refuses_a_followed_run_leaves_it_unknown() -> None:
    """R48: it was started, whatever its provider says of our question."""
    before, run = await left_behind("following")
    office, door = successor(before, Reply(404))
    await office.recovery.look_once()
    await until(lambda: bool(door.sent))
    await turns()
    assert "unknown" == await office.status(run)


async def test_the_watch_goes_on_where_the_store_fails() -> None:
    """It is back sooner or later."""
    before, run = await left_behind("queued", allowed=1e6)
    office, door = successor(before, STARTED, ENDED)
    await office.store.close()
    watching = asyncio.create_task(office.recovery.keep_watch())
    await turns()
    assert [] == door.sent
    await office.store.open()
    await turns()
    watching.cancel()
    assert ("succeeded", 1) == (await office.status(run), door.starts)


async def test_who_lives_keeps_its_runs_when_the_store_was_away_for_longer_than_a_lease() -> None:
    """R45: all see it again, and who is first does not take what another works on still."""
    clock = VirtualClock()
    alive = await Office("alive", clock=clock).open()
    door = Held(clock, DONE)
    workflow = alive.knows(alive.world.studio(), door)
    run = await alive.start(workflow, alive.order(workflow, waits=False, timeout=1000.0))
    other = Office("other", before=alive)
    other.knows(workflow)
    watching = [asyncio.create_task(other.recovery.keep_watch())]
    await clock.run_for(LEASE / 3 - 1)
    watching.append(asyncio.create_task(alive.recovery.keep_watch()))  # a little later, each time
    await alive.store.close()
    await clock.run_for(3 * LEASE)
    await alive.store.open()
    await clock.run_for(3 * LEASE)
    door.go.set()
    await clock.run_for(1)
    for task in watching:
        task.cancel()
    assert ("succeeded", 1) == (await alive.status(run), door.starts)
    assert [] == [entry for entry in other.log.entries if entry["event"] == "adopted"]


async def test_an_order_of_another_version_stops_nobody() -> None:
    """What can not be read is not sent, and what was left beside it is taken up all the same."""
    before, run = await left_behind("queued")
    stored = await before.store.run(run.id)
    assert stored is not None
    await before.store.begin(replace(stored, id="run_odd", order=b'{"odd":1}', created_at=stored.created_at - 1), None)
    office, door = successor(before, STARTED, RUNNING, ENDED)
    await office.recovery.look_once()
    await turns()
    assert 1 == door.starts


@pytest.mark.parametrize(
    ("how", "known", "workflow", "outcome"),
    [
        ("sending", True, "layer", "unknown"),
        ("following", False, "(gone)", "unknown"),
        ("queued", False, "(gone)", "not_run"),
    ],
)
async def test_a_run_that_nobody_goes_on_with_counts(how: str, known: bool, workflow: str, outcome: str) -> None:  # noqa: FBT001 - a value
    """R92: once, like every run that ended, under a name that the configuration bounds; and the log says so."""
    before, run = await left_behind(how)
    office = successor(before)[0] if known else Office("next", before=before)
    await office.recovery.look_once()
    await turns()
    assert 1 == office.world.counted("runward_runs_total")
    assert 1 == office.world.counted("runward_runs_total", client="one", workflow=workflow, outcome=outcome)
    ended = [entry for entry in office.log.entries if entry["event"] == "run_ended"]
    assert [(run.id, outcome)] == [(entry["run_id"], entry["outcome"]) for entry in ended]


@pytest.mark.parametrize("order", [b'{"odd":1}', b"\xff"])
@pytest.mark.parametrize(("how", "status"), [("queued", "not_run"), ("sending", "unknown"), ("following", "unknown")])
async def test_an_order_that_nobody_can_read_ends_once_its_time_is_over(how: str, status: str, order: bytes) -> None:
    """Until then a version that can read it may come; then its client is told what is known, once."""
    before, run = await left_behind(how)
    stored = await before.store.run(run.id)
    assert stored is not None
    before.store._keep(replace(stored, order=order))
    office, door = successor(before, STARTED, ENDED)
    await office.recovery.look_once()
    assert stored.status == await office.status(run)
    office.clock.advance(stored.deadline_at - office.clock.now().timestamp() + 29)
    await office.recovery.look_once()
    assert stored.status == await office.status(run)
    office.clock.advance(2)
    for _ in range(2):
        await office.recovery.look_once()
    shown = await office.store.run(run.id)
    assert shown is not None
    assert shown.document is not None
    assert (status, []) == (shown.status, door.sent)
    assert b"can not read the order" in shown.document
    assert 1 == office.world.counted("runward_runs_total")


async def test_a_run_that_a_fallback_refused_is_started_from_the_first_again() -> None:
    """R47: nothing was run, so it is the run that was asked for, not what was tried last."""
    before, run = await left_behind("queued")
    stored = await before.store.run(run.id)
    assert stored is not None
    before.store._keep(replace(stored, provider="other", attempts=2, status="running"))
    office, door = successor(before, STARTED, RUNNING, ENDED)
    await office.recovery.look_once()
    await turns()
    assert ("succeeded", 1) == (await office.status(run), door.starts)
