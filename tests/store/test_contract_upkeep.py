"""What every store forgets, and whom it wakes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from gateway.store.contract import Filter, Key, Phase, Store, StoreUnavailable
from tests.access.virtual_clock import VirtualClock, settle
from tests.store.contract import FINISH, KEY, NOW, RUN, a_run, called_back

PATIENCE = 10  # real seconds: only a store that fails takes as long


async def test_old_runs_and_keys_are_forgotten(store: Store) -> None:
    """R43: each by its own age; what is exactly as old as the limit stays."""
    for number in range(4):
        await store.begin(a_run(number), Key("checkout", str(number), b""))
        await store.finish(f"run_{number}", replace(FINISH, finished_at=NOW + number))
    assert 5 == await store.purge(runs_before_at=NOW + 2, keys_before_at=NOW + 3)
    assert ["run_3", "run_2"] == [run.id for run in await store.runs(Filter("checkout"))]
    claims = [await store.claim("checkout", str(number)) for number in range(4)]
    assert [None, None, None, "run_3"] == [claim and claim.run_id for claim in claims]
    assert 0 == await store.purge(runs_before_at=NOW + 2, keys_before_at=NOW + 3)


async def test_what_has_not_ended_stays_whatever_its_age(store: Store) -> None:
    await store.begin(RUN, None)
    assert 0 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=0)
    assert RUN == await store.run(RUN.id)


async def test_what_is_still_to_be_delivered_stays(store: Store) -> None:
    """R55: a short retention does not take a callback back."""
    await store.begin(called_back(), None)
    await store.finish("run_1", FINISH)
    assert 0 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=0)
    await store.delivered("run_1", "given_up")
    assert 1 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=0)
    assert not await store.redeliver("run_1", now_at=NOW)


async def test_a_key_that_was_forgotten_is_new(store: Store) -> None:
    """R43: and what its first run still has to say does not become the answer of the second."""
    await store.begin(RUN, KEY)
    assert 1 == await store.purge(runs_before_at=0, keys_before_at=NOW + 1)
    assert await store.begin(a_run(2), KEY) is None
    await store.finish(RUN.id, FINISH)
    claim = await store.claim(KEY.client, KEY.text)
    assert ("run_2", None) == (claim and claim.run_id, claim and claim.answer)
    await store.begin(a_run(3), None)
    await store.drop("run_3", owner=RUN.owner)
    assert claim == await store.claim(KEY.client, KEY.text)


async def test_however_many_there_are_all_go(store: Store) -> None:
    """More than any batch is large."""
    count = 1203
    keys = [Key("checkout", str(number), b"") for number in range(count)]
    await asyncio.gather(*(store.begin(a_run(number), key) for number, key in enumerate(keys)))
    await asyncio.gather(*(store.finish(f"run_{number}", FINISH) for number in range(count)))
    assert 2 * count == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    assert [] == await store.runs(Filter("checkout"))


CHANGES: dict[str, Callable[[Store], Awaitable[object]]] = {
    "advance": lambda store: store.advance(replace(RUN, phase=Phase.SENDING)),
    "finish": lambda store: store.finish(RUN.id, FINISH),
    "drop": lambda store: store.drop(RUN.id, owner=RUN.owner),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_who_waits_for_a_run_is_woken_when_it_changes(store: Store, change: str) -> None:
    await store.begin(RUN, None)
    waiting = [asyncio.create_task(store.wait(ids, 30)) for ids in ([RUN.id], ["other", RUN.id])]
    other = asyncio.create_task(store.wait(["other"], 30))
    await settle()
    await CHANGES[change](store)
    await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
    assert not other.done()
    other.cancel()


async def test_a_delivery_is_a_change_too(store: Store) -> None:
    """Its state is a part of what `GET /runs/{id}` shows."""
    await store.begin(called_back(), None)
    await store.finish("run_1", FINISH)
    for change in (store.delivered("run_1", "given_up"), store.redeliver("run_1", now_at=NOW)):
        waiting = asyncio.create_task(store.wait(["run_1"], 30))
        await settle()
        await change
        await asyncio.wait_for(waiting, PATIENCE)


async def test_a_wait_ends_with_its_time(store: Store, clock: VirtualClock) -> None:
    waiting = asyncio.create_task(store.wait([RUN.id], 30))
    await clock.run_for(29.9)
    assert not waiting.done()
    await clock.run_for(0.1)
    assert waiting.done()


async def test_a_change_between_reading_and_waiting_is_not_slept_through(store: Store, clock: VirtualClock) -> None:
    await store.begin(RUN, None)
    await store.run(RUN.id)
    await store.finish(RUN.id, FINISH)
    waiting = asyncio.create_task(store.wait([RUN.id], 30))
    await clock.run_for(1)
    assert waiting.done()


CALLS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "ping": lambda store: store.ping(),
    "begin": lambda store: store.begin(RUN, KEY),
    "run": lambda store: store.run(RUN.id),
    "runs": lambda store: store.runs(Filter("checkout")),
    "claim": lambda store: store.claim("checkout", "key-1"),
    "renew": lambda store: store.renew("one", NOW),
    "adopt": lambda store: store.adopt("one", now_at=NOW, until_at=NOW, limit=1),
    "due": lambda store: store.due(now_at=NOW, until_at=NOW, limit=1),
    "delivered": lambda store: store.delivered(RUN.id, "delivered"),
    "postpone": lambda store: store.postpone(RUN.id, due_at=NOW),
    "redeliver": lambda store: store.redeliver(RUN.id, now_at=NOW),
    "called_back": lambda store: store.called_back("delivered", limit=1),
    "purge": lambda store: store.purge(runs_before_at=NOW, keys_before_at=NOW),
    "unsent": lambda store: store.unsent(replace(RUN, phase=Phase.SENDING)),
    "secret": lambda store: store.secret("name", b"fresh"),
    "tell": lambda store: store.tell("name"),
    "wait": lambda store: store.wait([RUN.id], 1),
    **CHANGES,
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_store_that_is_not_open_is_unavailable(store: Store, call: str) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable):
        await CALLS[call](store)


async def test_telling_wakes_who_waits_for_that_name(store: Store, clock: VirtualClock) -> None:
    """Whether or not there is a run of that name; nobody else is woken, and nothing is kept of it."""
    waiting = [asyncio.create_task(store.wait([name], 60)) for name in ("hint:run_1", "run_1")]
    await settle()
    await store.tell("hint:run_1")
    async with asyncio.timeout(PATIENCE):
        await waiting[0]
    assert [True, False] == [store.told(name) for name in ("hint:run_1", "run_1")]
    assert not waiting[1].done()
    waiting[1].cancel()
    assert None is await store.run("hint:run_1")
    clock.advance(1.0)
    assert not store.told("hint:run_1")


async def test_a_secret_is_the_same_for_all_who_ask(store: Store) -> None:
    """The first word counts, for each name, and after the store was closed and opened too."""
    assert [b"one", b"one", b"two"] == [
        await store.secret("a", b"one"),
        await store.secret("a", b"two"),
        await store.secret("b", b"two"),
    ]
    await store.close()
    await store.open()
    assert b"one" == await store.secret("a", b"three")
