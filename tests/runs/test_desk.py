"""Runs that are kept: nothing is sent that is not written down before, and an answer counts whatever the store does."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.problems import Problem
from gateway.runs import answers
from gateway.runs.backlog import Backlog
from gateway.runs.record import RunRecord
from gateway.store.contract import Answer, Finish, Key, Phase
from providers.contract import Cause, Reply
from tests.access.virtual_clock import VirtualClock, settle
from tests.runs.kept import KEY, LEASE, Held, Office, turns, until
from tests.runs.scripted import DONE, ENDED, RUNNING, STARTED, Act, Door, door_of, fault

# A client that waits.


@pytest.mark.parametrize(
    ("act", "status"),
    [(DONE, 200), (Reply(500), 502), (fault(Cause.DISCONNECTED), 502), (fault(Cause.TIMEOUT), 504)],
)
async def test_the_answer_of_whatever_was_dispatched_is_kept(act: Act, status: int) -> None:
    """R40: also of a run that failed, and of one of which nobody knows."""
    office = await Office().open()
    answer = await office.serve(office.world.studio(act))
    assert isinstance(answer, Answer)
    assert status == answer.status
    claim = await office.claim()
    assert claim is not None
    assert answer == claim.answer


@pytest.mark.parametrize(
    "act", [Reply(422), Reply(401), Reply(404), Reply(429), Reply(503, retry_after=999), fault(Cause.UNREACHABLE)]
)
async def test_what_was_not_run_frees_its_key(act: Act) -> None:
    """R40: nothing is left of it, and the same key starts a run."""
    office = await Office().open()
    run = office.order(office.world.studio(act))
    problem = await office.serve(office.world.studio(act), run)
    assert isinstance(problem, Problem)
    assert ("not_run", None, None) == (problem.extra["outcome"], await office.claim(), await office.status(run))
    again = await office.serve(office.world.studio(DONE))
    assert isinstance(again, Answer)
    assert 200 == again.status


async def test_a_key_that_is_taken_returns_its_claim() -> None:
    """R39: and nothing is kept of the second run."""
    office = await Office().open()
    workflow = office.world.studio(DONE)
    first, second = office.order(workflow), office.order(workflow)
    assert None is await office.desk.keep(first, KEY, callback_url=None)
    claim = await office.desk.keep(second, replace(KEY, fingerprint=b"o" * 32), callback_url=None)
    assert claim is not None
    assert (first.id, KEY) == (claim.run_id, claim.key)
    assert None is await office.status(second)
    assert second.journal is None


# A store that fails.


@pytest.mark.parametrize("how", ["down", "lost"])
@pytest.mark.parametrize(
    ("waits", "key", "told"),
    [
        (True, KEY, ("not_run", True, 1)),  # should it be there, whoever finds it forgets it
        (False, KEY, ("unknown", True, 1)),  # another replica may start it; the same key starts no second one
        (False, None, ("unknown", False, None)),
    ],
)
async def test_without_a_store_nothing_is_kept(
    how: str,
    waits: bool,  # noqa: FBT001 - a value
    key: Key | None,
    told: tuple[object, ...],
) -> None:
    """R54, R55: 503; and what may have been kept and may be started by others is never said not to run."""
    office = await Office().open()
    office.store.down = {"drop", *({"begin"} if how == "down" else ())}
    office.store.lost = {"begin"}
    run = office.order(office.world.studio(DONE), waits=waits)
    with pytest.raises(Problem) as refused:
        await office.desk.keep(run, key, callback_url=None)
    said = json.loads(refused.value.document(""))
    assert (503, "store_unavailable") == (refused.value.status, said["code"])
    assert told == (said["outcome"], said["retryable"], refused.value.retry_after)
    assert (run.id if key is None else None) == said.get("run_id")
    await office.desk._forgetting.close()


async def test_what_was_kept_unheard_is_started_by_another_where_the_outage_is_long() -> None:
    """R45, R55: its client was told that nobody knows; so the answer was true."""
    office = await Office().open()
    workflow = office.knows(office.world.studio(DONE))
    office.store.lost, office.store.down = {"begin"}, {"drop"}
    run = office.order(workflow, waits=False)
    with pytest.raises(Problem) as refused:
        await office.desk.keep(run, None, callback_url=None)
    await office.desk._forgetting.close()  # it is cut off from the store
    office.clock.advance(LEASE + 1)
    other = Office("other", before=office)
    other.knows(workflow)
    await other.recovery.look_once()
    await turns()
    assert ("unknown", "succeeded", 1) == (
        refused.value.extra["outcome"], await office.status(run), door_of(workflow).starts
    )  # fmt: skip


async def test_a_run_that_was_kept_though_the_store_could_not_say_so_blocks_no_key() -> None:
    """R54: its client was told that nothing was run, so the key is free as soon as the store is there."""
    office = await Office().open()
    office.store.lost, office.store.down = {"begin"}, {"drop"}
    run = office.order(office.world.studio(DONE))
    with pytest.raises(Problem):
        await office.desk.keep(run, KEY, callback_url=None)
    await turns()
    assert "queued" == await office.status(run)
    office.store.down = set()
    await turns()
    assert (None, None) == (await office.status(run), await office.claim())


async def test_nothing_is_sent_that_could_not_be_written_down() -> None:
    """R54: the store fails after the run was kept: 503, the provider hears nothing, the key is free."""
    office = await Office().open()
    office.store.down = {"advance"}
    workflow = office.world.studio(DONE)
    problem = await office.serve(workflow)
    assert isinstance(problem, Problem)
    assert ("store_unavailable", "not_run") == (problem.code, problem.extra["outcome"])
    assert [] == door_of(workflow).sent
    assert None is await office.claim()


async def test_nothing_is_sent_for_a_run_that_another_replica_has() -> None:
    """R45: its lease was over, and somebody took it."""
    office = await Office().open()
    workflow = office.world.studio(DONE)
    run = office.order(workflow)
    await office.desk.keep(run, KEY, callback_url=None)
    late = office.clock.now().timestamp() + 1000
    assert 1 == len(await office.store.adopt("other", now_at=late, until_at=late, limit=9))
    answer = await office.desk.serve(run, workflow, "req_1")
    assert 503 == answer.status
    assert [] == door_of(workflow).sent


async def test_an_answer_that_could_not_be_kept_is_given_and_kept_later() -> None:
    """R37: it was paid for."""
    office = await Office().open()
    office.store.down = {"finish"}
    workflow = office.world.studio(DONE)
    answer = await office.serve(workflow)
    assert isinstance(answer, Answer)
    assert 200 == answer.status
    await turns()
    claim = await office.claim()
    assert claim is not None
    assert None is claim.answer
    office.store.down = set()
    await turns()
    claim = await office.claim()
    assert claim is not None
    assert answer == claim.answer
    assert 1 == door_of(workflow).starts


async def test_a_result_is_given_though_another_replica_has_taken_its_run_over() -> None:
    """R45: our lease was over while the provider worked. What we have is true; the store keeps the other's word."""
    office = await Office().open()
    door = Held(office.clock, DONE)
    workflow = office.knows(office.world.studio(), door)
    run = office.order(workflow)
    asking = asyncio.create_task(office.serve(workflow, run))
    await until(lambda: bool(door.sent))
    late = office.clock.now().timestamp() + 1000
    (taken,) = await office.store.adopt("other", now_at=late, until_at=late, limit=9)
    door.go.set()
    answer = await asking
    assert isinstance(answer, Answer)
    assert 200 == answer.status
    assert taken == await office.store.run(run.id)
    assert [("taken_over", run.id)] == [(entry["event"], entry["run_id"]) for entry in office.log.entries]


