"""Lazy store of the supervisor: opened once, at the first request."""

from __future__ import annotations

import asyncio

import pytest

from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from gateway.store.provider_override import ProviderOverride
from gateway.store.run_filter import RunFilter
from gateway.supervisor.lazy_store import LazyStore
from tests.support.clock import ManualClock


class CountingStore(MemoryStore):
    """Store that counts opening and closing; `away`: the server is unreachable."""

    def __init__(self) -> None:
        super().__init__(ManualClock())
        self.calls: list[str] = []
        self.unavailable = False

    async def open(self) -> None:
        self.calls.append("open")
        await asyncio.sleep(0)
        if self.unavailable:
            raise StoreUnavailable("it is away")
        await super().open()

    async def close(self) -> None:
        self.calls.append("close")
        await super().close()


async def test_concurrent_calls_open_it_once() -> None:
    """And it is closed once, for any number of calls of `close`."""
    store = CountingStore()
    shared = LazyStore(store)
    assert [[]] * 10 == await asyncio.gather(*(shared.list_by_callback_state("gave_up", limit=9) for _ in range(10)))
    assert not await shared.redeliver_callback("run_a", now_at=0.0)
    assert [] == (await shared.list_runs(RunFilter(None))).runs
    assert (None, None) == (await shared.get_overview("run_a"), await shared.get_timeline("run_a"))
    assert await shared.get_idempotency_record("one", "key") is None
    await shared.set_override(ProviderOverride("studio", "open", "", 0.0))
    await shared.notify("overrides:changed")
    assert ["studio"] == [override.provider for override in await shared.list_overrides()]
    await shared.remove_override("studio")
    assert [] == await shared.list_overrides()
    await shared.close()
    await shared.close()
    assert ["open", "close"] == store.calls


async def test_without_a_call_nothing_is_opened() -> None:
    store = CountingStore()
    await LazyStore(store).close()
    assert [] == store.calls


async def test_an_unavailable_store_is_tried_again() -> None:
    """At the next request."""
    store = CountingStore()
    shared, store.unavailable = LazyStore(store), True
    with pytest.raises(StoreUnavailable):
        await shared.list_by_callback_state("gave_up", limit=9)
    store.unavailable = False
    assert [] == await shared.list_by_callback_state("gave_up", limit=9)
    await shared.close()
    assert ["open", "open", "close"] == store.calls
