"""Recording of audit records: one chain of several processes, outages of the store, floods, the end of a process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture
from typing_extensions import override

from gateway.audit.chain import ChainCheck, shown
from gateway.audit.recorder import MAX_WAITING, REFUSALS_AT_ONCE, AuditRecorder, logged_fields
from gateway.observability.log_schema import AUDIT_FIELDS
from gateway.store.audit import GENESIS, AuditFilter, AuditHead, AuditPage, AuditRecord, AuditState, AuditStore
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from gateway.store.sqlite.store import SqliteStore
from tests.audit.samples import REPLICA, entry
from tests.support.virtual_clock import VirtualClock
from tests.support.waiting import wait_until

EVERYTHING = AuditFilter({}, ascending=True, limit=10_000)


class FaultyStore(AuditStore):
    """Store that fails while `away`, before it does anything, or with `loses_answers` after an append."""

    def __init__(self, inner: AuditStore) -> None:
        self.inner = inner
        self.away = False
        self.loses_answers = 0
        self.appends = 0

    def _require_there(self) -> None:
        if self.away:
            raise StoreUnavailable("the server cannot be reached")

    @override
    async def state(self) -> AuditState:
        self._require_there()
        return await self.inner.state()

    @override
    async def append(self, records: Sequence[AuditRecord], after: AuditHead) -> AuditHead:
        self._require_there()
        self.appends += 1
        head = await self.inner.append(records, after)
        if self.loses_answers:
            self.loses_answers -= 1
            raise StoreUnavailable("no answer")
        return head

    @override
    async def list(self, audit_filter: AuditFilter) -> AuditPage:
        self._require_there()
        return await self.inner.list(audit_filter)

    @override
    async def purge(self, before_time: str, *, most: int) -> int:
        return await self.inner.purge(before_time, most=most)


class Harness:
    """A recorder on a faulty store."""

    def __init__(self, store: AuditStore) -> None:
        self.clock = VirtualClock()
        self.store = FaultyStore(store)
        self.log = LogCapture()
        self.dropped = Counter[str]()
        self.recorder = self.another()

    def another(self) -> AuditRecorder:
        """Return a recorder of another process."""
        log = structlog.wrap_logger(None, processors=[self.log])
        return AuditRecorder(self.store, self.clock, log, lambda why: self.dropped.update([why]), REPLICA)

    async def targets(self) -> list[str]:
        """Return the targets of all records, whose chain is verified."""
        check = ChainCheck(GENESIS)
        found = [shown(record) for record in (await self.store.inner.list(EVERYTHING)).records]
        for each in found:
            check.add(each)
        check.end(await self.store.inner.state())
        assert [] == check.findings
        return [str(each["target"]) for each in found]

    def events(self, name: str) -> list[dict[str, object]]:
        """Return the log lines of an event."""
        return [dict(line) for line in self.log.entries if line["event"] == name]


async def harness() -> Harness:
    """Return a recorder on an open memory store."""
    store = MemoryStore(VirtualClock())
    await store.open()
    return Harness(store.audit)


async def test_a_record_is_in_the_store_and_in_the_log_when_the_act_begins() -> None:
    made = await harness()
    await made.recorder.record(entry(1, result="begun"))
    [record] = (await made.store.list(EVERYTHING)).records
    said = record.members()
    assert ("maria", "key", "operator", "runs.judge", "run_1", "begun", REPLICA) == tuple(
        said[name] for name in ("actor", "via", "role", "action", "target", "result", "replica")
    )
    assert "2026-11-21T12:00:00.000Z" == said["time"]
    [line] = made.events("audit_record")
    assert (1, record.hash, "run_1") == (line["sequence"], line["hash"], line["target"])
    assert set(AUDIT_FIELDS) == set(logged_fields(said))


async def test_two_processes_build_one_chain(tmp_path: Path) -> None:
    """Each appends 200 records at once with the other, to one SQLite file."""
    store = SqliteStore(tmp_path / "store.db", VirtualClock())
    await store.open()
    made = Harness(store.audit)
    other = made.another()
    for number in range(200):
        made.recorder.record_later(entry(number, target=f"a{number}"))
        other.record_later(entry(number, target=f"b{number}"))
    await wait_until(lambda: len(made.events("audit_record")) == 400)
    found = await made.targets()
    assert 400 == len(found)
    for name in "ab":
        assert [f"{name}{number}" for number in range(200)] == [each for each in found if each.startswith(name)]
    await store.close()


async def test_acts_go_on_while_the_store_is_away_and_their_records_follow() -> None:
    """One line is logged for the outage; the order is kept, and the times are those of the acts."""
    made = await harness()
    made.store.away = True
    for number in range(3):
        await made.recorder.record(entry(number))
        await made.clock.run_for(1.5)
    assert [] == await made.targets()
    [line] = made.events("audit_records_wait")
    assert ("error", "the server cannot be reached") == (line["log_level"], line["why"])
    made.store.away = False
    await made.clock.run_for(2)
    assert ["run_0", "run_1", "run_2"] == await made.targets()
    times = [record.members()["time"] for record in (await made.store.list(EVERYTHING)).records]
    assert ["2026-11-21T12:00:00.000Z", "2026-11-21T12:00:01.500Z", "2026-11-21T12:00:03.000Z"] == times
    assert {} == made.dropped
    await made.recorder.record(entry(3))
    made.store.away = True
    await made.recorder.record(entry(4))
    assert 2 == len(made.events("audit_records_wait"))


async def test_an_append_whose_answer_was_lost_is_not_repeated() -> None:
    """Although another process has appended meanwhile."""
    made = await harness()
    made.store.loses_answers = 1
    await made.recorder.record(entry(1))
    await made.another().record(entry(2))
    await made.clock.run_for(2)
    assert ["run_1", "run_2"] == await made.targets()
    made.store.loses_answers = 1
    await made.recorder.record(entry(3))
    await made.clock.run_for(2)
    assert ["run_1", "run_2", "run_3"] == await made.targets()


async def test_records_that_do_not_fit_are_counted_and_logged_in_full() -> None:
    made = await harness()
    made.store.away = True
    for number in range(MAX_WAITING + 3):
        made.recorder.record_later(entry(number))
    await made.clock.run_for(1)
    assert {"queue_full": 3} == made.dropped
    lines = made.events("audit_record_dropped")
    assert [("error", "queue_full", f"run_{MAX_WAITING + number}", "maria") for number in range(3)] == [
        (line["log_level"], line["why"], line["target"], line["actor"]) for line in lines
    ]
    made.store.away = False
    await made.clock.run_for(2)
    assert MAX_WAITING == len(await made.targets())


async def test_a_process_that_ends_appends_what_waits_or_says_what_it_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.audit.recorder._CLOSE_TIMEOUT", 0.05)
    made = await harness()
    made.recorder.record_later(entry(1))
    await made.recorder.close()
    assert ["run_1"] == await made.targets()
    made.store.away = True
    made.recorder.record_later(entry(2))
    await made.recorder.close()
    assert {"shutdown": 1} == made.dropped
    assert ["run_2"] == [line["target"] for line in made.events("audit_record_dropped")]
    await made.recorder.close()


async def test_a_flood_of_refused_attempts_is_bounded_and_its_size_recorded() -> None:
    made = await harness()
    for number in range(REFUSALS_AT_ONCE + 500):
        made.recorder.record_refusal(entry(number, result="refused"))
    await made.clock.run_for(0)
    await made.clock.run_ready_tasks()
    assert REFUSALS_AT_ONCE == len(await made.targets())
    assert {"refusals": 500} == made.dropped
    made.clock.advance(1)
    made.recorder.record_refusal(replace(entry(1, result="refused"), details={"a": "b"}))
    made.recorder.record_refusal(entry(2, result="refused"))
    await made.recorder.close()
    last = (await made.store.list(AuditFilter({}, limit=1))).records[0].members()
    assert {"a": "b", "not_recorded_before": "500"} == last["details"]
    assert {"refusals": 501} == made.dropped
    await made.recorder.record(entry(9))  # acts are not bounded
    assert "run_9" == (await made.targets())[-1]


async def test_a_store_in_which_others_append_all_the_time_is_tried_again() -> None:
    made = await harness()

    class Contended(FaultyStore):
        """Another process appends first."""

        @override
        async def append(self, records: Sequence[AuditRecord], after: AuditHead) -> AuditHead:
            if self.appends < 150:
                self.appends += 1
                return AuditHead(after.sequence + 1, f"{self.appends:064x}")
            return await self.inner.append(records, (await self.inner.state()).head)

    made.recorder._store = contended = Contended(made.store.inner)
    waiting = asyncio.create_task(made.recorder.record(entry(1)))
    await made.clock.run_for(0)
    await waiting
    assert 100 == contended.appends
    assert 1 == len(made.events("audit_records_wait"))
