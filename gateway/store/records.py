"""Records of a store: runs, idempotency records and callbacks. Times named `…_at` are seconds since 1970 (UTC)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields

from gateway.store.run_filter import Position
from gateway.store.usage import RunUsage

PENDING = "pending"
"""The `callback_state` of a run whose callback is not delivered yet."""


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

    The callback is due at `callback_due_at`, or at once. `events` are added to the run's timeline. `usage` is counted
    with the end, in place of that of an earlier end; None: nothing is.
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
    usage: RunUsage | None = None

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
