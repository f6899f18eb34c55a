"""Recording of audit records: one after the other at the head of the chain, and kept in memory while the store is away.

What a record is about may go on without the store (the level of the log, a reload): its record waits, and is appended
when the store is back. Records that do not fit any more, and those of a process that ends before, are counted and
written to the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal, TypeAlias

from gateway.audit.chain import seal_all
from gateway.audit.entry import AuditEntry
from gateway.clock import Clock, format_rfc3339
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.store.audit import AuditFilter, AuditHead, AuditRecord, AuditStore
from gateway.store.contract import StoreUnavailable

DropReason: TypeAlias = Literal["queue_full", "shutdown", "defect", "refusals"]
"""Why a record was dropped: too many waited for the store, the process ended, it could not be written, or too many
attempts were refused."""

MAX_WAITING = 1_000
"""Records that wait for the store at most."""
REFUSALS_AT_ONCE = 60
"""Records of refused attempts at once; then one a second."""

_RETRY_SECONDS = 1.0
_RECORD_TIMEOUT = 2.0  # seconds for which an act waits for its record
_CLOSE_TIMEOUT = 2.0  # seconds
_MAX_ATTEMPTS = 100  # of some records, each lost to those of another process
_BATCH = 50  # records appended at once


class AuditRecorder:
    """Appends records to the chain of `store`, in order. `replica`: name of this machine, in each record.

    `on_dropped` gets the reason for each record that is dropped.
    """

    def __init__(
        self,
        store: AuditStore,
        clock: Clock,
        log: Logger,
        on_dropped: Callable[[DropReason], None],
        replica: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._on_dropped = on_dropped
        self._replica = replica
        self._waiting: deque[tuple[dict[str, object], asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._head: AuditHead | None = None
        self._attempted: list[AuditRecord] = []  # of the first that wait, without an answer; they may be in the chain
        self._failing = False
        self._refusals = float(REFUSALS_AT_ONCE)
        self._refilled_at = clock.monotonic()
        self._refusals_dropped = 0

    def new_act(self) -> str:
        """Return the id of an act."""
        return "act_" + self._clock.new_id()

    async def record(self, entry: AuditEntry) -> None:
        """Append a record. Returns once it is in the store, or has to wait because the store is unavailable."""
        waiting = self._add(entry)
        if waiting is not None and not self._failing:
            await asyncio.wait([waiting], timeout=_RECORD_TIMEOUT)

    def record_later(self, entry: AuditEntry) -> None:
        """Append a record as soon as possible."""
        self._add(entry)

    def record_refusal(self, entry: AuditEntry) -> None:
        """Append the record of an attempt that was refused, unless there are too many of them."""
        now = self._clock.monotonic()
        self._refusals = min(float(REFUSALS_AT_ONCE), self._refusals + now - self._refilled_at)
        self._refilled_at = now
        if self._refusals < 1.0:
            self._refusals_dropped += 1
            self._on_dropped("refusals")
            return
        self._refusals -= 1.0
        dropped, self._refusals_dropped = self._refusals_dropped, 0
        details = {**entry.details, "not_recorded_before": str(dropped)} if dropped else entry.details
        self._add(replace(entry, details=details))

    async def close(self) -> None:
        """Append what waits, for a short time; the rest is dropped. Is idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await asyncio.wait([task], timeout=_CLOSE_TIMEOUT)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        while self._waiting:
            self._drop("shutdown", self._waiting.popleft()[0])

    def _add(self, entry: AuditEntry) -> asyncio.Future[None] | None:
        members = entry.members(format_rfc3339(self._clock.now()), self._replica)
        if len(self._waiting) >= MAX_WAITING:
            self._drop("queue_full", members)
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((members, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._append_all())
        return future

    def _drop(self, reason: DropReason, members: Mapping[str, object]) -> None:
        self._on_dropped(reason)
        self._log.error("audit_record_dropped", why=reason, **logged_fields(members))

    async def _append_all(self) -> None:
        while self._waiting:
            size = len(self._attempted) or min(_BATCH, len(self._waiting))  # the same, so that it is found
            batch = list(islice(self._waiting, size))
            try:
                records = await self._append([members for members, _ in batch])
            except StoreUnavailable as error:
                self._wait_for_store(error)
                await self._clock.sleep(_RETRY_SECONDS)
                continue
            except Exception as unexpected:  # noqa: BLE001 - a defect must not keep the others waiting
                self._log.error("internal_error", **json_logging.describe_exception(unexpected))
                for members, _ in batch:
                    self._drop("defect", members)
            else:
                for record, (members, _) in zip(records, batch, strict=True):
                    self._log.info("audit_record", sequence=record.sequence, hash=record.hash, **logged_fields(members))
            self._attempted, self._failing = [], False
            for _, future in batch:
                self._waiting.popleft()
                if not future.done():
                    future.set_result(None)

    def _wait_for_store(self, error: StoreUnavailable) -> None:
        """Let the acts go on whose records wait."""
        self._head = None
        if not self._failing:
            self._failing = True
            self._log.error("audit_records_wait", why=str(error))
        for _, future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def _append(self, batch: Sequence[Mapping[str, object]]) -> list[AuditRecord]:
        """Append records once, although an earlier attempt may have done so without an answer."""
        if self._head is None:
            self._head = (await self._store.state()).head
        for _ in range(_MAX_ATTEMPTS):
            if self._attempted and await self._is_in_chain(self._attempted[-1], self._head):
                return self._attempted
            records = seal_all(batch, self._head)
            try:
                self._head = await self._store.append(records, self._head)
            except StoreUnavailable:
                self._attempted = records
                raise
            if self._head == records[-1].head:
                return records
        raise StoreUnavailable("other replicas append audit records all the time")

    async def _is_in_chain(self, record: AuditRecord, head: AuditHead) -> bool:
        if record.sequence > head.sequence:
            return False
        page = await self._store.list(AuditFilter({}, cursor=record.sequence - 1, ascending=True, limit=1))
        return any(each.head == record.head for each in page.records)


def logged_fields(members: Mapping[str, object]) -> dict[str, object]:
    """Return what the log says about a record."""
    names = ("act", "action", "actor", "target", "result", "code", "request_id")
    fields = {name: members[name] for name in names}
    return {**fields, "peer": members["address"]}
