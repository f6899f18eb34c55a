"""History: a record of each run that is not durable, written to the store behind its response, in groups.

A run is never delayed: while the store is slow or unavailable, records wait in a bounded queue, and are dropped and
counted once it is full. Content that is kept with a record is encoded and redacted there, behind the response too; its
bytes are bounded, and content is dropped long before records are. Runs without a record are counted as usage all the
same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.clock import Clock
from gateway.errors import RunError
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.runs.catalog import Workflow
from gateway.runs.durable.codec import ContentState, encode_record_details
from gateway.runs.model import RunRecord
from gateway.runs.pending_successes import PendingSuccesses
from gateway.runs.recorded_content import NO_CONTENT, ContentConfig, HeldContent, RunErrorText
from gateway.runs.usage import DAY, UnrecordedUsage, usage_of
from gateway.store.contract import Store, StoreUnavailable
from gateway.store.history import HistoryEntry, SuccessRecord
from gateway.store.records import Phase, StoredRun
from gateway.store.usage import RunUsage

HistoryMode: TypeAlias = Literal["all", "kept", "none"]
"""Recorded runs: all; the durable ones only, with their timelines; or none: durable runs have no timeline either."""

_INTERVAL = 0.5  # seconds between two groups
_GROUP = 100  # records in one transaction, and that are added before other tasks run
_SUCCESSES = 500  # the same for successes, which cost less
_GROUP_CONTENT = 1_000_000  # bytes of content in one transaction, but for its last record
_MAX_PENDING = 10_000  # records that wait for the store
_MAX_PENDING_CONTENT = 16_000_000  # bytes of content that waits for the store
_CLOSE_TIMEOUT = 2.0  # seconds


def ignore_count(_count: int) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """Which runs are recorded, for how many seconds, how many at most, and with which content.

    `usage_retention`: seconds for which the usage is kept.
    """

    keep: HistoryMode = "all"
    retention: float = 7 * 86400.0
    most: int = 1_000_000
    content: ContentConfig = NO_CONTENT
    usage_retention: float = 400.0 * DAY


@dataclass(slots=True)
class HistoryRecorder:
    """Recorder of the runs of this process.

    `count_dropped` is called with the number of records that are dropped, `count_content_dropped` with the number of
    those whose content is. `holds_content`: False while no content is kept, so that `hold_content` need not be called.
    """

    store: Store
    clock: Clock
    log: Logger
    count_dropped: Callable[[int], None]
    config: HistoryConfig = HistoryConfig()
    count_content_dropped: Callable[[int], None] = ignore_count
    holds_content: bool = field(init=False)
    unrecorded: UnrecordedUsage = field(init=False)
    _pending: deque[HistoryEntry] = field(default_factory=deque)
    _pending_content: deque[tuple[RunRecord, RunErrorText | None, HeldContent]] = field(default_factory=deque)
    _pending_size: int = 0  # bytes of content, that of the group included
    _group: list[HistoryEntry] = field(default_factory=list)  # encoded, and not written yet
    _pending_successes: PendingSuccesses = field(init=False)
    _successes: list[SuccessRecord] = field(default_factory=list)  # a group too; only one of the two is not empty
    _group_size: int = 0  # bytes of content of the group
    _count: int = 0  # records that are not written yet, those of the group included
    _failing: bool = False

    def __post_init__(self) -> None:
        self.unrecorded = UnrecordedUsage(self.store, self.clock)
        self._pending_successes = PendingSuccesses(self._drop)
        self.reconfigure(self.config)

    def hold_content(self, workflow: Workflow, input_size: int) -> HeldContent | None:
        """Decide at the start of a run whether its content may be kept; `input_size`: bytes of the request's body."""
        rule = self.config.content.choose(workflow.alias, self.clock) if self.holds_content else None
        return None if rule is None else HeldContent(rule, workflow.provider.name, input_size)

    def record(self, run: RunRecord, error: RunError | None = None, content: HeldContent | None = None) -> None:
        """Record a run that has ended and is not durable; `error` is what it ended with.

        To be called once the response is rendered: the run loses its output, and its input unless `content` is kept.
        """
        if self.config.keep != "all":
            self.unrecorded.count(usage_of(run))
            return
        if self._count >= _MAX_PENDING:
            self.count_dropped(1)
            self.unrecorded.count(usage_of(run))
            return
        self._count += 1
        run.output = run.outputs = run.raw_errors = None
        text = None if error is None else (error.code, error.detail or None)
        state: ContentState | None = None
        if content is not None and content.is_wanted(run.status):
            state = self._admit(content)
            if state == "kept":
                self._pending_size += content.size
                self._pending_content.append((run, text, content))
                return
        run.spec.input = {}
        if run.status == "succeeded" and state is None and error is None and not run.spec.tags:
            self._pending_successes.add(run)
        elif (entry := self._encode_or_drop(run, text, state)) is not None:
            self._pending.append(entry)  # encoded at once: the run and its request need not be held

    def _admit(self, content: HeldContent) -> ContentState:
        if content.size > content.rule.most:
            return "too_large"
        if self._pending_size + content.size > _MAX_PENDING_CONTENT:
            self.count_content_dropped(1)
            return "dropped"
        return "kept"

    def keeps_timelines(self) -> bool:
        """Return whether durable runs have a timeline."""
        return self.config.keep != "none"

    def reconfigure(self, config: HistoryConfig) -> None:
        """Apply another configuration to the runs that end from now on, and to the next purge."""
        self.config = config
        self.holds_content = config.keep == "all" and config.content.keeps_any

    async def run_forever(self) -> None:
        """Write what is pending, again and again."""
        while True:
            await self.clock.sleep(_INTERVAL)
            try:
                await self.write_pending()
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                self.log.error("internal_error", **json_logging.describe_exception(error))

    async def write_pending(self) -> None:
        """Write all pending records, in groups, and usage. While the store is unavailable they stay pending."""
        try:
            await self._write_records()
            await self.unrecorded.write()
        except StoreUnavailable:
            if not self._failing:
                self.log.warning("not_written", phase="history")
            self._failing = True
        else:
            self._failing = False

    async def _write_records(self) -> None:
        while self._count:
            if not self._group and not self._successes:
                await self._encode_group()
            try:
                if self._successes:
                    await self.store.add_successes(self._successes)
                else:
                    await self.store.add_history(self._group)
            except StoreUnavailable:
                raise
            except Exception as defect:  # noqa: BLE001 - a defect must not keep all later records from being written
                self.log.error("internal_error", **json_logging.describe_exception(defect))
                self.count_dropped(len(self._group) + len(self._successes))
                self.unrecorded.count_all(entry.usage for entry in self._group)
                self.unrecorded.count_all(record.usage for record in self._successes)
            self._count -= len(self._group) + len(self._successes)
            self._pending_size -= self._group_size
            self._group, self._group_size, self._successes = [], 0, []
            await self.clock.sleep(0)

    async def _encode_group(self) -> None:
        """Move pending records to the group: those without content, else some with, after each of which others run."""
        self._successes = self._pending_successes.take(_SUCCESSES)
        if self._successes:
            return
        if self._pending:
            count = min(_GROUP, len(self._pending))
            self._group = [self._pending.popleft() for _ in range(count)]
            return
        while self._pending_content and len(self._group) < _GROUP and self._group_size < _GROUP_CONTENT:
            run, error, content = self._pending_content.popleft()
            self._group_size += content.size
            if (entry := self._encode_or_drop(run, error, content)) is not None:
                self._group.append(entry)
            await self.clock.sleep(0)

    def _encode_or_drop(
        self, run: RunRecord, error: RunErrorText | None, content: HeldContent | ContentState | None
    ) -> HistoryEntry | None:
        """Return a record; None if it is dropped because of a defect, which must not keep the response or others."""
        try:
            if isinstance(content, HeldContent):
                return self._encode(run, error, content)
            return _entry(run, error, content)
        except Exception as defect:  # noqa: BLE001
            self._drop(run.id, usage_of(run), defect)
            return None

    def _drop(self, run_id: str, usage: RunUsage, defect: Exception) -> None:
        self.log.error("internal_error", run_id=run_id, **json_logging.describe_exception(defect))
        self._count -= 1
        self.count_dropped(1)
        self.unrecorded.count(usage)

    def _encode(self, run: RunRecord, error: RunErrorText | None, content: HeldContent) -> HistoryEntry:
        state: ContentState = "kept"
        try:
            encoded = content.encode(run, error)
        except Exception as defect:  # noqa: BLE001 - it must not keep the record from being written
            self.log.error("internal_error", **json_logging.describe_exception(defect))
            self.count_content_dropped(1)
            encoded, state = None, "dropped"
        else:
            if encoded is None:
                state = "too_large"
        entry = _entry(run, error, state)
        if encoded is not None:
            entry.run.order, entry.run.document = encoded
            entry.content_until_at = (entry.run.finished_at or 0.0) + content.rule.retention
        run.spec.input = {}
        return entry

    async def close(self) -> None:
        """Write what can be written now, and drop the rest."""
        writing = asyncio.ensure_future(self.write_pending())
        await asyncio.wait((writing,), timeout=_CLOSE_TIMEOUT)
        writing.cancel()
        if self._count:
            self.count_dropped(self._count)
            self._count = 0
            self._pending_successes.clear()
            self._pending.clear()
            self._pending_content.clear()
            self._group, self._group_size, self._pending_size, self._successes = [], 0, 0, []

    async def purge(self) -> None:
        """Delete records that are too old or too many, and old content and usage. Raises StoreUnavailable."""
        now = self.clock.now().timestamp()
        await self.store.purge_history(before_at=now - self.config.retention, most=self.config.most)
        await self.store.purge_content(before_at=now)
        while await self.store.usage.purge(int((now - self.config.usage_retention) // DAY)):
            pass


def _entry(run: RunRecord, error: RunErrorText | None, content: ContentState | None) -> HistoryEntry:
    """Return the record of a run that has ended, without its content."""
    created_at = run.created_at.timestamp()
    finished_at = created_at + run.duration
    timeline = run.take_events(run.started_monotonic + run.duration, "ended", run.status, error and error[0])
    stored = StoredRun(
        id=run.id,
        client=run.spec.client,
        workflow=run.spec.workflow,
        provider=run.provider,
        order=b"",
        created_at=created_at,
        deadline_at=created_at + run.spec.timeout,
        owner="",
        leased_until_at=0.0,
        phase=Phase.DONE,
        status=run.status,
        attempts=run.attempts,
        provider_run_id=run.provider_run_id,
        finished_at=finished_at,
        details=encode_record_details(run, error, content),
        durable=False,
    )
    return HistoryEntry(stored, run.spec.tags, timeline, usage=usage_of(run))
