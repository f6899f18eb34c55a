"""What a store keeps, and the only ways in which it changes. One contract suite runs against every store.

Every method is one transaction: after a crash it has happened whole or not at all, and what it returned from has
happened. A method that can not keep that promise (disk full, server gone, too slow) raises `StoreUnavailable`, and then
nothing may be concluded about whether it happened. The same holds for a call that was cancelled.

Times named `…_at` are seconds since 1970 (UTC), so that replicas and restarts can compare them.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

PENDING = "pending"
"""The `callback_state` of a run whose callback is still to be delivered."""


class StoreUnavailable(Exception):
    """The store could not do it, or could not say whether it did."""


class Phase(enum.IntEnum):
    """How far a run is, for those who find it after a crash. It only ever grows, but for `Store.unsent`."""

    QUEUED = 0  # nothing was sent: it may be started
    SENDING = 1  # a start is about to be sent, or was: it must not be started again
    FOLLOWING = 2  # the provider's own id is known: it can be asked about
    DONE = 3  # it has its final status


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run. `order` is the JSON with which it can be started, `document` what `GET /runs/{id}` shows once it is done.

    `status` is the client's word for it: queued, running, succeeded, failed, unknown, not_run. `owner` is the process
    that works on it until `leased_until_at`; no process has the name of one before it. `callback_state` is None where
    there is no callback yet, PENDING, or what `Store.delivered` was told.
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


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An Idempotency-Key: whose it is, its text, and the SHA-256 of the JSON value it was first used with."""

    client: str
    text: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An HTTP answer, to be given again byte for byte."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class IdempotencyRecord:
    """What a key was used for: its run, and the answer once there is one."""

    key: IdempotencyKey
    run_id: str
    created_at: float
    response: StoredResponse | None = None


@dataclass(frozen=True, slots=True)
class FinalState:
    """How a run ended, as `owner` knows it. `callback` is the body to deliver to the run's `callback_url`, if any.

    It is due at `callback_due_at`, or at once.
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

    @property
    def due_at(self) -> float:
        """When the callback is due."""
        return self.finished_at if self.callback_due_at is None else self.callback_due_at


@dataclass(frozen=True, slots=True)
class Delivery:
    """A callback that is due. `attempts` is how often it was postponed, `created_at` when its run ended."""

    run_id: str
    client: str
    url: str
    body: bytes
    created_at: float
    attempts: int


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which of a client's runs to list. `before` is the (created_at, id) of the last one seen: newest first."""

    client: str
    limit: int = 50
    status: str | None = None
    workflow: str | None = None
    before: tuple[float, str] | None = None


class Store(Protocol):
    """Where it is kept. Every method may raise `StoreUnavailable`, `open` also where the schema is newer than this."""

    @property
    def shared(self) -> bool:
        """Whether other processes see the same."""

    @property
    def durability_warning(self) -> str | None:
        """Why what it acknowledged could be lost though nothing is broken; None where it could not. Known once open."""

    @property
    def failing(self) -> bool:
        """Whether the last thing that was asked of it could not be done. It asks nobody."""

    async def open(self) -> None:
        """Connect, bring the schema to this version, and where it is not `shared`, end the leases of the dead."""

    async def close(self) -> None:
        """Finish what was begun, and disconnect."""

    async def ping(self) -> None:
        """Prove that it can read and write."""

    async def create_run(self, run: StoredRun, key: IdempotencyKey | None) -> IdempotencyRecord | None:
        """Keep a new run and its key's claim, or return the claim that there is. ValueError where the id is taken."""

    async def advance(self, run: StoredRun) -> bool:
        """Write a run's phase, status, attempts, provider and provider_run_id.

        False, and nothing is written, where it is further already, belongs to another owner by now, or is unknown:
        whoever is told so must not go on with it. Only `finish` makes it DONE.
        """

    async def revert_to_queued(self, run: StoredRun) -> bool:
        """Take a run from SENDING back to QUEUED, as the provider has definitely refused the start; all else stays.

        False, and nothing is written, where it is not SENDING, belongs to another owner by now, is unknown, or has
        another number of `attempts` than `run`: a word that was held up on its way must not take back a later start.
        """

    async def finish(self, run_id: str, finish: FinalState) -> bool:
        """End a run, answer its key, make its callback due.

        False, and nothing changes, where it has ended, belongs to another owner by now, or is unknown.
        """

    async def discard_run(self, run_id: str, *, owner: str) -> None:
        """Forget a run of `owner` that was refused before anything was sent, and its claim; one that ended stays."""

    async def get_run(self, run_id: str) -> StoredRun | None:
        """Read a run."""

    async def list_runs(self, run_filter: RunFilter) -> list[StoredRun]:
        """List a client's runs, newest first; where they are equally new, by id, the largest first."""

    async def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        """Read what a key was used for."""

    async def renew_leases(self, owner: str, until_at: float) -> None:
        """Let the lease of every unfinished run of `owner` end at `until_at`; a past time gives them back."""

    async def adopt(
        self, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int = 0
    ) -> list[StoredRun]:
        """Take over others' unfinished runs whose lease is over, oldest first: each goes to one caller only.

        A call that failed may have taken some nevertheless: the next one with the same `turn`, a number above 0 that
        its owner uses for no other, returns those first.
        """

    async def take_due_callbacks(self, *, now_at: float, until_at: float, limit: int) -> list[Delivery]:
        """Take callbacks that are due, longest due first; due again at `until_at` unless something is said of them."""

    async def settle_callback(self, run_id: str, state: str) -> None:
        """A callback was delivered, or given up: `state` says which. Where that was said before, nothing changes."""

    async def postpone_callback(self, run_id: str, *, due_at: float) -> None:
        """A callback failed: count the attempt; it is due again then. Raises KeyError where none is PENDING."""

    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        """Make a callback due now, whatever became of it, with no attempts counted; False where the run has none."""

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """List the ids of runs whose `callback_state` is `state`: of those that sort behind `after`, the first ones."""

    async def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        """Forget runs that ended, and keys that were claimed, before these times; returns how many went.

        Runs whose callback is PENDING stay. Many go in several transactions, so that nobody waits for long.
        """

    async def get_or_create_secret(self, name: str, default: bytes) -> bytes:
        """The secret that all who have this store share under this name; `fresh` is kept where there was none."""

    async def notify(self, name: str) -> None:
        """Wake who waits for this name in `wait`, in whatever process; it need be no run's, and nothing is kept."""

    def recently_notified(self, name: str) -> bool:
        """Whether this name was told within the last second, or its run changed, as far as this process has heard."""

    async def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> None:
        """Return when one of these runs may have changed, or the time is over; returning early is allowed.

        To read a run and then wait for it is safe: a change in between is noticed soon, if not at once.
        """