async def test_what_another_replica_has_is_not_dropped() -> None:
    """R45: nothing was sent by us; what the other one does with it is not undone."""
    office = await Office().open()
    workflow = office.world.studio(Reply(422))
    run = office.order(workflow)
    await office.desk.keep(run, KEY, callback_url=None)
    late = office.clock.now().timestamp() + 1000
    (taken,) = await office.store.adopt("other", now_at=late, until_at=late, limit=9)
    await office.desk.forget(run)
    assert taken == await office.store.run(run.id)
    assert None is not await office.claim()


async def test_an_end_that_could_not_be_kept_is_tried_once_more_at_the_very_end() -> None:
    """R98: else whoever adopts it would have to say that nobody knows."""
    office = await Office().open()
    office.store.down = {"finish"}
    workflow = office.world.studio(DONE)
    run = office.order(workflow)
    answer = await office.serve(workflow, run)
    await office.desk.settle()
    office.store.down = set()
    await office.desk.close()
    claim = await office.claim()
    assert ("succeeded", answer) == (await office.status(run), claim and claim.answer)


async def test_a_key_that_could_not_be_freed_is_freed_later() -> None:
    """R40: until then it is in flight, and not for ever."""
    office = await Office().open()
    office.store.down = {"drop"}
    assert isinstance(await office.serve(office.world.studio(Reply(422))), Problem)
    assert None is not await office.claim()
    office.store.down = set()
    await turns()
    assert None is await office.claim()


