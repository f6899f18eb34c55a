"""Contract of the history in a store: runs that were not durable, timelines, activities, and judgements by operators.

A timeline is a sequence of lines, each a JSON array of events; a store adds lines and does not read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.store.records import Phase, StoredRun
from gateway.store.usage import RunUsage

MAX_TIMELINE = 32_768
"""Bytes of a timeline: events that would make it longer are not added."""


@dataclass(slots=True)
class HistoryEntry:
    """Record of a run that was not durable. `run` has ended.

    `tags` are distinct and have no spaces. `content_until_at`: the time until which its order and its document are
    kept; None if it has neither. `usage` is counted with the record; None: nothing is.
    """

    run: StoredRun
    tags: tuple[str, ...] = ()
    timeline: bytes = b""
    content_until_at: float | None = None
    usage: RunUsage | None = None


class SuccessRecord(NamedTuple):
    """Record of a run that was not durable and succeeded, without tags and content: most runs, so it has to be cheap.

    Its order is that of `Position`. `usage` is counted with the record, and not kept in it; None: nothing is.
    """

    created_at: float
    id: str
    client: str
    workflow: str
    provider: str
    deadline_at: float
    attempts: int
    provider_run_id: str | None
    finished_at: float
    details: bytes
    timeline: bytes
    usage: RunUsage | None = None

    @property
    def run(self) -> StoredRun:
        """The run that was recorded."""
        return StoredRun(
            id=self.id,
            client=self.client,
            workflow=self.workflow,
            provider=self.provider,
            order=b"",
            created_at=self.created_at,
            deadline_at=self.deadline_at,
            owner="",
            leased_until_at=0.0,
            phase=Phase.DONE,
            status="succeeded",
            attempts=self.attempts,
            provider_run_id=self.provider_run_id,
            finished_at=self.finished_at,
            details=self.details,
            durable=False,
        )

    @property
    def entry(self) -> HistoryEntry:
        """The same record in the form of all others."""
        return HistoryEntry(self.run, (), self.timeline, usage=self.usage)


class HistoryStore(Protocol):
    """The part of a store that records what happened to runs. Every method may raise `StoreUnavailable`."""

    async def add_history(self, entries: Sequence[HistoryEntry]) -> None:
        """Record runs, in one transaction. An entry whose id the store has already is ignored."""

    async def add_successes(self, records: Sequence[SuccessRecord]) -> None:
        """Record runs with new ids, as `add_history`. If they were added already, the same records may be given again.

        They may be stored in segments (`SuccessSegment`), which searches and purges treat as they treat single runs.
        """

    async def purge_history(self, *, before_at: float, most: int) -> int:
        """Delete recorded runs that are not durable and ended before this time, and the oldest while more than `most`.

        Returns the number deleted. Works in batches, so that other operations do not wait for long.
        """

    async def purge_content(self, *, before_at: float) -> int:
        """Delete the orders and documents of recorded runs that were kept until before this time, not the records.

        Returns the number of these runs. Works in batches, as `purge_history`.
        """

    async def get_timeline(self, run_id: str) -> bytes | None:
        """Return the lines of a run's timeline; empty if there are none, None if the run does not exist."""

    async def set_activities(self, owner: str, activities: Sequence[tuple[str, bytes]]) -> None:
        """Set the activities of runs, by id, and wake the tasks that wait for these runs.

        Ignores runs that have ended, belong to another owner, or do not exist.
        """

    async def judge(self, run_id: str, judgement: bytes) -> bool:
        """Set the judgement of an operator on a run that ended as `unknown`, in place of an earlier one.

        Returns False, and changes nothing, if the run has another status or does not exist.
        """
