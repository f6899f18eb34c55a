"""Store contract: audit records, of which replicas build one chain."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.audit.chain import ChainCheck, seal, shown
from gateway.store.audit import GENESIS, MAX_EXAMINED, AuditFilter, AuditHead, AuditRecord, AuditState
from gateway.store.contract import Store, StoreUnavailable
from tests.audit.samples import at, chain, entry
from tests.store.samples import STORES
from tests.support.virtual_clock import VirtualClock

EVERYTHING = AuditFilter({}, ascending=True, limit=10_000)


async def filled(store: Store, count: int) -> list[AuditRecord]:
    """Append so many records."""
    records = chain(count)
    for record, after in zip(records, [GENESIS, *(each.head for each in records)], strict=False):
        assert record.head == await store.audit.append([record], after)
    return records


async def test_records_are_kept_as_they_were_appended(store: Store) -> None:
    assert AuditState(GENESIS, GENESIS) == await store.audit.state()
    assert [] == (await store.audit.list(AuditFilter({}))).records
    records = await filled(store, 3)
    assert records == (await store.audit.list(EVERYTHING)).records
    assert records[::-1] == (await store.audit.list(AuditFilter({}))).records
    assert AuditState(GENESIS, records[-1].head) == await store.audit.state()


async def test_a_record_is_appended_to_the_head_only(store: Store) -> None:
    """Of several writers one appends; the others learn the head."""
    records = await filled(store, 2)
    others = [seal(entry(number).members(at(9), "x"), records[-1].head) for number in (10, 11, 12)]
    heads = await asyncio.gather(*(store.audit.append([each], records[-1].head) for each in others))
    assert 1 == len(set(heads))
    assert heads[0] in [each.head for each in others]
    for wrong in (GENESIS, records[0].head, AuditHead(3, "0" * 64), AuditHead(2, heads[0].hash)):
        assert heads[0] == await store.audit.append([seal(entry(13).members(at(9), "x"), wrong)], wrong)
    assert [1, 2, 3] == [each.sequence for each in (await store.audit.list(EVERYTHING)).records]


async def test_several_records_are_appended_together_or_not_at_all(store: Store) -> None:
    records = chain(4)
    assert records[2].head == await store.audit.append(records[:3], GENESIS)
    assert records[2].head == await store.audit.append(records[2:], records[1].head)
    assert records[3].head == await store.audit.append(records[3:], records[2].head)
    assert records == (await store.audit.list(EVERYTHING)).records


async def test_two_writers_build_one_chain(store: Store) -> None:
    async def write(name: str) -> None:
        head = GENESIS
        for number in range(200):
            while True:
                record = seal(entry(number, actor=name).members(at(1), name), head)
                head = await store.audit.append([record], head)
                if head == record.head:
                    break

    await asyncio.gather(write("one"), write("other"))
    check = ChainCheck(GENESIS)
    for record in (await store.audit.list(EVERYTHING)).records:
        check.add(shown(record))
    check.end(await store.audit.state())
    assert ([], 400) == (check.findings, check.count)


async def test_pages_follow_each_other_in_both_orders(store: Store) -> None:
    await filled(store, 7)
    for ascending, expected in ((False, [7, 6, 5, 4, 3, 2, 1]), (True, [1, 2, 3, 4, 5, 6, 7])):
        found, cursor = [], None
        while True:
            page = await store.audit.list(AuditFilter({}, cursor=cursor, ascending=ascending, limit=3))
            found += [each.sequence for each in page.records]
            assert page.complete
            cursor = page.next
            if cursor is None:
                break
        assert expected == found


async def test_conditions_are_met_together(store: Store) -> None:
    head = GENESIS
    for number, (actor, action) in enumerate([("a", "x"), ("b", "x"), ("a", "y"), ("a", "x"), ("a", "x")], 1):
        record = seal(entry(number, actor=actor, action=action).members(at(number), "r"), head)
        head = await store.audit.append([record], head)

    async def sequences(**conditions: str) -> list[int]:
        times = conditions.pop("from_time", None), conditions.pop("until_time", None)
        page = await store.audit.list(AuditFilter(conditions, *times))
        return [each.sequence for each in page.records]

    assert [5, 4, 1] == await sequences(actor="a", action="x")
    assert [2] == await sequences(target="run_2")
    assert [] == await sequences(actor="a", result="failed")
    assert [4, 1] == await sequences(actor="a", action="x", until_time=at(5))
    assert [5, 4, 3] == await sequences(actor="a", from_time=at(3))


async def test_a_page_examines_a_bounded_number_of_records(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("memory", "sqlite", "redis"):
        monkeypatch.setattr(f"gateway.store.{module}.audit.MAX_EXAMINED", 4)
    monkeypatch.setattr("gateway.store.redis.audit._SCAN", 2)
    monkeypatch.setattr("gateway.store.audit.MAX_EXAMINED", 4)
    await filled(store, 10)
    page = await store.audit.list(AuditFilter({"target": "run_2"}))
    assert ([], 7, False) == (page.records, page.next, page.complete)
    page = await store.audit.list(AuditFilter({"target": "run_2"}, cursor=page.next))
    assert ([], 3, False) == (page.records, page.next, page.complete)
    page = await store.audit.list(AuditFilter({"target": "run_2"}, cursor=page.next))
    assert ([2], None, True) == ([each.sequence for each in page.records], page.next, page.complete)
    assert MAX_EXAMINED > 4


async def test_the_oldest_are_purged_and_the_rest_verifies(store: Store) -> None:
    """R100."""
    records = await filled(store, 6)
    assert 0 == await store.audit.purge(at(1), most=100)
    assert 3 == await store.audit.purge(at(4), most=100)
    state = await store.audit.state()
    assert AuditState(records[2].head, records[-1].head) == state
    check = ChainCheck(state.anchor)
    for record in (await store.audit.list(EVERYTHING)).records:
        check.add(shown(record))
    check.end(state)
    assert ([], 3) == (check.findings, check.count)
    assert 3 == await store.audit.purge(at(59), most=100)
    assert AuditState(records[-1].head, records[-1].head) == await store.audit.state()
    following = seal(entry(7).members(at(7), "x"), records[-1].head)
    assert following.head == await store.audit.append([following], records[-1].head)
    assert [following] == (await store.audit.list(EVERYTHING)).records


async def test_the_oldest_are_purged_above_the_largest_number(store: Store) -> None:
    records = await filled(store, 6)
    assert 0 == await store.audit.purge(at(0), most=6)
    assert 2 == await store.audit.purge(at(0), most=4)
    assert AuditState(records[1].head, records[-1].head) == await store.audit.state()
    assert 2 == await store.audit.purge(at(5), most=4)
    assert records[4:] == (await store.audit.list(EVERYTHING)).records


async def test_a_later_record_with_an_earlier_time_does_not_leave_a_gap(store: Store) -> None:
    """Clocks of replicas differ: records are purged from the oldest on, and none from the middle."""
    head = GENESIS
    for number, second in enumerate((5, 1, 9, 2), 1):
        head = await store.audit.append([seal(entry(number).members(at(second), "x"), head)], head)
    assert 0 == await store.audit.purge(at(3), most=100)
    assert 2 == await store.audit.purge(at(6), most=100)
    assert [3, 4] == [each.sequence for each in (await store.audit.list(EVERYTHING)).records]


@pytest.mark.parametrize("name", sorted(name for name in STORES if not name.startswith("memory")))
async def test_the_chain_survives_a_restart(name: str, tmp_path: Path, clock: VirtualClock) -> None:
    store = STORES[name](tmp_path, clock)
    await store.open()
    records = await filled(store, 3)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.audit.state()
    again = STORES[name](tmp_path, clock)
    await again.open()
    assert records == (await again.audit.list(EVERYTHING)).records
    assert AuditState(GENESIS, records[-1].head) == await again.audit.state()
    await again.close()
