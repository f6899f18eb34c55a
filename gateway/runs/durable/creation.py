"""Creation of durable runs in the store: after it the run may be promised to its client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import AcceptanceUnknown, StoreError
from gateway.runs.durable.pending_deletes import PendingDeletes
from gateway.runs.model import RunRecord
from gateway.store.contract import IdempotencyKey, IdempotencyRecord, Store, StoredRun, StoreUnavailable

_ACCEPTANCE_UNKNOWN = "The store is unavailable: it is not known whether the run was stored and will be started."


class RunIdTaken(Exception):
    """The store has a run with this id."""


@dataclass(frozen=True, slots=True)
class RunCreator:
    """Creates runs in the store. `owns`: whether this process works on the run with an id."""

    store: Store
    pending_deletes: PendingDeletes
    owns: Callable[[str], bool]

    async def create(
        self, record: RunRecord, stored: StoredRun, key: IdempotencyKey | None
    ) -> IdempotencyRecord | None:
        """Create the run in the store, or return the record of a key that was used before."""
        if self.pending_deletes.is_pending(record.id):
            raise acceptance_unknown(record, key)
        try:
            existing = await self.store.create_run(stored, key, record.spec.tags)
        except StoreUnavailable:
            if not self.owns(record.id):  # else a concurrent request for the same id was accepted
                self.pending_deletes.delete_later(record.id)  # the store may have it
            raise (StoreError(retry_after=1) if record.spec.synchronous else acceptance_unknown(record, key)) from None
        except ValueError as error:
            raise RunIdTaken(record.id) from error
        if self.pending_deletes.is_pending(existing.run_id if existing else record.id):
            # The first request was refused: its run is about to be deleted and cannot be promised now.
            raise acceptance_unknown(record, key)
        return existing

    async def find_key(self, key: IdempotencyKey) -> IdempotencyRecord | None:
        """Return the record of a key; None also if the store is unavailable."""
        try:
            return await self.store.get_idempotency_record(key.client, key.text)
        except StoreUnavailable:
            return None


def acceptance_unknown(record: RunRecord, key: IdempotencyKey | None) -> AcceptanceUnknown:
    """Return the error of a run that the store may have and whose client does not wait.

    The run is deleted as soon as the store is available; if that takes longer than the lease, another replica may start
    it. (A synchronous run would be discarded by that replica.)
    """
    return AcceptanceUnknown(_ACCEPTANCE_UNKNOWN, run_id=record.id, same_key_is_safe=key is not None)
