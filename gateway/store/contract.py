"""Contract of a store: the transactions on its records. One test suite runs against every implementation.

Every method is one transaction: after a crash its effect is complete or absent, and once a method has returned, its
effect is durable. A method that cannot keep that promise (disk full, server unreachable, too slow) raises
`StoreUnavailable`; the effect is then unknown. The same holds for a call that was cancelled.

Leases with fencing: a run belongs to the process in `owner` until `leased_until_at`. Every change names the owner and
is refused once another process has adopted the run. The callbacks are an outbox: `finish` adds a callback in the
transaction that ends the run, and delivery is at least once.

A store has a generation: data that are deleted or replaced under a running process (a removed SQLite file, FLUSHALL)
are detected before a new run is acknowledged, and raise `StoreReplaced`.

Times named `…_at` are seconds since 1970 (UTC), so that replicas and restarts can compare them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from math import inf
from typing import Protocol

from gateway.store.announcements import AnnouncementStore
from gateway.store.audit import KeepsAudit
from gateway.store.budgets import KeepsBudgets
from gateway.store.bulk_replay import KeepsBulkReplays
from gateway.store.client_key import KeepsClientKeys
from gateway.store.history import HistoryStore
from gateway.store.provider_override import ProviderOverrideStore
from gateway.store.records import (
    CancelResult,
    Delivery,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    RunOverview,
    RunPage,
    StoredRun,
)
from gateway.store.run_filter import RunFilter
from gateway.store.usage import KeepsUsage


class StoreUnavailable(Exception):
    """The store failed, or its effect is unknown. The text is a reason without stored values."""


class StoreReplaced(StoreUnavailable):
    """The data of the store were deleted or replaced since `open`: a new run could repeat one that was forgotten.

    The store stays unavailable until it is opened again, by a restart of the gateway.
    """


class ContentUnreadable(StoreUnavailable):
    """A payload cannot be decrypted: its key is not configured, or it was changed. The run itself is in the store."""


class Store(
    HistoryStore,
    ProviderOverrideStore,
    KeepsBulkReplays,
    KeepsBudgets,
    KeepsUsage,
    KeepsClientKeys,
    KeepsAudit,
    Protocol,
):
    """A store. Every method may raise `StoreUnavailable`, `open` also if the schema is newer than this version."""

    announcements: AnnouncementStore

    @property
    def shared(self) -> bool:
        """True if other processes use the same store."""

    @property
    def durability_warning(self) -> str | None:
        """Reason why a crash may lose acknowledged writes; None if they are durable. Set by `open`."""

    @property
    def failing(self) -> bool:
        """True if the last operation failed. Reading it causes no I/O."""

    async def open(self) -> None:
        """Connect, migrate the schema to this version, and expire all leases if the store is not `shared`."""

    async def close(self) -> None:
        """Complete the operations in progress, and disconnect."""

    async def ping(self) -> None:
        """Check that the store can be read and written."""

    def create_run(
        self, run: StoredRun, key: IdempotencyKey | None, tags: Sequence[str] = ()
    ) -> Awaitable[IdempotencyRecord | None]:
        """Store a new run and its idempotency record, or return the existing record of the key.

        `list_runs` finds the run by its `tags`, which are distinct and have no spaces. ValueError if a run has this id.
        """

    def advance(self, run: StoredRun, events: bytes = b"") -> Awaitable[bool]:
        """Write a run's phase, status, attempts, provider and provider_run_id, and add `events` to its timeline.

        Returns False, and writes nothing, if the stored phase is later, the run belongs to another owner, or it does
        not exist: the caller must stop working on the run. It never sets the phase DONE.
        """

    async def revert_to_queued(self, run: StoredRun) -> bool:
        """Set a run from SENDING back to QUEUED, because the provider has definitely refused the start.

        Returns False, and writes nothing, if the run is not SENDING, belongs to another owner, does not exist, or has
        another number of `attempts` than `run`: a delayed call must not revert a later start.
        """

    def finish(self, run_id: str, final_state: FinalState) -> Awaitable[bool]:
        """End a run, store the response of its idempotency record, and add its callback to the outbox.

        Returns False, and changes nothing, if the run has ended, belongs to another owner, or does not exist.
        """

    async def revise(self, run_id: str, final_state: FinalState) -> bool:
        """Store the end of a run that `owner` knows from the provider, although another process has adopted the run.

        Like `finish`, for a run that has not ended, whatever its owner, or that has ended as `unknown`: its response
        and its callback are replaced, and the callback is due again with the next `revision`; without a new
        callback the earlier one stays. A run that is not durable loses its order and document. Returns False, and
        changes nothing, if the run has another end or does not exist.
        """

    async def cancel_queued(self, run_id: str, final_state: FinalState) -> CancelResult:
        """End a run in the phase QUEUED as `finish` does, whatever its owner; change nothing in another phase.

        The owner's next `advance` returns False, so it cannot send a start.
        """

    async def discard_run(self, run_id: str, *, owner: str) -> None:
        """Delete an unfinished run of `owner` that was refused before its start, and its idempotency record."""

    async def get_run(self, run_id: str) -> StoredRun | None:
        """Return a run; None if it does not exist, or is not durable and its content is not kept."""

    async def get_overview(self, run_id: str) -> RunOverview | None:
        """Return a run without its order and document, which are not read; None if there is no such run."""

    async def get_document(self, run_id: str) -> bytes | None:
        """Return the document of a run; None if the run has not ended or does not exist."""

    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        """List runs by creation time and id, in descending order. Orders, documents and timelines are not read.

        At most `max_examined` runs are examined; those that an index leaves out are not.
        """

    async def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        """Return the record of a key, or None."""

    async def renew_leases(self, owner: str, until_at: float) -> None:
        """Set the end of the leases of all unfinished runs of `owner`; a time in the past releases them."""

    async def adopt(
        self, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int = 0
    ) -> list[StoredRun]:
        """Take over unfinished runs of other owners whose lease has expired, oldest first. One caller gets each run.

        A call that raises may still have adopted runs. The next call with the same `batch_id`, a number above 0 that
        the owner uses for one batch only, returns those first.
        """

    async def take_due_callbacks(
        self, *, now_at: float, until_at: float, limit: int, latest_at: float = inf
    ) -> list[Delivery]:
        """Take due callbacks, longest due first; each is due again at `until_at` unless settled or postponed.

        Their bodies are not read. A callback that was added, taken or made due later than at `latest_at`, which is
        after `now_at`, is due: the clock was set back since.
        """

    async def load_callback(self, delivery: Delivery, *, until_at: float) -> bytes | None:
        """Return the body of a callback that was taken, and make it due again at `until_at`.

        Returns None, and changes nothing, if it was settled, postponed, revised or taken again meanwhile.
        """

    async def settle_callback(self, run_id: str, state: str, *, revision: int = 0, events: bytes = b"") -> None:
        """Set the final `state` of a callback, delivered or abandoned, and add `events` to the timeline of its run.

        A settled callback, or one of another revision, is not changed.
        """

    async def postpone_callback(self, run_id: str, *, due_at: float, revision: int = 0, events: bytes = b"") -> None:
        """Count a failed attempt, set the next due time, and add `events` to the timeline of its run.

        Raises KeyError if none of this revision is PENDING.
        """

    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        """Make a callback due now with 0 attempts, whatever its state. Returns False if the run has none."""

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """List the ids of runs with this `callback_state` in ascending order, starting after the id `after`."""

    async def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        """Delete durable runs that ended, and keys created, before these times; returns the number deleted.

        Runs with a PENDING callback are kept. Works in batches, so that other operations do not wait for long.
        """

    async def mark_collected(self, run_id: str) -> bool:
        """Mark the result of a run as collected. Returns False if it was marked before, or the run does not exist.

        A store that is not shared keeps the mark as long as the process, or not at all: then it returns True.
        """

    async def get_or_create_secret(self, name: str, default: bytes) -> bytes:
        """Return the secret of this name, shared by all replicas; stores `default` if there is none."""

    async def notify(self, name: str) -> None:
        """Wake the callers of `wait_for_change` for this name in all processes. Nothing is stored."""

    def recently_notified(self, name: str) -> bool:
        """Return True if this process was notified of `name` in the last second: a run id, or a notification's name."""

    def recent_suffix(self, prefix: str) -> str | None:
        """Return the rest of the latest name with this prefix of which this process was notified in the last second."""

    async def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> None:
        """Return when one of these runs may have changed, or after `seconds`; spurious wake-ups are allowed.

        Reading a run and then waiting for it is safe: a change in between is noticed within a second.
        """
