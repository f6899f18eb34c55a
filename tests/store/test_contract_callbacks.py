"""Store contract: outbox of callbacks, due until settled, with counted attempts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import chain

import pytest

from gateway.store.contract import Store
from gateway.store.records import PENDING, Delivery
from tests.store.samples import (
    CALLBACK_URL,
    NOW,
    SAMPLE_FINAL_STATE,
    SAMPLE_KEY,
    SAMPLE_RESPONSE,
    SAMPLE_RUN,
    new_run,
    new_run_with_callback,
)

ENDED = NOW + 5
BODY = b'{"type":"run.finished"}'
DELIVERY = Delivery("run_1", "checkout", CALLBACK_URL, len(BODY), ENDED, attempts=0)


async def _finished(store: Store, number: int = 1, finished_at: float = ENDED) -> None:
    run = new_run_with_callback(number)
    await store.create_run(run, None)
    await store.finish(run.id, replace(SAMPLE_FINAL_STATE, finished_at=finished_at))


async def _due(
    store: Store, now_at: float = ENDED, *, until_at: float | None = None, limit: int = 100
) -> list[Delivery]:
    """Take due callbacks, without the times until which they are taken."""
    return [replace(each, taken_until_at=0.0) for each in await _take(store, now_at, until_at=until_at, limit=limit)]


async def _take(
    store: Store, now_at: float = ENDED, *, until_at: float | None = None, limit: int = 100
) -> list[Delivery]:
    return await store.take_due_callbacks(
        now_at=now_at, until_at=now_at + 60 if until_at is None else until_at, limit=limit
    )


async def _body(store: Store, delivery: Delivery, until_at: float = ENDED + 99) -> bytes | None:
    return await store.load_callback(delivery, until_at=until_at)


async def _state(store: Store, run_id: str = "run_1") -> str | None:
    run = await store.get_run(run_id)
    assert run is not None
    return run.callback_state


async def test_a_callback_is_due_when_its_run_has_ended(store: Store) -> None:
    await _finished(store)
    assert PENDING == await _state(store)
    assert [] == await _due(store, ENDED - 0.1)
    assert [DELIVERY] == await _due(store)


async def test_the_body_is_read_when_the_turn_of_a_callback_comes(store: Store) -> None:
    """From then on the callback is taken for longer."""
    await _finished(store)
    [taken] = await _take(store, until_at=ENDED + 5)
    assert ENDED + 5 == taken.taken_until_at
    assert BODY == await _body(store, taken, ENDED + 30)
    assert [] == await _take(store, ENDED + 29)
    assert ["run_1"] == [each.run_id for each in await _take(store, ENDED + 30)]


async def test_a_callback_that_another_process_has_taken_is_not_read(store: Store) -> None:
    """The first one waited for its turn for longer than it had taken the callback."""
    await _finished(store)
    [first] = await _take(store, until_at=ENDED + 5)
    [second] = await _take(store, ENDED + 6, until_at=ENDED + 11)
    assert (None, BODY) == (await _body(store, first), await _body(store, second))
    assert await _body(store, second) is None


async def test_a_callback_that_was_settled_postponed_or_revised_is_not_read(store: Store) -> None:
    for number in range(3):
        await _finished(store, number)
    taken = await _take(store)
    await store.settle_callback("run_0", "delivered")
    await store.postpone_callback("run_1", due_at=ENDED + 300)
    await store.purge(runs_before_at=ENDED + 1e6, keys_before_at=0.0)
    assert [None, None, BODY] == [await _body(store, each) for each in taken]
    await _ended_as_unknown(store, run_id="run_9")
    [before] = await _take(store)
    await store.revise("run_9", SAMPLE_FINAL_STATE)
    [after] = await _take(store, until_at=before.taken_until_at)
    assert (None, BODY) == (await _body(store, before), await _body(store, after))


@pytest.mark.parametrize("postponed", [False, True])
async def test_after_the_clock_was_set_back_callbacks_are_due_at_once(store: Store, postponed: bool) -> None:  # noqa: FBT001 - a value
    """Whatever they waited for; otherwise they would come as late as the clock was set back."""
    await _finished(store)
    if postponed:
        await _take(store)
        await store.postpone_callback("run_1", due_at=ENDED + 5)
    now = ENDED - 3600
    assert ["run_1"] == [each.run_id for each in await _take_set_back(store, now)]
    assert [] == await _take_set_back(store, now)
    await store.settle_callback("run_1", "delivered")
    assert [] == await _take_set_back(store, now - 3600)


async def _take_set_back(store: Store, now: float) -> list[Delivery]:
    return await store.take_due_callbacks(now_at=now, until_at=now + 60, limit=9, latest_at=now + 30)


async def test_clocks_of_replicas_may_differ(store: Store) -> None:
    """A callback that a replica has taken is not due for another whose clock is a little slower."""
    await _finished(store)
    await _take(store, until_at=ENDED + 20)
    slow = ENDED - 10
    assert [] == await store.take_due_callbacks(now_at=slow, until_at=slow + 20, limit=9, latest_at=slow + 30)


async def test_a_run_that_wants_no_callback_gets_none(store: Store) -> None:
    await store.create_run(new_run(1), None)
    await store.create_run(new_run_with_callback(2), None)
    await store.finish("run_1", SAMPLE_FINAL_STATE)
    await store.finish("run_2", replace(SAMPLE_FINAL_STATE, callback=None))
    assert (None, None) == (await _state(store), await _state(store, "run_2"))
    assert [] == await _due(store)


async def test_a_taken_callback_is_due_again_unless_it_is_settled(store: Store) -> None:
    """R48: the process that took it may have crashed."""
    await _finished(store)
    assert [DELIVERY] == await _due(store, until_at=ENDED + 60)
    assert [] == await _due(store, ENDED + 59)
    assert [DELIVERY] == await _due(store, ENDED + 60)


async def test_those_due_longest_come_first(store: Store) -> None:
    for number, after in ((1, 3), (2, 1), (3, 2)):
        await _finished(store, number, NOW + after)
    assert ["run_2", "run_3"] == [each.run_id for each in await _due(store, NOW + 3, limit=2)]
    assert ["run_1"] == [each.run_id for each in await _due(store, NOW + 3, limit=2)]


async def test_each_goes_to_one(store: Store) -> None:
    for number in range(50):
        await _finished(store, number)
    taken = await asyncio.gather(*(_due(store, limit=7) for _ in range(20)))
    assert sorted(f"run_{number}" for number in range(50)) == sorted(each.run_id for each in chain(*taken))


@pytest.mark.parametrize("state", ["delivered", "given_up"])
async def test_once_settled_it_is_not_due_any_more(store: Store, state: str) -> None:
    """R55."""
    await _finished(store)
    await store.settle_callback("run_1", state)
    assert state == await _state(store)
    assert [] == await _due(store, ENDED + 1e6)


async def test_the_first_settlement_of_a_callback_stands(store: Store) -> None:
    """Two processes may have delivered it, one of them late."""
    await _finished(store)
    await store.settle_callback("run_1", "delivered")
    await store.settle_callback("run_1", "given_up")
    assert "delivered" == await _state(store)


async def test_a_failure_is_counted_and_postpones_it(store: Store) -> None:
    """R52."""
    await _finished(store)
    await _due(store)
    await store.postpone_callback("run_1", due_at=ENDED + 5)
    assert [] == await _due(store, ENDED + 4)
    assert [replace(DELIVERY, attempts=1)] == await _due(store, ENDED + 5)
    await store.postpone_callback("run_1", due_at=ENDED + 300)
    assert [replace(DELIVERY, attempts=2)] == await _due(store, ENDED + 300)
    assert PENDING == await _state(store)


async def test_a_settled_callback_cannot_be_postponed(store: Store) -> None:
    """A late failure must not make a delivered callback due again."""
    await _finished(store)
    await store.settle_callback("run_1", "delivered")
    with pytest.raises(KeyError):
        await store.postpone_callback("run_1", due_at=ENDED)
    assert [] == await _due(store)


@pytest.mark.parametrize("run_id", ["run_1", "unknown"])
async def test_settling_a_run_without_a_callback_changes_nothing(store: Store, run_id: str) -> None:
    await store.create_run(new_run(1), None)
    await store.finish("run_1", SAMPLE_FINAL_STATE)
    await store.settle_callback(run_id, "delivered")
    with pytest.raises(KeyError):
        await store.postpone_callback(run_id, due_at=ENDED)
    assert not await store.redeliver_callback(run_id, now_at=ENDED)
    assert (None, []) == (await _state(store), await _due(store))


@pytest.mark.parametrize("state", ["delivered", "given_up", None])
async def test_a_settled_callback_can_be_redelivered(store: Store, state: str | None) -> None:
    """R55."""
    await _finished(store)
    await store.postpone_callback("run_1", due_at=ENDED + 300)
    if state is not None:
        await store.settle_callback("run_1", state)
    assert await store.redeliver_callback("run_1", now_at=ENDED + 10)
    assert PENDING == await _state(store)
    assert [] == await _due(store, ENDED + 9)
    assert [DELIVERY] == await _due(store, ENDED + 10)


async def test_a_run_that_has_not_ended_has_nothing_to_deliver_again(store: Store) -> None:
    await store.create_run(new_run_with_callback(), None)
    assert not await store.redeliver_callback("run_1", now_at=ENDED)


async def test_a_pending_callback_survives_a_restart(store: Store) -> None:
    """R48."""
    await _finished(store)
    await store.postpone_callback("run_1", due_at=ENDED + 5)
    await store.close()
    await store.open()
    assert [replace(DELIVERY, attempts=1)] == await _due(store, ENDED + 5)


async def test_callbacks_are_listed_by_state(store: Store) -> None:
    """R55: paginated, each once, of all clients; a replayed callback is no longer abandoned."""
    for number in range(5):
        await store.create_run(new_run_with_callback(number, client=f"client-{number}"), None)
        await store.finish(f"run_{number}", SAMPLE_FINAL_STATE)
        await store.settle_callback(f"run_{number}", "delivered" if number == 3 else "given_up")
    await store.create_run(new_run(9), None)
    assert ["run_0", "run_1"] == await store.list_by_callback_state("given_up", limit=2)
    assert ["run_2", "run_4"] == await store.list_by_callback_state("given_up", limit=2, after="run_1")
    await store.redeliver_callback("run_0", now_at=ENDED)
    assert ["run_1", "run_2", "run_4"] == await store.list_by_callback_state("given_up", limit=10)
    assert (["run_3"], ["run_0"]) == (
        await store.list_by_callback_state("delivered", limit=10),
        await store.list_by_callback_state(PENDING, limit=10),
    )
    await store.purge(runs_before_at=ENDED + 1e6, keys_before_at=0)
    assert ([], []) == (
        await store.list_by_callback_state("given_up", limit=10),
        await store.list_by_callback_state("delivered", limit=10),
    )


async def test_a_callback_is_due_when_it_is_said_to_be(store: Store) -> None:
    """R52: the first delay of a schedule counts; the delivery has the end of the run."""
    await store.create_run(new_run_with_callback(), None)
    await store.finish("run_1", replace(SAMPLE_FINAL_STATE, callback_due_at=ENDED + 60))
    assert [] == await _due(store, ENDED + 59)
    assert [DELIVERY] == await _due(store, ENDED + 60)


async def _ended_as_unknown(store: Store, owner: str = "two", run_id: str = "run_1") -> None:
    """End the sample run as `unknown` by the process that adopted it; its callback was delivered."""
    await store.create_run(replace(SAMPLE_RUN, id=run_id, callback_url=CALLBACK_URL), SAMPLE_KEY)
    await store.adopt(owner, now_at=NOW + 31, until_at=NOW + 99, limit=1)
    unknown = replace(SAMPLE_FINAL_STATE, owner=owner, status="unknown", callback=b'{"status":"unknown"}')
    assert await store.finish(run_id, replace(unknown, response=replace(SAMPLE_RESPONSE, status=502)))


async def test_a_known_end_replaces_unknown_once(store: Store) -> None:
    """The response of the key, the document and the callback are those of the true end; then nothing changes them."""
    await _ended_as_unknown(store)
    assert await store.revise(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    assert not await store.revise(SAMPLE_RUN.id, replace(SAMPLE_FINAL_STATE, status="failed"))
    run = await store.get_run(SAMPLE_RUN.id)
    assert run is not None
    assert ("succeeded", SAMPLE_FINAL_STATE.document, PENDING) == (run.status, run.document, run.callback_state)
    record = await store.get_idempotency_record(SAMPLE_KEY.client, SAMPLE_KEY.text)
    assert record is not None
    assert SAMPLE_RESPONSE == record.response
    assert [replace(DELIVERY, revision=1)] == await _due(store)


async def test_a_known_end_of_an_adopted_run_is_stored(store: Store) -> None:
    """Whatever its owner; the owner can then no longer end it."""
    await store.create_run(replace(SAMPLE_RUN, callback_url=CALLBACK_URL), None)
    await store.adopt("two", now_at=NOW + 31, until_at=NOW + 99, limit=1)
    assert await store.revise(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    assert not await store.finish(SAMPLE_RUN.id, replace(SAMPLE_FINAL_STATE, owner="two", status="unknown"))
    assert [DELIVERY] == await _due(store)
    assert not await store.revise("run_unknown", SAMPLE_FINAL_STATE)


async def test_a_late_attempt_does_not_settle_the_callback_of_another_revision(store: Store) -> None:
    """The attempt that was in progress had the body with `unknown`."""
    await _ended_as_unknown(store)
    [first] = await _due(store)
    await store.revise(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    await store.settle_callback("run_1", "delivered", revision=first.revision)
    with pytest.raises(KeyError):
        await store.postpone_callback("run_1", due_at=ENDED + 300, revision=first.revision)
    assert [replace(DELIVERY, revision=1)] == await _due(store)
    await store.settle_callback("run_1", "delivered", revision=1)
    assert "delivered" == await _state(store)


async def test_an_end_without_a_callback_keeps_the_earlier_one(store: Store) -> None:
    """A run with an undelivered callback is not purged, whatever replaced its end."""
    await _ended_as_unknown(store)
    assert await store.revise(SAMPLE_RUN.id, replace(SAMPLE_FINAL_STATE, callback=None))
    assert PENDING == await _state(store)
    await store.purge(runs_before_at=ENDED + 1e6, keys_before_at=0.0)
    assert [b'{"status":"unknown"}'] == [await _body(store, delivery) for delivery in await _take(store)]
