"""Store contract: which items of the attention list were announced."""

from __future__ import annotations

import asyncio

from gateway.store.announcements import AnnouncementStore
from gateway.store.contract import Store
from tests.store.samples import NOW


async def take(store: AnnouncementStore, *ids: str, now: float = NOW, limit: int = 100) -> list[str]:
    """Take ids for a minute; those that were announced are kept for 15."""
    return await store.take_unannounced(ids, limit=limit, now_at=now, taken_until_at=now + 60, kept_until_at=now + 900)


async def test_one_caller_gets_each_id(store: Store) -> None:
    taken = await asyncio.gather(*(take(store.announcements, "a", "b") for _ in range(10)))
    assert [["a", "b"]] == [each for each in taken if each]
    assert ["c"] == await take(store.announcements, "a", "c", "b")


async def test_what_was_not_announced_is_new_again(store: Store) -> None:
    """At least once: the process that took it may have ended."""
    assert ["a"] == await take(store.announcements, "a")
    assert [] == await take(store.announcements, "a", now=NOW + 59)
    assert ["a"] == await take(store.announcements, "a", now=NOW + 60)


async def test_what_was_announced_is_not_new_while_it_is_seen(store: Store) -> None:
    """Nor within 15 minutes after it was seen last."""
    await take(store.announcements, "a")
    await store.announcements.mark_announced(["a"], kept_until_at=NOW + 900)
    for minutes in range(0, 60, 10):
        assert [] == await take(store.announcements, "a", now=NOW + 60 * minutes)
    last = NOW + 3000
    assert [] == await take(store.announcements, "b", now=last + 899, limit=0)
    assert [] == await take(store.announcements, "a", now=last + 899, limit=0)
    assert ["a"] == await take(store.announcements, "a", now=last + 899 + 900)


async def test_the_limit_is_of_new_ids(store: Store) -> None:
    """In the order in which they were given."""
    await store.announcements.mark_announced(["b"], kept_until_at=NOW + 900)
    assert ["c", "a"] == await take(store.announcements, "c", "b", "a", "d", limit=2)
    assert ["d"] == await take(store.announcements, "c", "b", "a", "d", limit=2)


async def test_there_may_be_none(store: Store) -> None:
    assert [] == await take(store.announcements)
