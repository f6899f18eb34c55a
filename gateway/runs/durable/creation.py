"""Creation of durable runs in the store: after it the run may be promised to its client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import StoreError
from gateway.runs.durable.acceptance import acceptance_unknown, earlier_run_unreadable, read_error
from gateway.runs.durable.pending_deletes import PendingDeletes
from gateway.runs.model import RunRecord
from gateway.store.contract import ContentUnreadable, Store, StoreUnavailable
from gateway.store.records import IdempotencyKey, IdempotencyRecord, StoredRun


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
        except ContentUnreadable:  # the record of a key that was used before
            raise earlier_run_unreadable(record.id) from None
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
        """Return the record of a key; None also if the store is unavailable.

        Raises StoreError if it cannot be decrypted.
        """
        try:
            return await self.store.get_idempotency_record(key.client, key.text)
        except ContentUnreadable as error:
            raise read_error(error, "") from None
        except StoreUnavailable:
            return None
