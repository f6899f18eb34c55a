"""Store contract: retention, secrets and change notifications."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from gateway.store.contract import Store, StoreUnavailable
from gateway.store.history import HistoryEntry
from gateway.store.records import Delivery, IdempotencyKey, Phase
from gateway.store.run_filter import RunFilter
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, SAMPLE_KEY, SAMPLE_RUN, listed, new_run, new_run_with_callback
from tests.support.virtual_clock import VirtualClock, run_ready_tasks

TIMEOUT = 10  # real seconds: only a store that fails takes as long


async def test_old_runs_and_keys_are_forgotten(store: Store) -> None:
    """R43: each by its own age; an age equal to the limit is kept."""
    for number in range(4):
        await store.create_run(new_run(number), IdempotencyKey("checkout", str(number), b""))
        await store.finish(f"run_{number}", replace(SAMPLE_FINAL_STATE, finished_at=NOW + number))
    assert 5 == await store.purge(runs_before_at=NOW + 2, keys_before_at=NOW + 3)
    assert ["run_3", "run_2"] == [run.id for run in await listed(store, RunFilter("checkout"))]
    claims = [await store.get_idempotency_record("checkout", str(number)) for number in range(4)]
    assert [None, None, None, "run_3"] == [claim and claim.run_id for claim in claims]
    assert 0 == await store.purge(runs_before_at=NOW + 2, keys_before_at=NOW + 3)


async def test_an_unfinished_run_is_not_purged(store: Store) -> None:
    await store.create_run(SAMPLE_RUN, None)
    assert 0 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=0)
    assert SAMPLE_RUN == await store.get_run(SAMPLE_RUN.id)


async def test_a_run_with_a_pending_callback_is_not_purged(store: Store) -> None:
    """R55: a short retention does not delete a pending callback."""
    await store.create_run(new_run_with_callback(), None)
    await store.finish("run_1", SAMPLE_FINAL_STATE)
    assert 0 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=0)
    await store.settle_callback("run_1", "given_up")
    assert 1 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=0)
    assert not await store.redeliver_callback("run_1", now_at=NOW)


async def test_a_key_that_was_forgotten_is_new(store: Store) -> None:
    """R43: the response of the first run is not returned for the second one."""
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    assert 1 == await store.purge(runs_before_at=0, keys_before_at=NOW + 1)
    assert await store.create_run(new_run(2), SAMPLE_KEY) is None
    await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    claim = await store.get_idempotency_record(SAMPLE_KEY.client, SAMPLE_KEY.text)
    assert ("run_2", None) == (claim and claim.run_id, claim and claim.response)
    await store.create_run(new_run(3), None)
    await store.discard_run("run_3", owner=SAMPLE_RUN.owner)
    assert claim == await store.get_idempotency_record(SAMPLE_KEY.client, SAMPLE_KEY.text)


async def test_a_shared_store_marks_a_collected_run_once(store: Store) -> None:
    """The mark goes with the run; it does not change the run."""
    await store.create_run(SAMPLE_RUN, None)
    await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    before = await store.get_run(SAMPLE_RUN.id)
    marked = [await store.mark_collected(run_id) for run_id in (SAMPLE_RUN.id, SAMPLE_RUN.id, "run_none")]
    assert ([True, False, False] if store.shared else [True, True, True]) == marked
    assert before == await store.get_run(SAMPLE_RUN.id)
    if store.shared:
        await store.purge(runs_before_at=NOW + 1e6, keys_before_at=0)
        assert (None, False) == (await store.get_run(SAMPLE_RUN.id), await store.mark_collected(SAMPLE_RUN.id))


async def test_however_many_there_are_all_go(store: Store) -> None:
    """More runs than a batch."""
    count = 1203
    keys = [IdempotencyKey("checkout", str(number), b"") for number in range(count)]
    await asyncio.gather(*(store.create_run(new_run(number), key) for number, key in enumerate(keys)))
    await asyncio.gather(*(store.finish(f"run_{number}", SAMPLE_FINAL_STATE) for number in range(count)))
    assert 2 * count == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    assert [] == await listed(store, RunFilter("checkout"))


CHANGES: dict[str, Callable[[Store], Awaitable[object]]] = {
    "advance": lambda store: store.advance(replace(SAMPLE_RUN, phase=Phase.SENDING)),
    "finish": lambda store: store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE),
    "discard_run": lambda store: store.discard_run(SAMPLE_RUN.id, owner=SAMPLE_RUN.owner),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_waiters_of_a_run_are_woken_when_it_changes(store: Store, change: str) -> None:
    await store.create_run(SAMPLE_RUN, None)
    waiting = [
        asyncio.create_task(store.wait_for_change(ids, 30)) for ids in ([SAMPLE_RUN.id], ["other", SAMPLE_RUN.id])
    ]
    other = asyncio.create_task(store.wait_for_change(["other"], 30))
    await run_ready_tasks()
    await CHANGES[change](store)
    await asyncio.wait_for(asyncio.gather(*waiting), TIMEOUT)
    assert not other.done()
    other.cancel()


async def test_a_delivery_is_a_change_too(store: Store) -> None:
    """`GET /runs/{id}` shows the state of the callback."""
    await store.create_run(new_run_with_callback(), None)
    await store.finish("run_1", SAMPLE_FINAL_STATE)
    for change in (store.settle_callback("run_1", "given_up"), store.redeliver_callback("run_1", now_at=NOW)):
        waiting = asyncio.create_task(store.wait_for_change(["run_1"], 30))
        await run_ready_tasks()
        await change
        await asyncio.wait_for(waiting, TIMEOUT)


async def test_a_wait_ends_with_its_time(store: Store, clock: VirtualClock) -> None:
    waiting = asyncio.create_task(store.wait_for_change([SAMPLE_RUN.id], 30))
    await clock.run_for(29.9)
    assert not waiting.done()
    await clock.run_for(0.1)
    assert waiting.done()


async def test_a_change_between_reading_and_waiting_is_not_missed(store: Store, clock: VirtualClock) -> None:
    await store.create_run(SAMPLE_RUN, None)
    await store.get_run(SAMPLE_RUN.id)
    await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    waiting = asyncio.create_task(store.wait_for_change([SAMPLE_RUN.id], 30))
    await clock.run_for(1)
    assert waiting.done()


DELIVERY = Delivery(SAMPLE_RUN.id, "checkout", "https://hooks.example.com/", 2, NOW, 0)
CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "ping": lambda store: store.ping(),
    "create_run": lambda store: store.create_run(SAMPLE_RUN, SAMPLE_KEY),
    "get_run": lambda store: store.get_run(SAMPLE_RUN.id),
    "get_overview": lambda store: store.get_overview(SAMPLE_RUN.id),
    "get_document": lambda store: store.get_document(SAMPLE_RUN.id),
    "list_runs": lambda store: store.list_runs(RunFilter("checkout")),
    "get_idempotency_record": lambda store: store.get_idempotency_record("checkout", "key-1"),
    "renew_leases": lambda store: store.renew_leases("one", NOW),
    "adopt": lambda store: store.adopt("one", now_at=NOW, until_at=NOW, limit=1),
    "take_due_callbacks": lambda store: store.take_due_callbacks(now_at=NOW, until_at=NOW, limit=1),
    "load_callback": lambda store: store.load_callback(DELIVERY, until_at=NOW),
    "settle_callback": lambda store: store.settle_callback(SAMPLE_RUN.id, "delivered"),
    "postpone_callback": lambda store: store.postpone_callback(SAMPLE_RUN.id, due_at=NOW),
    "redeliver_callback": lambda store: store.redeliver_callback(SAMPLE_RUN.id, now_at=NOW),
    "list_by_callback_state": lambda store: store.list_by_callback_state("delivered", limit=1),
    "purge": lambda store: store.purge(runs_before_at=NOW, keys_before_at=NOW),
    "add_history": lambda store: store.add_history([HistoryEntry(replace(SAMPLE_RUN, durable=False))]),
    "purge_history": lambda store: store.purge_history(before_at=NOW, most=1),
    "purge_content": lambda store: store.purge_content(before_at=NOW),
    "get_timeline": lambda store: store.get_timeline(SAMPLE_RUN.id),
    "set_activities": lambda store: store.set_activities("one", [(SAMPLE_RUN.id, b"{}")]),
    "judge": lambda store: store.judge(SAMPLE_RUN.id, b"{}"),
    "revert_to_queued": lambda store: store.revert_to_queued(replace(SAMPLE_RUN, phase=Phase.SENDING)),
    "get_or_create_secret": lambda store: store.get_or_create_secret("name", b"fresh"),
    "notify": lambda store: store.notify("name"),
    "wait_for_change": lambda store: store.wait_for_change([SAMPLE_RUN.id], 1),
    **CHANGES,
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_store_that_is_not_open_is_unavailable(store: Store, call: str) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable):
        await CALLS[call](store)


async def test_a_notification_wakes_the_waiters_for_its_name(store: Store, clock: VirtualClock) -> None:
    """Also without a run of that name; no other task is woken, and nothing is stored."""
    waiting = [asyncio.create_task(store.wait_for_change([name], 60)) for name in ("hint:run_1", "run_1")]
    await run_ready_tasks()
    await store.notify("hint:run_1")
    async with asyncio.timeout(TIMEOUT):
        await waiting[0]
    assert [True, False] == [store.recently_notified(name) for name in ("hint:run_1", "run_1")]
    assert not waiting[1].done()
    waiting[1].cancel()
    assert None is await store.get_run("hint:run_1")
    clock.advance(1.0)
    assert not store.recently_notified("hint:run_1")


async def test_the_rest_of_the_latest_name_with_a_prefix_is_known_for_a_second(
    store: Store, clock: VirtualClock
) -> None:
    for name in ("by:run_1:omar", "by:run_1:ölga: x", "by:run_2:", "other"):
        await store.notify(name)
        async with asyncio.timeout(TIMEOUT):
            while not store.recently_notified(name):
                await asyncio.sleep(0.005)
    assert ["ölga: x", "", None] == [store.recent_suffix(f"by:run_{number}:") for number in (1, 2, 3)]
    clock.advance(1.0)
    assert None is store.recent_suffix("by:run_1:")


async def test_a_secret_is_the_same_for_all_callers(store: Store) -> None:
    """The first value of each name is kept, also after the store was closed and opened."""
    assert [b"one", b"one", b"two"] == [
        await store.get_or_create_secret("a", b"one"),
        await store.get_or_create_secret("a", b"two"),
        await store.get_or_create_secret("b", b"two"),
    ]
    await store.close()
    await store.open()
    assert b"one" == await store.get_or_create_secret("a", b"three")
