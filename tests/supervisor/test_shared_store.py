"""The supervisor opens the store when it is asked, and once."""

from __future__ import annotations

import asyncio

import pytest

from gateway.store.contract import StoreUnavailable
from gateway.store.memory import MemoryStore
from gateway.supervisor.shared_store import SharedStore
from tests.manual_clock import ManualClock


class Counting(MemoryStore):
    """Says how it was opened and closed; `away`: the server is not there."""

    def __init__(self) -> None:
        super().__init__(ManualClock())
        self.seen: list[str] = []
        self.away = False

    async def open(self) -> None:
        self.seen.append("open")
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("it is away")
        await super().open()

    async def close(self) -> None:
        self.seen.append("close")
        await super().close()


async def test_many_who_ask_at_once_open_it_once() -> None:
    """And it is closed once, however often that is asked for."""
    store = Counting()
    shared = SharedStore(store)
    assert [[]] * 10 == await asyncio.gather(*(shared.called_back("gave_up", limit=9) for _ in range(10)))
    assert not await shared.redeliver("run_a", now_at=0.0)
    await shared.close()
    await shared.close()
    assert ["open", "close"] == store.seen


async def test_nobody_asks_and_nothing_is_opened() -> None:
    store = Counting()
    await SharedStore(store).close()
    assert [] == store.seen


async def test_a_store_that_is_away_is_tried_again() -> None:
    """By the next who asks."""
    store = Counting()
    shared, store.away = SharedStore(store), True
    with pytest.raises(StoreUnavailable):
        await shared.called_back("gave_up", limit=9)
    store.away = False
    assert [] == await shared.called_back("gave_up", limit=9)
    await shared.close()
    assert ["open", "open", "close"] == store.seen
