"""What a client is told while the store can not be reached."""

from __future__ import annotations

from gateway.errors import AcceptanceUnknown, StoreError
from gateway.runs.model import RunRecord
from gateway.store.contract import IdempotencyKey

_ACCEPTANCE_UNKNOWN = "The store can not be reached; whether it has this run, and it will be started, is not known."


def store_unavailable() -> StoreError:
    """Say that nothing was run."""
    return StoreError(retry_after=1)


def acceptance_unknown(run: RunRecord, key: IdempotencyKey | None) -> AcceptanceUnknown:
    """Say that a run may have been kept, whose client does not wait.

    It is dropped as soon as the store can; but where that takes longer than the lease, another replica may start it. (A
    run whose client waited is forgotten by whoever finds it.) To ask again with the same key costs nothing.
    """
    return AcceptanceUnknown(_ACCEPTANCE_UNKNOWN, run_id=run.id, same_key_is_safe=key is not None)
