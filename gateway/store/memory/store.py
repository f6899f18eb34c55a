"""Memory store: its contents end with the process. For tests, and for deployments without durable runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from heapq import nsmallest
from math import inf

from typing_extensions import override

from gateway.clock import Clock
from gateway.store.announcements import LocalAnnouncements
from gateway.store.audit import AuditStore
from gateway.store.budgets import BudgetStore
from gateway.store.bulk_replay import BulkReplayStore
from gateway.store.client_key import ClientKeyStore
from gateway.store.contract import Store, StoreUnavailable
from gateway.store.history import HistoryEntry, SuccessRecord
from gateway.store.memory.audit import MemoryAudit
from gateway.store.memory.budgets import MemoryBudgets
from gateway.store.memory.bulk_replays import MemoryBulkReplays
from gateway.store.memory.callbacks import ScheduledCallbacks
from gateway.store.memory.client_keys import MemoryClientKeys
from gateway.store.memory.idempotency_records import IdempotencyRecords
from gateway.store.memory.matching import ended_before, may_revise, position_of
from gateway.store.memory.named_values import MemoryNamedValues
from gateway.store.memory.recorded_runs import RecordedRuns
from gateway.store.memory.run_index import RunIndex
from gateway.store.memory.run_lists import find_runs
from gateway.store.memory.timelines import Timelines
from gateway.store.memory.usage import MemoryUsage
from gateway.store.notifications import ChangeNotifier
from gateway.store.records import (
    PENDING,
    CancelResult,
    Delivery,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    Phase,
    RunOverview,
    RunPage,
    StoredRun,
)
from gateway.store.run_filter import RunFilter
from gateway.store.success_segments import merge
from gateway.store.usage import UsageStore

_ADVANCE_FIELDS = ("phase", "status", "attempts", "provider", "provider_run_id")
_FINISH_FIELDS = ("status", "document", "finished_at", "attempts", "provider_run_id", "details")
_MAX_HISTORY = 10_000  # recorded runs that are not durable; the oldest are deleted


class MemoryStore(MemoryNamedValues, Store):
    """A `Store` in dictionaries. Its contents survive `close` and `open`."""

    shared = False
    durability_warning = "it is kept in memory only (store.url is memory://)"
    failing = False

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.announcements = LocalAnnouncements()
        super().__init__()
        self._notifier = ChangeNotifier(clock)
        self._open = False
        self.bulk_replays: BulkReplayStore = MemoryBulkReplays(self._require_open)
        self.budgets: BudgetStore = MemoryBudgets(self._require_open)
        self._usage = MemoryUsage(self._require_open)
        self.usage: UsageStore = self._usage
        self.client_keys: ClientKeyStore = MemoryClientKeys(self._require_open)
        self.audit: AuditStore = MemoryAudit(self._require_open)
        self._runs: dict[str, StoredRun] = {}
        self._index = RunIndex()
        self._unfinished: set[str] = set()
        self._idempotency_records = IdempotencyRecords()
        self._callbacks = ScheduledCallbacks()
        self._batch_ids: dict[str, int] = {}  # the batch in which its owner adopted an unfinished run
        self._timelines = Timelines()
        self._recorded = RecordedRuns()

    @override
    async def open(self) -> None:
        self._open = True
        for run in self._unfinished_runs():
            self._put(replace(run, leased_until_at=0.0))

    @override
    async def close(self) -> None:
        self._open = False

    @override
    async def ping(self) -> None:
        self._require_open()

    @override
    async def create_run(
        self, run: StoredRun, key: IdempotencyKey | None, tags: Sequence[str] = ()
    ) -> IdempotencyRecord | None:
        self._require_open()
        record = None if key is None else self._idempotency_records.get(key.client, key.text)
        if record is not None:
            return record
        if run.id in self._runs:
            raise ValueError("a run with this id exists")
        self._put(run)
        self._index.add(run, tags)
        self._unfinished.add(run.id)
        if key is not None:
            self._idempotency_records.add(key, run)
        return None

    @override
    async def advance(self, run: StoredRun, events: bytes = b"") -> bool:
        self._require_open()
        stored = self._runs.get(run.id)
        if stored is None or stored.owner != run.owner or stored.phase > run.phase or run.phase is Phase.DONE:
            return False
        self._put(replace(stored, **{name: getattr(run, name) for name in _ADVANCE_FIELDS}))
        self._timelines.add(run.id, events)
        self._notifier.notify(run.id)
        return True

    @override
    async def revert_to_queued(self, run: StoredRun) -> bool:
        self._require_open()
        stored = self._runs.get(run.id)
        expected = (run.owner, Phase.SENDING, run.attempts)
        if stored is None or (stored.owner, stored.phase, stored.attempts) != expected:
            return False
        self._put(replace(stored, phase=Phase.QUEUED))
        self._notifier.notify(run.id)
        return True

    @override
    async def finish(self, run_id: str, final_state: FinalState) -> bool:
        self._require_open()
        return self._is_unfinished_run_of(run_id, final_state.owner) and self._end(run_id, final_state)

    @override
    async def revise(self, run_id: str, final_state: FinalState) -> bool:
        self._require_open()
        run = self._runs.get(run_id)
        return run is not None and may_revise(run) and self._end(run_id, final_state)

    @override
    async def cancel_queued(self, run_id: str, final_state: FinalState) -> CancelResult:
        self._require_open()
        run = self._runs.get(run_id)
        if run is None:
            return CancelResult.NOT_FOUND
        if run.phase is not Phase.QUEUED:
            return CancelResult.TOO_LATE
        self._end(run_id, final_state)
        return CancelResult.ENDED

    def _end(self, run_id: str, final_state: FinalState) -> bool:
        self._unfinished.discard(run_id)
        self._batch_ids.pop(run_id, None)
        final_fields = {name: getattr(final_state, name) for name in _FINISH_FIELDS}
        run = self._put(replace(self._runs[run_id], phase=Phase.DONE, activity=None, **final_fields))
        if not run.durable:
            self._delete_content(run_id)
        self._timelines.add(run_id, final_state.events)
        self._idempotency_records.set_response(run_id, final_state.response)
        self._schedule_callback(run, final_state)
        self._usage.count(run_id, final_state.usage)
        self._notifier.notify(run_id)
        return True

    @override
    async def discard_run(self, run_id: str, *, owner: str) -> None:
        self._require_open()
        if self._is_unfinished_run_of(run_id, owner):
            self._idempotency_records.remove_of_run(run_id)
            self._delete_run(run_id)
            self._notifier.notify(run_id)

    @override
    async def get_run(self, run_id: str) -> StoredRun | None:
        self._require_open()
        run = self._runs.get(run_id)
        return None if run is None or not (run.durable or self._recorded.has_content(run_id)) else run

    @override
    async def get_overview(self, run_id: str) -> RunOverview | None:
        self._require_open()
        run = self._runs.get(run_id)
        return self._recorded.segments.get_overview(run_id) if run is None else run.overview

    @override
    async def get_document(self, run_id: str) -> bytes | None:
        run = await self.get_run(run_id)
        return None if run is None else run.document

    @override
    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        self._require_open()
        found = await find_runs(self._runs, self._index, run_filter, self._clock)
        return merge(found, self._recorded.segments.list_runs(run_filter), run_filter.limit)

    @override
    async def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        self._require_open()
        return self._idempotency_records.get(client, text)

    @override
    async def renew_leases(self, owner: str, until_at: float) -> None:
        self._require_open()
        for run in self._unfinished_runs():
            if run.owner == owner:
                self._put(replace(run, leased_until_at=until_at))

    @override
    async def adopt(
        self, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int = 0
    ) -> list[StoredRun]:
        self._require_open()
        taken = {run_id for run_id, number in self._batch_ids.items() if batch_id and number == batch_id}
        candidates = [
            run
            for run in self._unfinished_runs()
            if (run.id in taken if run.owner == owner else run.leased_until_at <= now_at)
        ]
        adopted = nsmallest(limit, candidates, key=lambda run: (run.owner != owner, *position_of(run)))
        self._batch_ids |= {run.id: batch_id for run in adopted}
        return [self._put(replace(run, owner=owner, leased_until_at=until_at)) for run in adopted]

    @override
    async def take_due_callbacks(
        self, *, now_at: float, until_at: float, limit: int, latest_at: float = inf
    ) -> list[Delivery]:
        self._require_open()
        return self._callbacks.take_due(now_at=now_at, until_at=until_at, limit=limit, latest_at=latest_at)

    @override
    async def load_callback(self, delivery: Delivery, *, until_at: float) -> bytes | None:
        self._require_open()
        return self._callbacks.load(delivery, until_at)

    @override
    async def settle_callback(self, run_id: str, state: str, *, revision: int = 0, events: bytes = b"") -> None:
        self._require_open()
        if self._callbacks.is_pending(run_id, revision):
            self._callbacks.settle(run_id)
            self._timelines.add(run_id, events)
            self._set_callback_state(run_id, state)

    @override
    async def postpone_callback(self, run_id: str, *, due_at: float, revision: int = 0, events: bytes = b"") -> None:
        self._require_open()
        self._callbacks.postpone(run_id, due_at, revision)
        self._timelines.add(run_id, events)

    @override
    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        self._require_open()
        found = self._callbacks.redeliver(run_id, now_at)
        if found:
            self._set_callback_state(run_id, PENDING)
        return found

    @override
    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        self._require_open()
        return nsmallest(limit, (r.id for r in self._runs.values() if r.callback_state == state and r.id > after))

    @override
    async def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        self._require_open()
        ended = [
            run.id
            for run in self._runs.values()
            if run.durable and ended_before(run, runs_before_at) and not self._callbacks.is_pending(run.id)
        ]
        for run_id in ended:
            self._delete_run(run_id)
        return len(ended) + self._idempotency_records.purge(keys_before_at)

    @override
    async def add_history(self, entries: Sequence[HistoryEntry]) -> None:
        self._require_open()
        for entry in entries:
            if entry.run.id not in self._runs:
                self._put(entry.run)
                self._index.add(entry.run, entry.tags)
                self._recorded.add(entry)
                self._timelines.add(entry.run.id, entry.timeline)
                self._usage.count(entry.run.id, entry.usage)
        for run_id in self._recorded.remove_surplus(self._runs, _MAX_HISTORY, whole=True):
            self._delete_run(run_id)

    @override
    async def add_successes(self, records: Sequence[SuccessRecord]) -> None:
        self._require_open()
        await self.add_history(self._recorded.segments.add(records, self._usage.count_many))

    @override
    async def purge_history(self, *, before_at: float, most: int) -> int:
        self._require_open()
        before = len(self._recorded)
        for run_id in self._recorded.remove_surplus(self._runs, most, before_at):
            self._delete_run(run_id)
        return before - len(self._recorded)

    @override
    async def purge_content(self, *, before_at: float) -> int:
        self._require_open()
        old = self._recorded.expired_content(before_at)
        for run_id in old:
            self._delete_content(run_id)
        return len(old)

    @override
    async def get_timeline(self, run_id: str) -> bytes | None:
        self._require_open()
        return self._timelines.get(run_id) if run_id in self._runs else self._recorded.segments.get_timeline(run_id)

    @override
    async def set_activities(self, owner: str, activities: Sequence[tuple[str, bytes]]) -> None:
        self._require_open()
        for run_id, activity in activities:
            if self._is_unfinished_run_of(run_id, owner):
                self._put(replace(self._runs[run_id], activity=activity))
                self._notifier.notify(run_id)

    @override
    async def judge(self, run_id: str, judgement: bytes) -> bool:
        self._require_open()
        run = self._runs.get(run_id)
        if run is None or run.phase is not Phase.DONE or run.status != "unknown":
            return False
        self._put(replace(run, judgement=judgement))
        return True

    @override
    async def notify(self, name: str) -> None:
        self._require_open()
        self._notifier.notify(name)

    @override
    async def mark_collected(self, run_id: str) -> bool:
        del run_id
        return True

    @override
    def recently_notified(self, name: str) -> bool:
        return self._notifier.recently_notified(name)

    @override
    def recent_suffix(self, prefix: str) -> str | None:
        return self._notifier.recent_suffix(prefix)

    @override
    async def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> None:
        self._require_open()
        await self._notifier.wait_for_change(run_ids, seconds)

    def _unfinished_runs(self) -> list[StoredRun]:
        return [self._runs[run_id] for run_id in self._unfinished]

    def _is_unfinished_run_of(self, run_id: str, owner: str) -> bool:
        return run_id in self._unfinished and self._runs[run_id].owner == owner

    def _put(self, run: StoredRun) -> StoredRun:
        self._runs[run.id] = run
        return run

    def _delete_content(self, run_id: str) -> None:
        self._recorded.remove_content(run_id)
        self._put(replace(self._runs[run_id], order=b"", document=None))

    def _delete_run(self, run_id: str) -> None:
        self._usage.forget(run_id)
        self._recorded.remove(run_id)
        self._timelines.remove(run_id)
        self._index.remove(self._runs.pop(run_id))
        self._unfinished.discard(run_id)
        self._batch_ids.pop(run_id, None)
        self._idempotency_records.unlink_run(run_id)
        self._callbacks.remove(run_id)

    def _schedule_callback(self, run: StoredRun, final_state: FinalState) -> None:
        if run.callback_url is not None and final_state.callback is not None:
            body, ended_at = final_state.callback, final_state.finished_at
            revision = self._callbacks.next_revision(run.id)
            delivery = Delivery(run.id, run.client, run.callback_url, len(body), ended_at, 0, revision)
            self._callbacks.add(delivery, body, due_at=final_state.due_at)
            self._set_callback_state(run.id, PENDING)

    def _set_callback_state(self, run_id: str, state: str) -> None:
        self._put(replace(self._runs[run_id], callback_state=state))
        self._notifier.notify(run_id)

    def _require_open(self) -> None:
        if not self._open:
            raise StoreUnavailable("the store is not open")
