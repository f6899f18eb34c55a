"""Errors of requests for which it is not known whether their run was stored, or what became of an earlier one."""

from __future__ import annotations

from gateway.errors import AcceptanceUnknown, StoreError
from gateway.runs.model import RunRecord
from gateway.store.contract import ContentUnreadable, StoreUnavailable
from gateway.store.records import IdempotencyKey

_ACCEPTANCE_UNKNOWN = "The store is unavailable: it is not known whether the run was stored and will be started."
_EARLIER_RUN_UNREADABLE = (
    "The run of an earlier request with this key or name is stored, but its content cannot be decrypted with the keys "
    "that are configured."
)


def acceptance_unknown(record: RunRecord, key: IdempotencyKey | None) -> AcceptanceUnknown:
    """Return the error of a run that the store may have and whose client does not wait.

    The run is deleted as soon as the store is available; if that takes longer than the lease, another replica may start
    it. (A synchronous run would be discarded by that replica.)
    """
    return AcceptanceUnknown(_ACCEPTANCE_UNKNOWN, run_id=record.id, same_key_is_safe=key is not None)


def earlier_run_unreadable(run_id: str) -> AcceptanceUnknown:
    """Return the error of a repeated request: the earlier run may have been executed, and no second one is started."""
    return AcceptanceUnknown(_EARLIER_RUN_UNREADABLE, run_id=run_id, same_key_is_safe=True)


def read_error(error: StoreUnavailable, run_id: str) -> StoreError:
    """Return the error of a request whose earlier run cannot be read."""
    return earlier_run_unreadable(run_id) if isinstance(error, ContentUnreadable) else StoreError(retry_after=1)