async def test_a_run_whose_id_could_not_be_written_goes_on() -> None:
    """Only a crash could lose it."""
    office = await Office().open()
    workflow = office.world.layer(STARTED, RUNNING, ENDED)
    run = office.order(workflow, waits=False)
    await office.desk.keep(run, None, callback_url=None)
    written = office.desk.following

    async def following(of: object) -> None:
        assert of is run
        office.store.down = {"advance"}
        await written(run)
        office.store.down = set()

    run.journal = type("Journal", (), {"sending": office.desk.sending, "following": staticmethod(following)})()
    office.desk.start(run, workflow)
    await until(lambda: run.status == "succeeded")
    await turns()
    assert "succeeded" == await office.status(run)


# What is written, and when.


async def test_the_store_knows_before_the_provider_does() -> None:
    """R44: when a start is sent it is SENDING, when it is asked about it is FOLLOWING."""
    office = await Office().open()
    door = Held(office.clock, STARTED, RUNNING, ENDED)
    workflow = office.knows(office.world.layer(), door)
    run = await office.start(workflow)
    assert "queued" == await office.status(run)
    await until(lambda: bool(door.sent))
    stored = await office.store.run(run.id)
    assert stored is not None
    assert (Phase.SENDING, "running", None) == (stored.phase, stored.status, stored.provider_run_id)
    door.go.set()
    await until(lambda: len(door.sent) > 1)
    stored = await office.store.run(run.id)
    assert stored is not None
    assert (Phase.FOLLOWING, "787", 1) == (stored.phase, stored.provider_run_id, stored.attempts)
    await until(lambda: run.status == "succeeded")
    await turns()
    stored = await office.store.run(run.id)
    assert stored is not None
    assert (Phase.DONE, "succeeded", "787", 1) == (
        stored.phase, stored.status, stored.provider_run_id, stored.attempts
    )  # fmt: skip


async def test_a_repeatable_run_that_was_followed_may_still_be_handed_on() -> None:
    """The store's phase only grows; a fallback of a kept run is started all the same."""
    office = await Office().open()
    other = office.world.studio(DONE)
    workflow = office.world.layer(STARTED, Reply(401), repeatable=True, fallbacks=(other,))
    answer = await office.serve(workflow)
    assert isinstance(answer, Answer)
    assert (200, 1) == (answer.status, door_of(other).starts)


# In the background.


async def test_a_client_has_so_many_in_the_background_and_no_more() -> None:
    """One more is a 503 that says when to come back; those that ended make room."""
    office = await Office(backlog=Backlog(3)).open()
    door = Held(office.clock, DONE)
    workflow = office.knows(office.world.studio(), door)
    runs = [office.order(workflow, waits=False) for _ in range(10)]

    async def one(number: int) -> str:
        try:
            await office.start(workflow, runs[number])
        except Problem as problem:
            return f"{problem.code} {problem.retry_after}"
        return ""

    assert ["overloaded 5"] * 7 == sorted(await asyncio.gather(*map(one, range(10))))[3:]
    waiting = office.order(workflow)
    assert None is await office.desk.keep(waiting, None, callback_url=None), "clients that wait are not counted"
    door.go.set()
    await turns()
    assert 3 == len(door.sent)
    await office.start(workflow)


async def test_a_key_is_known_though_there_is_no_room() -> None:
    """R37: whose run was accepted is not told that it was not run, because others came since."""
    office = await Office(backlog=Backlog(1)).open()
    workflow = office.knows(office.world.studio(), Held(office.clock, DONE))
    first = office.order(workflow, waits=False)
    assert None is await office.desk.keep(first, KEY, callback_url=None)
    claim = await office.desk.keep(office.order(workflow, waits=False), KEY, callback_url=None)
    assert claim is not None
    assert first.id == claim.run_id
    with pytest.raises(Problem, match="overloaded"):
        await office.desk.keep(office.order(workflow, waits=False), None, callback_url=None)


@pytest.mark.parametrize("how", ["taken", "down"])
async def test_what_was_not_kept_takes_no_place(how: str) -> None:
    """A key that was used already, and a store that fails, leave the count as it was."""
    office = await Office(backlog=Backlog(1)).open()
    workflow = office.knows(office.world.studio(DONE))
    if how == "taken":
        await office.desk.keep(office.order(workflow), KEY, callback_url=None)
    else:
        office.store.down = {"begin"}
    for _ in range(3):
        run = office.order(workflow, waits=False)
        if how == "taken":
            assert None is not await office.desk.keep(run, KEY, callback_url=None)
        else:
            with pytest.raises(Problem, match=r".*") as refused:
                await office.desk.keep(run, KEY, callback_url=None)
            assert "store_unavailable" == refused.value.code
    office.store.down = set()
    await office.start(workflow)


