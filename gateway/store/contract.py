"""Contract of a store: the records, and the transactions on them. One test suite runs against every implementation.

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

import enum
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import inf
from typing import Protocol

from gateway.store.announcements import AnnouncementStore
from gateway.store.bulk_replay import KeepsBulkReplays
from gateway.store.history import HistoryStore
from gateway.store.provider_override import ProviderOverrideStore
from gateway.store.run_filter import Position, RunFilter

PENDING = "pending"
"""The `callback_state` of a run whose callback is not delivered yet."""


class StoreUnavailable(Exception):
    """The store failed, or its effect is unknown. The text is a reason without stored values."""


class StoreReplaced(StoreUnavailable):
    """The data of the store were deleted or replaced since `open`: a new run could repeat one that was forgotten.

    The store stays unavailable until it is opened again, by a restart of the gateway.
    """


class ContentUnreadable(StoreUnavailable):
    """A payload cannot be decrypted: its key is not configured, or it was changed. The run itself is in the store."""


class Phase(enum.IntEnum):
    """Progress of a run, for recovery after a crash. It never decreases, except through `Store.revert_to_queued`."""

    QUEUED = 0  # no start was sent: the run may be started
    SENDING = 1  # a start is about to be sent, or was sent: the run must not be started again
    FOLLOWING = 2  # the provider's run id is known: the run can be polled
    DONE = 3  # the run has its final status


class CancelResult(enum.IntEnum):
    """What `Store.cancel_queued` found."""

    NOT_FOUND = 0  # there is no such run
    TOO_LATE = 1  # a start may have been sent, or the run has ended: nothing was changed
    ENDED = 2  # no start was sent, and none will be: the run has ended


@dataclass(slots=True)
class StoredRun:
    """A run. `order` is the JSON that starts it; `document` is the body of `GET /runs/{id}` once the run is done.

    `details` is a short JSON object for lists of runs; None if another version wrote the run. `durable`: False if the
    run is recorded in the history only, with order and document if they are kept. `activity`: a short JSON object, what
    an unfinished run is doing; `judgement`: a JSON object. The methods of `HistoryStore` write the last three.

    `status` is the public status: queued, running, succeeded, failed, unknown, not_run. `owner` is the process that
    holds the lease until `leased_until_at`; the name of an owner is never reused. `callback_state` is None if there is
    no callback yet, PENDING, or that of `Store.settle_callback`. Nothing changes a run in place: frozen, it costs more.
    """

    id: str
    client: str
    workflow: str
    provider: str
    order: bytes
    created_at: float
    deadline_at: float
    owner: str
    leased_until_at: float
    phase: Phase = Phase.QUEUED
    status: str = "queued"
    attempts: int = 0
    provider_run_id: str | None = None
    document: bytes | None = None
    finished_at: float | None = None
    callback_url: str | None = None
    callback_state: str | None = None
    details: bytes | None = None
    durable: bool = True
    activity: bytes | None = None
    judgement: bytes | None = None

    def with_progress(
        self, phase: Phase, *, status: str, provider: str, attempts: int, provider_run_id: str | None
    ) -> StoredRun:
        """Return the run with the fields that `Store.advance` changes; a fifth of the cost of `dataclasses.replace`."""
        return StoredRun(
            self.id,
            self.client,
            self.workflow,
            provider,
            self.order,
            self.created_at,
            self.deadline_at,
            self.owner,
            self.leased_until_at,
            phase,
            status,
            attempts,
            provider_run_id,
            self.document,
            self.finished_at,
            self.callback_url,
            self.callback_state,
            self.details,
        )

    @property
    def overview(self) -> RunOverview:
        """The run without its order and its document."""
        return RunOverview(*(getattr(self, name) for name in OVERVIEW_FIELDS))


@dataclass(slots=True)
class RunOverview:
    """The fields of a `StoredRun` that are small whatever the input and the output of the run."""

    id: str
    client: str
    workflow: str
    provider: str
    created_at: float
    phase: Phase
    status: str
    attempts: int
    provider_run_id: str | None
    finished_at: float | None
    callback_url: str | None
    callback_state: str | None
    details: bytes | None
    durable: bool = True
    activity: bytes | None = None
    judgement: bytes | None = None


OVERVIEW_FIELDS = tuple(field.name for field in fields(RunOverview))
"""Names of the fields of `RunOverview`, in their order."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An Idempotency-Key: its client, its text, and the SHA-256 of the JSON value of its first request."""

    client: str
    text: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An HTTP response, to be repeated byte for byte."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """The use of a key: its run, and the response once there is one."""

    key: IdempotencyKey
    run_id: str
    created_at: float
    response: StoredResponse | None = None


@dataclass(slots=True)
class FinalState:
    """The end of a run, as reported by `owner`. `callback` is the body for the run's `callback_url`, if any.

    The callback is due at `callback_due_at`, or at once. `events` are added to the run's timeline.
    """

    owner: str
    status: str
    document: bytes
    finished_at: float
    attempts: int
    provider_run_id: str | None = None
    response: StoredResponse | None = None
    callback: bytes | None = None
    callback_due_at: float | None = None
    details: bytes | None = None
    events: bytes = b""

    @property
    def due_at(self) -> float:
        """The time at which the callback is due."""
        return self.finished_at if self.callback_due_at is None else self.callback_due_at


@dataclass(frozen=True, slots=True)
class Delivery:
    """A due callback. `attempts`: the number of failed deliveries; `created_at`: the end of the run.

    `size`: bytes of its body, which `Store.load_callback` returns. `revision`: 0, or more if `Store.revise` has
    replaced the end of the run and its callback. `taken_until_at`: when it is due again.
    """

    run_id: str
    client: str
    url: str
    size: int
    created_at: float
    attempts: int
    revision: int = 0
    taken_until_at: float = 0.0


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs that were found.

    `stopped_at`: position of the last run examined, if the search stopped there before it had found `limit` runs.
    """

    runs: list[RunOverview]
    stopped_at: Position | None = None


class Store(HistoryStore, ProviderOverrideStore, KeepsBulkReplays, Protocol):
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

    async def create_run(
        self, run: StoredRun, key: IdempotencyKey | None, tags: Sequence[str] = ()
    ) -> IdempotencyRecord | None:
        """Store a new run and its idempotency record, or return the existing record of the key.

        `list_runs` finds the run by its `tags`, which are distinct and have no spaces. ValueError if a run has this id.
        """

    async def advance(self, run: StoredRun, events: bytes = b"") -> bool:
        """Write a run's phase, status, attempts, provider and provider_run_id, and add `events` to its timeline.

        Returns False, and writes nothing, if the stored phase is later, the run belongs to another owner, or it does
        not exist: the caller must stop working on the run. It never sets the phase DONE.
        """

    async def revert_to_queued(self, run: StoredRun) -> bool:
        """Set a run from SENDING back to QUEUED, because the provider has definitely refused the start.

        Returns False, and writes nothing, if the run is not SENDING, belongs to another owner, does not exist, or has
        another number of `attempts` than `run`: a delayed call must not revert a later start.
        """

    async def finish(self, run_id: str, final_state: FinalState) -> bool:
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

    async def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> None:
        """Return when one of these runs may have changed, or after `seconds`; spurious wake-ups are allowed.

        Reading a run and then waiting for it is safe: a change in between is noticed within a second.
        """
