"""Bulk replays: plans of operators to replay many runs, their progress, and the part of a store that keeps them.

A bulk replay belongs to the process in `owner` until `leased_until_at`. Every change names the revision that it was
made of and is refused once there is a later one: a previous owner, or a second operator, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

BulkReplayState: TypeAlias = Literal["planned", "running", "done", "aborted"]
"""Planned, then running, then done; from the first two also aborted."""


@dataclass(frozen=True, slots=True)
class BulkReplay:
    """A bulk replay. `plan` and `progress` are JSON objects that the store does not read; the plan never changes.

    Times are in seconds since 1970; after `delete_at` it may be deleted. `revision`: the number of changes.
    """

    id: str
    plan: bytes
    created_at: float
    delete_at: float
    state: BulkReplayState = "planned"
    progress: bytes = b"{}"
    owner: str = ""
    leased_until_at: float = 0.0
    revision: int = 0


class BulkReplayStore(Protocol):
    """The bulk replays of a store. Every method may raise `StoreUnavailable`."""

    async def add(self, replay: BulkReplay) -> None:
        """Store a new bulk replay, unless the store has one with this id."""

    async def get(self, replay_id: str) -> BulkReplay | None:
        """Return a bulk replay, or None."""

    async def list_running(self) -> list[BulkReplay]:
        """List the bulk replays in the state `running` by their ids, with empty plans."""

    async def change(self, replay: BulkReplay) -> bool:
        """Write all but the plan and `created_at`, and count the revision up.

        Returns False, and writes nothing, if the stored revision is not that of `replay`, or there is none.
        """

    async def purge(self, before_at: float) -> int:
        """Delete those whose `delete_at` is before this time, in any state; returns their number."""


class KeepsBulkReplays(Protocol):
    """A store that has bulk replays."""

    bulk_replays: BulkReplayStore