async def test_our_own_mistake_ends_a_run_too() -> None:
    """Nobody waits for a run that never ends."""
    office = await Office().open()
    run = await office.start(office.world.studio(RuntimeError("CANARY")))
    await until(lambda: run.finished_at is not None)
    await turns()
    assert "unknown" == await office.status(run)
    assert "CANARY" not in str(await office.store.run(run.id))


# Leaving.


async def test_a_desk_that_closes_leaves_what_is_queued() -> None:
    """R98: nothing more is started; whoever adopts it may."""
    office = await Office().open()
    workflow = office.world.studio(DONE)
    run = await office.start(workflow)
    office.desk.closing = True
    await turns()
    await office.desk.settle()
    assert ("queued", []) == (await office.status(run), door_of(workflow).sent)


async def test_a_desk_that_closes_lets_a_start_be_answered() -> None:
    """R98: it was paid for, and its answer is known soon."""
    office = await Office().open()
    door = Held(office.clock, DONE)
    run = await office.start(office.knows(office.world.studio(), door))
    await until(lambda: bool(door.sent))
    settling = asyncio.create_task(office.desk.settle())
    await turns()
    assert not settling.done()
    door.go.set()
    await settling
    assert "succeeded" == await office.status(run)


async def test_a_desk_that_closes_does_not_wait_for_a_run_that_can_be_asked_about() -> None:
    """R98: whoever adopts it goes on asking, also where its id came while this one closed."""
    office = await Office().open()
    door = Held(office.clock, STARTED, RUNNING)
    run = await office.start(office.knows(office.world.layer(), door))
    await until(lambda: bool(door.sent))
    settling = asyncio.create_task(office.desk.settle())
    await turns()
    door.go.set()
    await settling
    stored = await office.store.run(run.id)
    assert stored is not None
    assert (Phase.FOLLOWING, "787", 1) == (stored.phase, stored.provider_run_id, len(door.sent))


async def test_a_desk_that_closes_at_once_waits_for_nothing() -> None:
    """R98: the second signal; what was being sent stands as such in the store."""
    office = await Office().open()
    door = Held(office.clock, DONE)
    run = await office.start(office.knows(office.world.studio(), door))
    await until(lambda: bool(door.sent))
    await asyncio.wait_for(office.desk.close(), 1.0)
    stored = await office.store.run(run.id)
    assert stored is not None
    assert Phase.SENDING is stored.phase


async def test_a_store_that_is_gone_does_not_keep_a_desk_from_closing() -> None:
    """R98: what could not be written is found, as unknown, by whoever comes next."""
    office = await Office().open()
    office.store.down = {"finish"}
    run = await office.start(office.world.studio(DONE))
    await until(lambda: run.status == "succeeded")
    await turns()
    await asyncio.wait_for(office.desk.settle(), 1.0)
    assert "running" == await office.status(run)


async def test_a_desk_that_closes_lets_an_end_be_written() -> None:
    """R98: a result that is there is not given up for a store that takes its time."""
    office = await Office().open()
    written = asyncio.Event()
    write = office.store.finish

    async def slow(run_id: str, finish: Finish) -> bool:
        await written.wait()
        return await write(run_id, finish)

    office.store.finish = slow  # type: ignore[method-assign]  # it is slow, and the same otherwise
    run = await office.start(office.world.studio(DONE))
    await until(lambda: run.finished_at is not None)
    settling = asyncio.create_task(office.desk.settle())
    await turns()
    written.set()
    await settling
    assert "succeeded" == await office.status(run)


# Refused starts.

REFUSED = [Reply(429, retry_after=20.0), fault(Cause.UNREACHABLE)]


async def backing_off(act: Act, *then: Act, **fields: Any) -> tuple[Office, RunRecord, Door]:
    """A run in the background whose start was refused, before it is tried again."""
    clock = VirtualClock()
    office = await Office("dead", clock=clock).open()
    workflow = office.knows(office.world.layer(act, *then, **fields))
    run = await office.start(workflow)
    door = door_of(workflow)
    await until(lambda: bool(door.sent))
    await settle()
    assert (1, None) == (door.starts, run.finished_at)
    return office, run, door


