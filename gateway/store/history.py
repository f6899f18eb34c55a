"""Contract of the history in a store: runs that were not durable, timelines, activities, and judgements by operators.

A timeline is a sequence of lines, each a JSON array of events; a store adds lines and does not read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.store.records import StoredRun
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


class HistoryStore(Protocol):
    """The part of a store that records what happened to runs. Every method may raise `StoreUnavailable`."""

    async def add_history(self, entries: Sequence[HistoryEntry]) -> None:
        """Record runs, in one transaction. An entry whose id the store has already is ignored."""

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