@pytest.mark.parametrize("act", REFUSED)
@pytest.mark.parametrize("how", ["settle", "close"])
async def test_a_start_that_was_refused_leaves_nothing_unknown(act: Act, how: str) -> None:
    """R47: whether the process is told to stop or killed while it backs off, the next one may start the run."""
    before, run, refused = await backing_off(act, STARTED, ENDED)
    stored = await before.store.run(run.id)
    assert stored is not None
    assert (Phase.QUEUED, "running", 1) == (stored.phase, stored.status, stored.attempts)
    await asyncio.wait_for(before.desk.settle() if how == "settle" else before.desk.close(), 1.0)
    assert 1 == refused.starts
    before.clock.advance(LEASE + 1)
    after = Office("next", before=before)
    workflow = after.knows(after.world.layer(STARTED, ENDED))
    await after.recovery.look_once()
    assert isinstance(after.clock, VirtualClock)
    await after.clock.run_for(5)
    assert ("succeeded", 1) == (await after.status(run), door_of(workflow).starts)
    shown = await after.store.run(run.id)
    assert shown is not None
    assert 2 == shown.attempts


async def test_a_start_that_is_refused_while_the_desk_closes_is_left_to_the_next() -> None:
    """R98: nobody waits for a back-off."""
    office = await Office(clock=VirtualClock()).open()
    door = Held(office.clock, Reply(429, retry_after=20.0), STARTED)
    run = await office.start(office.knows(office.world.layer(), door))
    await until(lambda: bool(door.sent))
    settling = asyncio.create_task(office.desk.settle())
    await turns()
    door.go.set()
    await asyncio.wait_for(settling, 1.0)
    stored = await office.store.run(run.id)
    assert stored is not None
    assert (Phase.QUEUED, 1) == (stored.phase, door.starts)


async def test_before_it_is_sent_again_the_store_knows() -> None:
    """R44: SENDING, QUEUED, SENDING: at no moment could a crash lead to a second start of one that was sent."""
    office = await Office().open()
    phases: list[Phase] = []

    def look() -> Reply:
        phases.append(next(iter(office.store._runs.values())).phase)
        return Reply(429, retry_after=0.1) if len(phases) < 3 else DONE

    answer = await office.serve(office.world.studio(look))
    assert isinstance(answer, Answer)
    assert (200, [Phase.SENDING] * 3) == (answer.status, phases)


async def test_a_refusal_takes_back_no_start_that_may_have_run() -> None:
    """R49: the first one's answer was lost, the second one was refused: nobody knows whether it ran."""
    office = await Office(clock=VirtualClock()).open()
    workflow = office.knows(
        office.world.layer(fault(Cause.DISCONNECTED), Reply(429, retry_after=20.0), STARTED, repeatable=True)
    )
    run = await office.start(workflow)
    assert isinstance(office.clock, VirtualClock)
    await office.clock.run_for(5)
    stored = await office.store.run(run.id)
    assert stored is not None
    assert (Phase.SENDING, 2) == (stored.phase, door_of(workflow).starts)
    await office.desk.close()


async def test_a_refusal_that_could_not_be_written_down_changes_nothing_else() -> None:
    """Only a crash before the next start would make it unknown."""
    office = await Office().open()
    office.store.down = {"unsent"}
    answer = await office.serve(office.world.studio(Reply(429, retry_after=0.1), DONE))
    assert isinstance(answer, Answer)
    assert 200 == answer.status
    assert [("not_written", "queued")] == [(e["event"], e["phase"]) for e in office.log.entries]


# What is told later.


async def test_the_key_of_a_run_that_nobody_waited_for_keeps_its_202() -> None:
    """R37: also when the run itself is forgotten before its key, the same request gets the same answer."""
    office = await Office().open()
    run = await office.start(office.world.studio(DONE), key=KEY)
    accepted = answers.accepted(office.desk.kept(run))
    await until(lambda: run.finished_at is not None)
    await turns()
    await office.store.purge(runs_before_at=office.clock.now().timestamp() + 1e6, keys_before_at=0)
    claim = await office.claim()
    assert claim is not None
    assert (None, accepted) == (await office.status(run), claim.answer)


async def test_the_first_delay_of_the_schedule_counts() -> None:
    """R52: a callback is not tried before it."""
    office = await Office(first_delay=lambda: 60.0).open()
    workflow = office.world.studio(DONE)
    run = office.order(workflow, waits=False)
    assert None is await office.desk.keep(run, None, callback_url="https://hooks.example.com/here")
    office.desk.start(run, workflow)
    await until(lambda: run.finished_at is not None)
    await turns()
    now = office.clock.now().timestamp()
    assert [] == await office.store.due(now_at=now + 59, until_at=now + 100, limit=9)
    assert [run.id] == [d.run_id for d in await office.store.due(now_at=now + 61, until_at=now + 100, limit=9)]
